"""A request that is turned down, before anybody knows in which words it is answered."""

from __future__ import annotations


class Refused(Exception):
    """An HTTP status, a name for programs, a sentence for people, and headers that go with it.

    It never leaves the room: `answers.py` makes an answer of it.
    """

    def __init__(
        self, status: int, name: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        self.headers = headers or {}
