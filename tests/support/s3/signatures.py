"""Checks who signed a request, from Amazon's description of it rather than with the code that is tested.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from hashlib import sha256
from urllib.parse import urlsplit

from tests.support.fake_s3 import Request
from tests.support.s3.bucket import Refusal

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=([^/]*)/((\d{{8}})/([^/]*)/s3/aws4_request), ?"
    r"SignedHeaders=([^,]*), ?Signature=([0-9a-f]{64})$"
)


def check_signature(request: Request, path: str, access: str, secret: str) -> None:
    """Raise the refusal of a request that is not signed with this key; `path` is what was asked for."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    match = _AUTHORIZATION.match(headers.get("authorization", ""))
    if match is None:
        raise Refusal(403, "AccessDenied", "Access Denied")
    named, scope, day, region, signed, signature = match.groups()
    if named != access:
        raise Refusal(403, "InvalidAccessKeyId", "The access key is not known.")
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed.split(";")]
    digest = headers["x-amz-content-sha256"]
    canonical = "\n".join(
        [request.method, path, _query(request.target), *lines, "", signed, digest]
    )
    hashed = sha256(canonical.encode("latin-1")).hexdigest()
    text = "\n".join([_ALGORITHM, headers["x-amz-date"], scope, hashed])
    if hmac.digest(_key(secret, day, region), text.encode(), "sha256").hex() != signature:
        raise Refusal(403, "SignatureDoesNotMatch", "The signature does not match.")


def _query(target: str) -> str:
    pairs = [pair.partition("=") for pair in urlsplit(target).query.split("&") if pair]
    return "&".join(f"{name}={value}" for name, _, value in sorted(pairs))


@lru_cache
def _key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
