"""What a server was found to do, as opposed to what it accepts without a word."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from craftsync.stores.base import Features


@dataclass(frozen=True, slots=True)
class Checks:
    """Which conditions the server is known to check for one kind of write."""

    create: bool
    replace: bool


@dataclass(frozen=True, slots=True)
class ProbedFacts:
    """Facts about one bucket on one server. Without any, the most careful way is taken.

    They hold until the server changes; whoever keeps them should have the
    store probed anew now and then, and whenever the endpoint is another.
    """

    conditional_create: bool = False
    conditional_replace: bool = False
    conditional_delete: bool = False
    conditional_complete_create: bool = False
    """As `conditional_create`, for an upload in parts."""
    conditional_complete_replace: bool = False
    conditional_copy: bool = False
    """A copy that expects nothing in its place fails when something is there."""
    server_side_copy: bool = False
    md5_versions: bool = False
    metadata: bool = False
    ranges: bool = True
    keeps_versions: bool = False
    sorted_listing: bool = True
    folders: bool = False

    def features(self) -> Features:
        """Return the part of the facts that every store states."""
        shared = {field.name for field in fields(Features)} & {field.name for field in fields(self)}
        return Features(**{name: getattr(self, name) for name in shared})

    def put_checks(self) -> Checks:
        return Checks(self.conditional_create, self.conditional_replace)

    def completion_checks(self) -> Checks:
        return Checks(self.conditional_complete_create, self.conditional_complete_replace)

    def copy_checks(self) -> Checks:
        return Checks(self.conditional_copy, replace=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProbedFacts | None:
        """Read what `to_json` wrote; `None` for the facts of another version of craftsync."""
        try:
            stored = json.loads(text)
        except ValueError:
            return None
        known = {field.name for field in fields(cls)}
        if not isinstance(stored, dict) or stored.keys() != known:
            return None
        return cls(**{name: bool(value) for name, value in stored.items()})
