"""What is known of a server: which conditions it checks, and what it does with objects.

`probe` finds it out. What is not known is the most careful there is.
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
    """Which conditions the server is known to check for one kind of write, and how it takes a version."""

    create: bool
    replace: bool
    form: Form = Form.QUOTED

    def matching(self, version: str | None) -> Condition:
        """Return the condition that an object of this version is in place, if the server checks that."""
        return self.form.of(version) if self.replace else None


@dataclass(frozen=True, slots=True)
class ProbedFacts:
    """Facts about one bucket on one server; the defaults are the most careful ones.

    A condition counts as checked only if the wrong one is refused and the right
    one accepted. Probe again now and then, and when the endpoint changes.
    """

    conditional_create: bool = False
    conditional_replace: bool = False
    conditional_delete: bool = False
    conditional_complete_create: bool = False
    """As `conditional_create`, for an upload in parts."""
    conditional_complete_replace: bool = False
    conditional_copy: bool = False
    """A copy that expects nothing in its place fails when something is there."""
    conditional_source: bool = False
    """A copy fails when its source is of another version."""
    replace_form: Form = Form.QUOTED
    complete_form: Form = Form.QUOTED
    delete_form: Form = Form.QUOTED
    source_form: Form = Form.QUOTED
    """For the source of a copy; unlike the ones above it is used unprobed as well."""
    read_form: Form = Form.QUOTED
    server_side_copy: bool = False
    versions: bool = True
    """Without it no answer has an ETag: what was written is proven by a stat."""
    md5_versions: bool = False
    completed_versions: bool = False
    """The version that a completed upload is answered with is the one its object then has."""
    part_digests: Digests = Digests.BOTH
    metadata: bool = False
    ranges: bool = True
    keeps_versions: bool = False
    sorted_listing: bool = True
    folders: bool = False
    hides_below: bool = False
    """It takes an object below another one, and lists it no more (old versions of MinIO)."""

    def features(self) -> Features:
        """Return the part of the facts that every store states."""
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
        """Read what `to_json` wrote; `None` for the facts of another version of craftsync."""
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
"""The facts that are more than yes or no."""

_ADDED = {"completed_versions"}
"""What earlier versions did not try out: the most careful is taken until it is."""
