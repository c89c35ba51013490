"""Checks who signed a request, with botocore's code rather than with that which is tested."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.fake_s3 import Request
from tests.support.s3.bucket import Refusal

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]*)/(\d{8})/([^/]*)/s3/aws4_request, ?"
    r"SignedHeaders=([^,]*), ?Signature=([0-9a-f]{64})$"
)


def check_signature(request: Request, path: str, access: str, secret: str) -> None:
    """Raise the refusal of a request that is not signed with this key; `path` is what was asked for."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    match = _AUTHORIZATION.match(headers.get("authorization", ""))
    if match is None:
        raise Refusal(403, "AccessDenied", "Access Denied")
    named, _, region, signed, signature = match.groups()
    if named != access:
        raise Refusal(403, "InvalidAccessKeyId", "The access key is not known.")
    chosen = {name: headers.get(name, "") for name in signed.split(";")}
    query = urlsplit(request.target).query
    url = f"http://{headers['host']}{path}" + (f"?{query}" if query else "")
    asked = AWSRequest(request.method, url, headers=chosen)
    asked.context["timestamp"] = headers["x-amz-date"]
    auth = S3SigV4Auth(Credentials(access, secret), "s3", region)
    text = auth.string_to_sign(asked, auth.canonical_request(asked))
    if auth.signature(text, asked) != signature:
        raise Refusal(403, "SignatureDoesNotMatch", "The signature does not match.")
