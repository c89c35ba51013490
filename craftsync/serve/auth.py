"""Authorization: SDK tokens, access tokens, and signed URLs.

A signed URL or form permits one method on one path (or part) for a limited time,
as S3's presigned URLs do.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from functools import lru_cache
from secrets import token_bytes

import jwt

from craftsync.clock import Clock
from craftsync.serve.errors import Refused

_ALGORITHM = "HS256"


class Tokens:
    """One SDK token, and access tokens with a limited lifetime. Thread-safe.

    Access tokens are JWTs with `iat` and `exp`, from which the SDK computes the
    lifetime. They are signed with a secret of this process, so a restart
    invalidates them.
    """

    def __init__(self, sdk_token: str, *, clock: Clock, lifetime_seconds: float) -> None:
        self._sdk_token = sdk_token.encode()
        self._clock = clock
        self._lifetime_seconds = lifetime_seconds
        self._secret = token_bytes(32)
        # Decoding takes a sixth of the time of a small request.
        self._end_of = lru_cache(maxsize=256)(self._decoded_end)

    def refresh(self, sdk_token: object) -> str:
        """Return a new access token; raises `Refused` (401) for any other SDK token."""
        given = sdk_token.encode(errors="replace") if isinstance(sdk_token, str) else b""
        if not hmac.compare_digest(given, self._sdk_token):
            raise _unauthorized("The SDK token is not that of this server.")
        now = self._clock.now_ns() / 1e9
        claims = {"iat": now, "exp": now + self._lifetime_seconds}
        return jwt.encode(claims, self._secret, _ALGORITHM)

    def check(self, authorization: str) -> None:
        """Raise `Refused` (401) unless the Authorization header carries a valid access token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthorized("The request carries no access token.")
        if self._end_of(token) <= self._clock.now_ns() / 1e9:
            raise _unauthorized("The access token has expired.")

    def _decoded_end(self, token: str) -> float:
        """Return when an access token expires, in seconds since the epoch."""
        try:
            # The times are checked with our own clock, not PyJWT's.
            claims = jwt.decode(
                token, self._secret, [_ALGORITHM], {"verify_exp": False, "verify_iat": False}
            )
        except jwt.InvalidTokenError as error:
            raise _unauthorized("The access token was not issued by this server.") from error
        return float(claims["exp"])


def _unauthorized(message: str) -> Refused:
    return Refused(401, "Unauthorized", message, {"www-authenticate": "Bearer"})


class Signer:
    """Grants and checks permissions; a restart of the server invalidates them."""

    def __init__(self, *, clock: Clock, lifetime_seconds: float) -> None:
        self._clock = clock
        self._lifetime_seconds = lifetime_seconds
        self._secret = token_bytes(32)

    def grant(self, method: str, path: str, *, upload: str = "", part: int = 0) -> dict[str, str]:
        """Return the signed fields; `upload` and `part` are for a part of a multipart upload."""
        fields = {"upload": upload, "part": str(part)} if upload else {}
        fields["expires"] = str(int(self._clock.now_ns() / 1e9 + self._lifetime_seconds))
        return {**fields, "signature": self._signature(method, path, fields)}

    def check(self, method: str, path: str, fields: Mapping[str, str]) -> None:
        """Raise `Refused` (403) unless the fields permit this; other fields are ignored."""
        signature = self._signature(method, path, fields).encode()
        if not hmac.compare_digest(fields.get("signature", "").encode(errors="replace"), signature):
            raise Refused(
                403,
                "SignatureDoesNotMatch",
                "The URL was not signed for this request by this server.",
            )
        if int(fields["expires"]) <= self._clock.now_ns() / 1e9:
            raise Refused(403, "AccessDenied", "Request has expired")

    def _signature(self, method: str, path: str, fields: Mapping[str, str]) -> str:
        signed = [method, path, *(fields.get(name) for name in ("upload", "part", "expires"))]
        return hmac.digest(self._secret, json.dumps(signed).encode(), "sha256").hex()
