"""Fixtures of the unit tests."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from craftsync.local import linux


@pytest.fixture(params=["new", "old"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The real kernel, and one without openat2 and unnamed files."""
    if request.param == "old":
        real = linux.open

        def refuse(*_: object) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        def without_unnamed(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real(path, flags, *rest, **named)

        monkeypatch.setattr(linux, "open_beneath", refuse)
        monkeypatch.setattr(linux, "open", without_unnamed)
    return str(request.param)
