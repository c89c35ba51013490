"""The first line of a saved plan: which pair it is about, and under which policy it was made.

The steps below it are the engine's own. With this line `apply` needs nothing
but the file, from whatever folder and with whatever configuration it is run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from craftsync.core.model import Compare, Mode, OnConflict, Policy
from craftsync.errors import UsageError
from craftsync.locations import DirectoryLocation, Location, S3Access, S3Location
from craftsync.pairs import Pair
from craftsync.sync.report import Options

VERSION = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What `apply` has to know before it reads the first step."""

    pair: Pair
    policy: Policy
    include: tuple[str, ...]
    exclude: tuple[str, ...]


def header_line(pair: Pair, options: Options) -> str:
    """Return the line for a plan of this pair, made with these options."""
    policy = options.policy
    content = {
        "type": "plan",
        "version": VERSION,
        "root": str(pair.root),
        "store": _address(pair.location),
        "mode": policy.mode,
        "delete": policy.delete,
        "compare": policy.compare,
        "conflict": policy.conflict,
        "include": options.include,
        "exclude": options.exclude,
    }
    return json.dumps(content)


def read_header(line: str, file: str) -> Header:
    """Return what the first line of `file` says; raises `UsageError` when it is no plan of this version."""
    try:
        content = json.loads(line)
        if content["type"] != "plan" or content["version"] != VERSION:
            raise ValueError("another version")
        return Header(
            pair=Pair(Path(content["root"]), _location(content["store"])),
            policy=Policy(
                Mode(content["mode"]),
                bool(content["delete"]),
                Compare(content["compare"]),
                OnConflict(content["conflict"]),
            ),
            include=tuple(content["include"]),
            exclude=tuple(content["exclude"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is not a plan this version of craftsync can read.",
            remedy="Make one with `craftsync plan … -o FILE`.",
        ) from error


def _address(location: Location) -> dict[str, str | None]:
    if isinstance(location, DirectoryLocation):
        return {"path": str(location.path)}
    access = location.access
    return {
        "bucket": location.bucket,
        "prefix": location.prefix,
        "profile": access.profile,
        "region": access.region,
        "endpoint_url": access.endpoint_url,
    }


def _location(address: dict[str, str]) -> Location:
    if "path" in address:
        return DirectoryLocation(Path(address["path"]))
    access = S3Access(address["profile"], address["region"], address["endpoint_url"])
    return S3Location(address["bucket"], address["prefix"], access)
