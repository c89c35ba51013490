"""Knows by a clock that never jumps how long each version has been in a trash, and who put it there."""

from __future__ import annotations

from craftsync.clock import Clock

_TRASH = ".craftsync/trash/"
_UNNOTICED = 3_600.0
"""Seconds by which the wall clock may jump without anybody noticing."""


class TrashWatch:
    """Says whether a version may be gone: its client has kept it for as long as it was told to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[tuple[str, str], tuple[float, str, bytes]] = {}
        """By side and path: when it came, by whom, and what it is."""
        self._client = ""
        self._keep: float | None = None

    def begin(
        self, client: str, keep: float | None, files: dict[str, bytes], there: dict[str, bytes]
    ) -> None:
        """Hear that a client begins a run."""
        self._client, self._keep = client, keep
        self.look(files, there)

    def look(self, files: dict[str, bytes], there: dict[str, bytes]) -> None:
        """Take in what the trashes of the folder of that client, and of the store, hold now."""
        for side, shown in ((self._client, files), ("store", there)):
            for path, content in shown.items():
                if not path.startswith(_TRASH):
                    continue
                known = self._since.get((side, path))
                if known is None or known[2] != content:
                    self._since[side, path] = self._clock.boottime(), self._client, content
            gone = [key for key in self._since if key[0] == side and key[1] not in shown]
            for key in gone:
                del self._since[key]

    def has_ended(self, content: bytes) -> bool:
        """Tell whether the retention of all versions with this content has ended, as far as this client may judge."""
        held = [one for one in self._since.values() if one[2] == content]
        return bool(held) and all(
            by == self._client
            and self._keep is not None
            and self._clock.boottime() - since >= self._keep - _UNNOTICED
            for since, by, _ in held
        )
