"""AWS Signature Version 4 for requests with headers: pure, and nothing else.

botocore has a signer too, but importing it costs five times what signing a
thousand requests here does, and every command that lists a bucket would pay
for it. A test holds this one to botocore's, request by request. The algorithm:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote

Query = Iterable[tuple[str, str]]


class Keys(NamedTuple):
    """An access key with its secret, and the token that goes with temporary ones."""

    access: str
    secret: str
    token: str | None = None


class Request(NamedTuple):
    """What is signed. `path` is percent-encoded already; `headers` have lower-case names and include `host`."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body_digest: str


def encoded_path(path: str) -> str:
    """Percent-encode a path the way S3 wants it: everything but letters, digits and `-._~/`."""
    return quote(path, safe="/")


def encoded_query(query: Query) -> str:
    """Encode and sort a query string into its canonical form."""
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(request: Request, keys: Keys, region: str, now: datetime) -> dict[str, str]:
    """Return the request's headers, completed by those that prove who asks; `now` is in UTC."""
    stamp = _stamp(now)
    headers = {**request.headers, "x-amz-date": stamp, "x-amz-content-sha256": request.body_digest}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = sorted(headers)
    signed = ";".join(names)
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    # What is no ASCII goes out as http.client encodes it, and so is what the server will see.
    lines = "".join([f"{name}:{' '.join(headers[name].split())}\n" for name in names])
    canonical = f"{request.method}\n{request.path}\n{request.query}\n{lines}\n{signed}\n{request.body_digest}"
    digest = sha256(canonical.encode("latin-1")).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = _signing_key(keys.secret, stamp[:8], region)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, "
        f"SignedHeaders={signed}, Signature={signature}"
    )
    return headers


@lru_cache(maxsize=8)
def _stamp(now: datetime) -> str:
    return now.strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
