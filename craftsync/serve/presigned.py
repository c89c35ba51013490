"""Permissions that travel in a URL or a form: for one method, one path, one part, and for a time.

Whoever holds one needs no token, as with S3's presigned URLs.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from secrets import token_bytes

from craftsync.clock import Clock
from craftsync.serve.refused import Refused


class Signer:
    """Grants and checks permissions; those of an earlier run are refused."""

    def __init__(self, *, clock: Clock, lifetime_seconds: float) -> None:
        self._clock = clock
        self._lifetime_seconds = lifetime_seconds
        self._secret = token_bytes(32)

    def grant(self, method: str, path: str, *, upload: str = "", part: int = 0) -> dict[str, str]:
        """Return the fields that carry the permission; `upload` and `part` are for a part of an upload."""
        fields = {"upload": upload, "part": str(part)} if upload else {}
        fields["expires"] = str(int(self._clock.now_ns() / 1e9 + self._lifetime_seconds))
        return {**fields, "signature": self._signature(method, path, fields)}

    def check(self, method: str, path: str, fields: Mapping[str, str]) -> None:
        """Raise `Refused` (403) unless the fields permit this; other fields are none of its business."""
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
