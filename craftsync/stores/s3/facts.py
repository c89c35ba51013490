"""What a server was found to do, as opposed to what it accepts without a word."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from craftsync.stores.base import Features
from craftsync.stores.s3.objects import Condition


class Form(StrEnum):
    """How a server takes a version in a condition, found by trying the right one."""

    QUOTED = "quoted"
    """As RFC 9110 writes an ETag."""
    PLAIN = "plain"
    """Without the quotes; Ceph 16 compares them too, so that no quoted version is ever the right one."""
    NONE = "none"
    """Neither way: the right version is refused as well, so none may be sent."""

    def of(self, version: str | None) -> str | None:
        """Return a version as this server takes it; `None` where nothing is to be sent."""
        if not version or self is Form.NONE:
            return None
        return f'"{version}"' if self is Form.QUOTED else version


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
    """Facts about one bucket on one server. Without any, the most careful way is taken.

    A condition counts as checked only where the wrong one is refused and the
    right one accepted. Facts hold until the server changes; whoever keeps them
    should have the store probed anew now and then, and whenever the endpoint
    is another.
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
            if not isinstance(stored, dict) or stored.keys() != {f.name for f in fields(cls)}:
                return None
            values: dict[str, Any] = {
                name: Form(value) if name.endswith("_form") else bool(value)
                for name, value in stored.items()
            }
        except ValueError:
            return None
        return cls(**values)
