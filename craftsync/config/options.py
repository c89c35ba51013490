"""The table of options.

The flags of the command line, the `CRAFTSYNC_*` variables, the keywords of the
Python functions, the keys of the configuration file, their defaults and their
documentation (`--help`, config.example.yaml, docs/configuration.md) are all
generated from these rows. An option of a single command, such as
`history --limit`, is declared with that command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any, NamedTuple, TypedDict, TypeVar

from craftsync.config.parsers import (
    BadWord,
    Rates,
    argv,
    boolean,
    choice_of,
    parse_address,
    parse_bwlimit,
    parse_content_type,
    parse_keep,
    parse_max_delete,
    parse_max_size,
    parse_reserve,
    parse_scrub,
    parse_seconds,
    parse_sse,
    parse_storage_class,
    parse_transfers,
    parse_windows,
    path,
    patterns,
    text,
    url,
    user_path,
)
from craftsync.config.secrets import TOKEN_ENV
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Mode, OnConflict
from craftsync.core.retention import StoreTrash
from craftsync.core.timetable import Timetable, Windows
from craftsync.errors import UsageError, nearest

T = TypeVar("T")


class Transport(StrEnum):
    """Whether craftsync uses the platform's API directly or calls the functions of its SDK."""

    API = "api"
    SDK = "sdk"


class Links(StrEnum):
    """How symbolic links in the folder are treated."""

    SKIP = "skip"
    FOLLOW = "follow"


class Option(NamedTuple):
    """One option. `name` is its keyword in Python and its key in the file."""

    name: str
    help: str
    """A sentence for the help of a command."""
    parse: Callable[[Any], Any] | None = None
    """Parses a word, or raises `BadWord`; `None` if any word is valid, for a flag without a value, and for
    a section, which `config.file` reads."""
    section: str | None = None
    """Its section of the file: "" for the top level, else `folder`, `trash` or a kind of store."""
    example: str = ""
    """Its value in config.example.yaml."""
    required: bool = False
    """Whether its section of the file must contain it."""
    default: str = ""
    """The default as a user would write it; empty for none."""
    more: str = ""
    """Details that only the documentation contains."""
    group: str | None = None
    """The group of flags it belongs to; `None` if it is not a flag."""
    value: str = ""
    """The placeholder for its value in the help; empty for a flag without a value."""
    spellings: tuple[str, ...] = ()
    """Other spellings of the flag; one with --no- turns it off."""
    many: bool = False
    """Whether the flag can be given several times."""

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        return f"CRAFTSYNC_{self.name.upper()}"


# fmt: off
OPTIONS: tuple[Option, ...] = (
    # Where things are.
    Option("config", "The configuration file.", group="global", value="FILE"),
    Option("state_dir", "The folder of the state databases.", group="global", value="DIR"),
    Option("folder", "The name of a linked folder in the configuration.", group="path", value="NAME"),
    Option("root", "A local folder; requires --store.", group="path", value="ROOT"),
    Option("store", "Its store; requires --root.", group="path", value="STORE"),

    # Stores.
    Option("path", "The folder to use as a store.", path, section="directory", required=True,
           example="~/archive", more="The first push creates it."),
    Option("bucket", "The bucket.", text, section="s3", required=True, example="my-bucket"),
    Option("prefix", "Use only the objects below this prefix.", text, section="s3",
           default="the whole bucket", example="datasets/"),
    Option("profile", "The AWS profile of an S3 store.", text, section="s3", group="access",
           value="NAME", default="what boto3 finds", example="prod"),
    Option("region", "The region of an S3 store.", text, section="s3", group="access",
           value="NAME", default="what boto3 finds", example="eu-west-3"),
    Option("endpoint_url", "The address of an S3-compatible server.", url, section="s3",
           group="access", value="URL", default="what boto3 finds",
           example="https://s3.eu-west-3.amazonaws.com"),
    Option("request_payer", "Pay for requests to an S3 bucket.", boolean, section="s3",
           group="access", default="false", example="false",
           more="Requester-pays buckets require it."),
    Option("content_type", "The content type of objects written to S3; auto derives it from the name.",
           parse_content_type, section="s3", group="written", value="auto|TYPE", default="auto",
           example="auto", more="With auto, a replaced object keeps its type."),
    Option("storage_class", "The storage class of objects written to S3.", parse_storage_class,
           section="s3", group="written", value="CLASS", default="the bucket's default",
           example="STANDARD", more="Copies in the trash get the bucket's default. For migrate,"
           " `source` gives each copy the class of its source."),
    Option("sse", "The encryption of objects written to S3: AES256 or aws:kms[:KEY].", parse_sse,
           section="s3", group="written", value="HOW", default="the bucket's default",
           example="AES256", more="Applies to copies in the trash, too."
           " craftsync refuses a server that does not confirm it."),
    Option("url", "The address of the environment.", url, section="craft-ai", required=True,
           example="https://my-env.mlops-platform.craft.ai"),
    Option("control_url", "The address of the platform.", url, section="craft-ai",
           default="the SDK's default", example="https://mlops-platform.craft.ai"),
    Option("token_env", "The variable that holds the SDK token, in the environment or in .env.",
           text, section="craft-ai", default=TOKEN_ENV, example=TOKEN_ENV),
    Option("token_file", "A file that holds the SDK token, instead of a variable.",
           path, section="craft-ai", default="none", example="~/.config/craftsync/token"),
    Option("transport", "How to access the platform: through its API, or through the functions of its SDK.",
           choice_of(Transport, "transport"), section="craft-ai", default="api", example="api",
           more="sdk is slower. Use it when `craftsync doctor` reports that the API changed."
           " It needs the extra sdk."),

    # Folders, and how a run synchronises them with their stores.
    Option("root", "The local folder.", path, section="folder", required=True,
           example="~/datasets"),
    Option("environment", "Its store: an environment, optionally with a folder in it.",
           text, section="folder", required=True, example="prod", more="For example prod:2026."),
    Option("mode", "two-way, push or pull.", choice_of(Mode, "mode"), section="folder",
           group="mode", value="MODE", default="two-way", example="two-way",
           more="For `watch`, `plan` and `why`; push, pull and sync are modes themselves."),
    Option("delete", "Also delete files that are missing on the other side.", boolean, section="folder",
           group="deletes", spellings=("--no-delete",), default="false", example="false",
           more="For push, pull and migrate; two-way always does."),
    Option("max_delete", "Hold the deletes of a run that has more than this.", parse_max_delete,
           section="folder", group="deletes", value="N|P%", example="10%",
           default="the larger of {0.files} files and {0.share:.0%}".format(DeleteLimit()),
           more="A number of files, or a share."),
    Option("force_delete", "Carry out all deletes of this run; hold none.", group="deletes"),
    Option("include", "Include only what matches this gitignore pattern, or another given one.",
           patterns, section="folder", group="patterns", value="PATTERN", many=True,
           default="everything", example='["*"]'),
    Option("exclude", "Exclude what matches this gitignore pattern.", patterns,
           section="folder", group="patterns", value="PATTERN", many=True,
           default="none", example='["*.tmp"]',
           more='.git/, .env and the like are always excluded, unless a pattern such as "!.env"'
           " includes them."),
    Option("exclude_from", "Exclude what matches a line of this file.", group="patterns",
           value="FILE", many=True),
    Option("files_from", "Include only the files and folders in this list; - is standard input.",
           group="filters", value="FILE", many=True,
           more="One path per line, relative to the folder. A folder ends with a slash. Lines that"
           " begin with # or ; are comments. A missing path is reported, and the exit code is 1."),
    Option("from0", "In the list of --files-from, a NUL ends each path; it has no comments.",
           group="filters", spellings=("-0",)),
    Option("min_size", "Exclude smaller files: bytes, or a number with K, M, G or T.", group="filters",
           value="SIZE"),
    Option("max_size", "Exclude larger files.", group="filters", value="SIZE"),
    Option("min_age", "Exclude files that changed more recently than this, such as 1h.", group="filters",
           value="AGE"),
    Option("max_age", "Exclude files that changed longer ago than this, such as 7d.", group="filters",
           value="AGE", more="The clock of this machine measures the age of a file, the clock of the store"
           " that of an object."),
    Option("links", "Symbolic links: skip them, or follow those whose target is in the folder.",
           choice_of(Links, "way to treat links"), group="links", value="skip|follow",
           default="skip", more="For push, plan and check. Links out of the folder are never followed."),
    Option("existing", "Include only files that already exist on the other side.", group="existing"),
    Option("ignore_existing", "Include only files that do not exist on the other side.", group="existing"),
    Option("checksum", "Read all content instead of trusting sizes and times.", group="compare",
           spellings=("-c",)),
    Option("size_only", "Compare sizes only.", group="compare"),
    Option("conflict", "The version to keep if both sides changed a file: both, newer, local or remote.",
           choice_of(OnConflict, "way to settle a conflict"), section="folder", group="conflict",
           value="HOW", default="both", example="both"),
    Option("transfers", "The number of simultaneous transfers.", parse_transfers, section="folder",
           group="transfers", value="N|auto", default="auto", example="auto",
           more="auto adapts it to the store and the connection."),
    Option("bwlimit", "The limit in bytes per second, up and down, with K, M or G.", parse_bwlimit,
           section="folder", group="transfers", value="RATE[:RATE]", default="off", example="off",
           more="10M limits both directions, 10M:2M upload and download. A migration uploads to the"
                ' target. By local time: "08:00,1M 19:00,off", "Mon-08:00,1M Fri-19:00,off".'),
    Option("windows", "The times when `watch` may transfer.", parse_windows, section="folder",
           default="always", example='["00:00-24:00"]',
           more='For example "22:00-06:00" or "Sat-Sun 08:00-20:00". A transfer that is under way'
                " when a window closes continues in the next."),
    Option("settle", "Seconds without a change before `watch` transfers a file.", parse_seconds,
           section="folder", group="times", value="SECONDS", default="0.5", example="0.5"),
    Option("poll", "Seconds between listings of the store by `watch`.", parse_seconds,
           section="folder", group="times", value="SECONDS", default="30", example="30",
           more="Longer while the store does not change."),
    Option("rescan", "Seconds between scans of the whole folder by `watch`.", parse_seconds,
           section="folder", group="times", value="SECONDS", default="600", example="600"),
    Option("scrub", "The share of all bytes that `watch` reads each day to find damage.",
           parse_scrub, section="folder", default="off", example="off",
           more="For example 1%, on both sides. See craftsync scrub --help."),
    Option("events", "The SQS queue to which the bucket sends its changes; each folder needs its own.",
           text, section="folder", default="none", example="sqs://my-queue",
           more="Or sqs://HOST/ACCOUNT/NAME. `watch` deletes the messages it has read."),
    Option("trash", "How long its trash keeps versions, if not as the top-level trash sets it.",
           section="folder", default="the top-level trash", example="{keep: 30d}",
           more="Each of keep, max_size and store takes precedence over the top-level one."
           " For a new folder, craftsync init sets {keep: 30d}."),

    # The machine.
    Option("reserve", "Free disk space that downloads and directory stores never use.",
           parse_reserve, section="", example="1%",
           default="1%, and at least 100 MB or a tenth of a small disk",
           more="A share of the disk, a size such as 5G, or off."),
    Option("keep", "How long replaced and deleted versions are kept, in folder and store.",
           parse_keep, section="trash", default="forever", example="forever",
           more="For example 30d or 12h; older versions are removed for good."),
    Option("max_size", "The maximum size of the trash of one linked folder.", parse_max_size,
           section="trash", default="off", example="off",
           more="For example 10GB; beyond it, the oldest versions are removed first."),
    Option("store", "Which versions the store keeps in its trash: all, foreign, off or auto.",
           choice_of(StoreTrash, "choice of what the store keeps"), section="trash",
           default="auto", example="auto",
           more="foreign: all except uploads of this client that it replaces; auto: all if the"
                " store can copy by itself, else foreign."),
    Option("metrics", "The file to which `watch` writes metrics for Prometheus.", path, section="",
           default="none", example="~/.local/state/craftsync/craftsync.prom",
           more="For node_exporter's textfile collector."),
    Option("metrics_addr", "The address at which `watch` serves /metrics for Prometheus, /healthz and /readyz.", parse_address,
           section="", group="metrics", value="[HOST:]PORT", default="none", example="9469",
           more="It has no password. Without a host, only"
                " this machine can connect. It needs the extra metrics."),
    Option("notify", "The command that `watch` runs when something needs your attention.", argv,
           section="", default="none", example="[/usr/local/bin/tell-me]",
           more="It gets the variables CRAFTSYNC_NOTIFY_EVENT (conflict, held, halted), _ROOT,"
                " _STORE, _PATH, _REASON and _COUNT. No shell is involved."),

    # One call.
    Option("dry_run", "Print what would be done, and do nothing.", group="dry run",
           spellings=("-n", "--dryrun")),
    Option("json", "Print one JSON object per line.", group="json"),
    Option("quiet", "Print only what is wrong.", group="loudness", spellings=("-q",)),
    Option("verbose", "Print each action.", group="loudness", spellings=("-v",)),
    Option("stats", "Print the progress at this interval, such as 1m, where no bar is shown.",
           group="loudness", value="TIME"),
    Option("log_file", "Also write each action and problem to this file, with the time.",
           group="loudness", value="FILE", more="After log rotation, it opens the new file."),

    # Migrations.
    Option("no_overwrite", "Do not replace what the target already has.", group="migrate"),
    Option("verify", "How to verify each copy: checksum, or full to read it back.", group="migrate", value="HOW",
           default="checksum"),
    Option("shard", "Copy only the I-th of N shares of the keys.", group="migrate", value="I/N"),
    Option("dask", "Run the migration on a Dask cluster, such as tcp://host:8786.", group="migrate", value="ADDRESS"),
    Option("tags", "Copy tags between servers, too.", group="migrate"),
    Option("stream", "Always transfer the bytes; never let the server copy.", group="migrate"),
    Option("manifest", "Where to write the list of what was copied.", group="migrate",
           value="FILE"),
    Option("manifest_in_target", "Also write the manifest to the target, as the last object.", group="migrate"),
    Option("source_profile", "As --profile, for the source.", group="source", value="NAME"),
    Option("source_region", "As --region, for the source.", group="source", value="NAME"),
    Option("source_endpoint_url", "As --endpoint-url, for the source.", group="source",
           value="URL"),
)
# fmt: on
"""Those of one section of the file, and those of one group of flags, are in display order."""


def keys(section: str) -> tuple[Option, ...]:
    return tuple(option for option in OPTIONS if option.section == section)


def flags(group: str) -> tuple[Option, ...]:
    return tuple(option for option in OPTIONS if option.group == group)


FLAGS = {option.name: option for option in OPTIONS if option.group is not None}
"""The options that are flags, by name."""
_FOLDER = {option.name: option for option in keys("folder") if option.name != "environment"}
_DEFAULTS: dict[str, Any] = {"max_delete": DeleteLimit(), "windows": Windows()} | {
    name: option.parse(option.default)
    for name, option in _FOLDER.items()
    if option.parse is not None
    and name in {"mode", "conflict", "transfers", "bwlimit", "settle", "poll", "rescan", "scrub"}
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to synchronise a folder with its store."""

    mode: Mode = _DEFAULTS["mode"]
    delete: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_delete: DeleteLimit = _DEFAULTS["max_delete"]
    conflict: OnConflict = _DEFAULTS["conflict"]
    transfers: int = _DEFAULTS["transfers"]
    bwlimit: Rates | Timetable[Rates] = _DEFAULTS["bwlimit"]
    windows: Windows = _DEFAULTS["windows"]
    settle: float = _DEFAULTS["settle"]
    poll: float = _DEFAULTS["poll"]
    rescan: float = _DEFAULTS["rescan"]
    scrub: float = _DEFAULTS["scrub"]
    events: str | None = None

    @classmethod
    def of(cls, *given: Mapping[str, Any]) -> Settings:
        """Return the given settings, and the defaults for the rest; the last mapping wins, patterns add up."""
        chosen = {name: value for words in given for name, value in words.items()}
        for name in ("include", "exclude"):
            chosen[name] = sum((words.get(name, ()) for words in given), ())
        return cls(**chosen)


File = str | os.PathLike[str] | IO[Any]
FilesFrom = File | Sequence[File] | None


class PairOptions(TypedDict, total=False):
    """The keywords that every function and command for a linked folder takes."""

    config: str | os.PathLike[str] | None
    state_dir: str | os.PathLike[str] | None
    profile: str | None
    region: str | None
    endpoint_url: str | None
    request_payer: bool
    content_type: str | None
    storage_class: str | None
    sse: str | None


class SharedOptions(PairOptions, total=False):
    """The keywords that runs and migrations share."""

    dry_run: bool
    delete: bool | None
    max_delete: str | int | None
    force_delete: bool
    include: Sequence[str]
    exclude: Sequence[str]
    exclude_from: Sequence[str | os.PathLike[str]]
    files_from: FilesFrom
    from0: bool
    min_size: str | int | None
    max_size: str | int | None
    min_age: str | None
    max_age: str | None
    existing: bool
    ignore_existing: bool
    transfers: int | str | None
    bwlimit: str | int | None
    on_event: Callable[[Any], None]
    progress: bool


class RunOptions(SharedOptions, total=False):
    """How to run: the keywords of `push`, `pull`, `sync` and `check`, and the flags of the same names."""

    checksum: bool
    size_only: bool
    conflict: str | None
    links: str | None


class MigrateOptions(SharedOptions, total=False):
    """How to run a migration: the keywords of `migrate`, and the flags of the same names."""

    no_overwrite: bool
    verify: str | None
    shard: str | None
    manifest: str | os.PathLike[str] | None
    manifest_in_target: bool
    dask: str | None
    stream: bool
    tags: bool
    source_profile: str | None
    source_region: str | None
    source_endpoint_url: str | None


def given_by(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the given flags or keywords that are also keys of a folder in the file.

    Raises `UsageError` for an invalid word.
    """
    given = {}
    for name, option in _FOLDER.items():
        value = read(asked, name, option.parse) if option.group and option.parse else None
        if value is not None:
            given[name] = value
    given["exclude"] = given.get("exclude", ()) + _patterns_from(asked)
    return given


def refuse_unknown(asked: Mapping[str, object], known: type) -> None:
    """Raise `UsageError` for a keyword that `known` does not have, and for a flag that is not a bool.

    Any text is true in Python: `delete="no"` would delete.
    """
    names = known.__annotations__
    for name, value in asked.items():
        if name not in names:
            raise UsageError(
                f"Unknown option {name!r}.",
                remedy=f"{nearest(name, names)}Options: {', '.join(names)}.",
            )
        is_bare = name in FLAGS and not FLAGS[name].value
        if is_bare and not isinstance(value, bool | None):
            raise UsageError(f"{name}: {value!r} is not a bool.", remedy="Use True or False.")


def read(asked: Mapping[str, object], name: str, parse: Callable[[Any], T]) -> T | None:
    """Return the value of a flag, `None` if it was not given; raises `UsageError` for an invalid word."""
    word = asked.get(name)
    if word is None or word == ():
        return None
    try:
        return parse(word)
    except BadWord as bad:
        raise _refused(name, f"{word!r} {bad}", bad.remedy) from bad


def _patterns_from(asked: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the patterns of the files named by `exclude_from`, without blank lines and comments."""
    named = asked.get("exclude_from") or ()
    files = [named] if isinstance(named, str | os.PathLike) else named
    patterns: list[str] = []
    for file in files:
        try:
            lines = user_path(file).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise _refused(
                "exclude_from", f"{str(file)!r} cannot be read ({reason})", "Name a text file."
            ) from error
        patterns += [line for line in lines if line.strip() and not line.startswith("#")]
    return tuple(patterns)


def _refused(name: str, problem: str, remedy: str) -> UsageError:
    return UsageError(f"{FLAGS[name].flag}: {problem}.", remedy=remedy)
