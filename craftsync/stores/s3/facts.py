"""Facts about a server: which conditions it checks, and how it stores and lists objects.

`probe` finds them and the state saves them. An unknown fact has its most careful value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from craftsync.stores.base import Features
from craftsync.stores.s3.objects import Condition, Digests, Form


@dataclass(frozen=True, slots=True)
class Checks:
    """Which conditions the server checks for one kind of write, and in which form it takes a version."""

    create: bool
    replace: bool
    form: Form = Form.QUOTED

    def matching(self, version: str | None) -> Condition:
        """Return the condition that the object has this version, or `None` if the server does not check it."""
        return self.form.of(version) if self.replace else None


@dataclass(frozen=True, slots=True)
class ProbedFacts:
    """Facts about one bucket on one server. The defaults are the most careful ones.

    A condition counts as checked only if the server refuses a wrong one and accepts a right one.
    Probe again from time to time, and when the endpoint changes.
    """

    conditional_create: bool = False
    conditional_replace: bool = False
    conditional_delete: bool = False
    conditional_complete_create: bool = False
    """As `conditional_create`, for the completion of a multipart upload."""
    conditional_complete_replace: bool = False
    conditional_copy: bool = False
    """A copy that expects no object at its target fails if one exists."""
    conditional_source: bool = False
    """A copy fails if its source has another version."""
    replace_form: Form = Form.QUOTED
    complete_form: Form = Form.QUOTED
    delete_form: Form = Form.QUOTED
    source_form: Form = Form.QUOTED
    """For the source of a copy. Unlike those above, it is used even if it was not probed."""
    read_form: Form = Form.QUOTED
    server_side_copy: bool = False
    versions: bool = True
    """If false, no response has an ETag, and a stat proves each write."""
    md5_versions: bool = False
    completed_versions: bool = False
    """The response to the completion of an upload has the version that the object then has."""
    part_digests: Digests = Digests.BOTH
    metadata: bool = False
    ranges: bool = True
    keeps_versions: bool = False
    sorted_listing: bool = True
    folders: bool = False
    hides_below: bool = False
    """It accepts an object below another one, and then lists only one of them (old versions of MinIO)."""

    def features(self) -> Features:
        """Return those of the facts that are `Features` of every store."""
        shared = {field.name for field in fields(Features)} & {field.name for field in fields(self)}
        return Features(**{name: getattr(self, name) for name in shared})

    def put_checks(self) -> Checks:
        return Checks(self.conditional_create, self.conditional_replace, self.replace_form)

    def completion_checks(self) -> Checks:
        return Checks(
            self.conditional_complete_create, self.conditional_complete_replace, self.complete_form
        )

    def delete_checks(self) -> Checks:
        return Checks(create=False, replace=self.conditional_delete, form=self.delete_form)

    def copy_checks(self) -> Checks:
        return Checks(self.conditional_copy, replace=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProbedFacts | None:
        """Read facts that `to_json` wrote. Returns `None` for those of another version of craftsync."""
        try:
            stored = json.loads(text)
            names = {field.name for field in fields(cls)}
            if not isinstance(stored, dict) or stored.keys() | _ADDED != names:
                return None
            values: dict[str, Any] = {
                name: _WORDS[name](value) if name in _WORDS else bool(value)
                for name, value in stored.items()
            }
        except ValueError:
            return None
        return cls(**values)


_WORDS: Mapping[str, type[StrEnum]] = {
    "part_digests": Digests,
    **{field.name: Form for field in fields(ProbedFacts) if field.name.endswith("_form")},
}
"""The facts that are not just true or false."""

_ADDED = {"completed_versions"}
"""Facts that earlier versions did not probe. Until the next probe they keep their careful value."""
