"""Every option there is, in one table.

The flags of the command line, the `CRAFTSYNC_*` variables, the keywords of the
Python functions, the keys of the configuration file, their defaults and their
documents (`--help`, config.example.yaml, docs/configuration.md) are made from
these rows. An option of one command alone, such as `history --limit`,
stands with its command.
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
    """How an environment of the platform is reached: over its own API, or through the functions of its SDK."""

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
    """Turns a word into its value, or raises `BadWord`; `None` if any word is valid, and for a flag without a value."""
    section: str | None = None
    """Where it stands in the file: "" for the top, else `folder`, `trash` or a kind of store."""
    example: str = ""
    """Its value in config.example.yaml."""
    required: bool = False
    """Whether a section of the file has to have it."""
    default: str = ""
    """As it is written; empty for none."""
    more: str = ""
    """More about it; for the documents only."""
    group: str | None = None
    """The group of flags it belongs to; `None` if it is not a flag."""
    value: str = ""
    """The name of its value in the help; empty for a flag without a value."""
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
    Option("state_dir", "Where the state databases live.", group="global", value="DIR"),
    Option("folder", "The folder of the configuration it is about.", group="path", value="NAME"),
    Option("root", "The folder it is about, together with --store.", group="path", value="ROOT"),
    Option("store", "The store it is about, together with --root.", group="path", value="STORE"),

    # Stores.
    Option("path", "The folder that is the store.", path, section="directory", required=True,
           example="~/archive", more="The first push creates it."),
    Option("bucket", "The bucket.", text, section="s3", required=True, example="my-bucket"),
    Option("prefix", "Take only what is below this prefix.", text, section="s3",
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
           more="Requester-pays buckets demand it."),
    Option("content_type", "The content type of what is written to S3; auto: by each name.",
           parse_content_type, section="s3", group="written", value="auto|TYPE", default="auto",
           example="auto", more="auto keeps the type of an object that is replaced."),
    Option("storage_class", "The storage class of what is written to S3.", parse_storage_class,
           section="s3", group="written", value="CLASS", default="the bucket's usual one",
           example="STANDARD", more="Copies in the trash keep the usual one. Of migrate,"
           " `source` gives each copy that of its source."),
    Option("sse", "How S3 encrypts what is written: AES256 or aws:kms[:KEY].", parse_sse,
           section="s3", group="written", value="HOW", default="as the bucket is set",
           example="AES256", more="Of all that is written there, copies in the trash as well."
           " A server that does not confirm it is refused."),
    Option("url", "The address of the environment.", url, section="craft-ai", required=True,
           example="https://my-env.mlops-platform.craft.ai"),
    Option("control_url", "The address of the platform.", url, section="craft-ai",
           default="that of the platform itself", example="https://mlops-platform.craft.ai"),
    Option("token_env", "The variable, or the line of a .env file, that holds the SDK token.",
           text, section="craft-ai", default=TOKEN_ENV, example=TOKEN_ENV),
    Option("token_file", "A file that holds the SDK token, instead of a variable.",
           path, section="craft-ai", default="none", example="~/.config/craftsync/token"),
    Option("transport", "How the platform is reached: over its own API, or the functions of its SDK.",
           choice_of(Transport, "transport"), section="craft-ai", default="api", example="api",
           more="sdk is slower, and for when `craftsync doctor` finds the API changed; needs"
           " the extra sdk."),

    # Folders, and how a run brings them and their stores in sync.
    Option("root", "The local folder.", path, section="folder", required=True,
           example="~/datasets"),
    Option("environment", "Its store: one of the environments, with a folder of it if you like.",
           text, section="folder", required=True, example="prod", more="Such as prod:2026."),
    Option("mode", "two-way, push or pull.", choice_of(Mode, "mode"), section="folder",
           group="mode", value="MODE", default="two-way", example="two-way",
           more="Of `watch`, `plan` and `why`; the commands push, pull and sync are modes."),
    Option("delete", "Also delete what is gone from the other side.", boolean, section="folder",
           group="deletes", spellings=("--no-delete",), default="false", example="false",
           more="Of push, pull and migrate; two-way always does."),
    Option("max_delete", "Hold the deletes of a run if there are more.", parse_max_delete,
           section="folder", group="deletes", value="N|P%", example="10%",
           default="the larger of {0.files} files and {0.share:.0%}".format(DeleteLimit()),
           more="A number of files, or a share."),
    Option("force_delete", "Carry out all deletes, this once.", group="deletes"),
    Option("include", "Take only what matches this gitignore pattern, or another one given.",
           patterns, section="folder", group="patterns", value="PATTERN", many=True,
           default="everything", example='["*"]'),
    Option("exclude", "Leave out what matches this gitignore pattern.", patterns,
           section="folder", group="patterns", value="PATTERN", many=True,
           default="nothing more", example='["*.tmp"]',
           more='.git/, .env and the like are always left out; a pattern "!.env" takes it in.'),
    Option("exclude_from", "Leave out what matches a line of this file.", group="patterns",
           value="FILE", many=True),
    Option("files_from", "Take only the files and folders in this list; - is standard input.",
           group="filters", value="FILE", many=True,
           more="One path a line, relative to the folder; a folder ends with a slash, lines that begin"
           " with # or ; are comments. A path that is not there is reported, exit code 1."),
    Option("from0", "The list of --files-from has a NUL after each path, no comments.",
           group="filters", spellings=("-0",)),
    Option("min_size", "Leave out what is smaller: bytes, or with K, M, G, T.", group="filters",
           value="SIZE"),
    Option("max_size", "Leave out what is larger.", group="filters", value="SIZE"),
    Option("min_age", "Leave out what changed more recently, such as 1h.", group="filters",
           value="AGE"),
    Option("max_age", "Leave out what changed longer ago, such as 7d.", group="filters",
           value="AGE", more="A file's by its own time and this machine's clock, an object's by its"
           " time and the clock of its store."),
    Option("links", "Symbolic links: skip them, or follow those to what lies in the folder.",
           choice_of(Links, "way to treat links"), group="links", value="skip|follow",
           default="skip", more="Of push, plan and check; never out of the folder."),
    Option("existing", "Take only what the other side has already.", group="existing"),
    Option("ignore_existing", "Take only what the other side has not.", group="existing"),
    Option("checksum", "Read all content instead of trusting sizes and times.", group="compare",
           spellings=("-c",)),
    Option("size_only", "Compare sizes only.", group="compare"),
    Option("conflict", "When both sides changed a file: both, newer, local or remote.",
           choice_of(OnConflict, "way to settle a conflict"), section="folder", group="conflict",
           value="HOW", default="both", example="both", more="With both, both versions are kept."),
    Option("transfers", "How many files travel at once.", parse_transfers, section="folder",
           group="transfers", value="N|auto", default="auto", example="auto",
           more="auto: as many as the way to the store is worth."),
    Option("bwlimit", "Bytes per second up and down, with K, M or G.", parse_bwlimit,
           section="folder", group="transfers", value="RATE[:RATE]", default="off", example="off",
           more="10M, or 10M:2M for up and down; of a migration, up is into the target."
                ' By local time: "08:00,1M 19:00,off", "Mon-08:00,1M Fri-19:00,off".'),
    Option("windows", "When `watch` may transfer.", parse_windows, section="folder",
           default="always", example='["00:00-24:00"]',
           more='Such as "22:00-06:00" or "Sat-Sun 08:00-20:00". What is under way when one'
                " closes continues in the next."),
    Option("settle", "Seconds without a change before `watch` takes a file.", parse_seconds,
           section="folder", group="times", value="SECONDS", default="0.5", example="0.5"),
    Option("poll", "Seconds between listings of the store by `watch`.", parse_seconds,
           section="folder", group="times", value="SECONDS", default="30", example="30",
           more="More while the store is quiet."),
    Option("rescan", "Seconds between scans of the whole folder by `watch`.", parse_seconds,
           section="folder", group="times", value="SECONDS", default="600", example="600"),
    Option("scrub", "The share of all bytes that `watch` reads each day to find damage.",
           parse_scrub, section="folder", default="off", example="off",
           more="Such as 1%, on both sides. See craftsync scrub --help."),
    Option("events", "An SQS queue of this folder's own that the bucket sends its changes to.",
           text, section="folder", default="none", example="sqs://my-queue",
           more="Or sqs://HOST/ACCOUNT/NAME. What `watch` reads from it is removed."),

    # The machine.
    Option("reserve", "Free space that downloads and directory stores leave alone.",
           parse_reserve, section="", example="1%",
           default="1%, and at least 100 MB or a tenth of a small disk",
           more="A share of the disk, a size such as 5G, or off."),
    Option("keep", "How long replaced and deleted versions are kept, in folder and store.",
           parse_keep, section="trash", default="forever", example="forever",
           more="Such as 30d or 12h; what is older is removed for good."),
    Option("max_size", "How much the trash of one linked folder may hold.", parse_max_size,
           section="trash", default="off", example="off",
           more="Such as 10GB; beyond it the oldest versions go first."),
    Option("store", "What the store keeps: all, foreign, off or auto.",
           choice_of(StoreTrash, "choice of what the store keeps"), section="trash",
           default="auto", example="auto",
           more="foreign: all but replaced uploads of this client; auto: all where the store"
                " copies by itself, else foreign."),
    Option("metrics", "A file in which `watch` keeps figures for Prometheus.", path, section="",
           default="none", example="~/.local/state/craftsync/craftsync.prom",
           more="For node_exporter's textfile collector."),
    Option("metrics_addr", "Where `watch` answers Prometheus (/metrics) and health checks (/healthz, /readyz).", parse_address,
           section="", group="metrics", value="[HOST:]PORT", default="none", example="9469",
           more="Without a password; without a host for this"
                " machine only. Needs the extra metrics."),
    Option("notify", "A command that `watch` calls when something waits for a person.", argv,
           section="", default="none", example="[/usr/local/bin/tell-me]",
           more="It gets the variables CRAFTSYNC_NOTIFY_EVENT (conflict, held, halted), _ROOT,"
                " _STORE, _PATH, _REASON and _COUNT. No shell is involved."),

    # One call.
    Option("dry_run", "Print what would be done, and do nothing.", group="dry run",
           spellings=("-n", "--dryrun")),
    Option("json", "Print one JSON object a line.", group="json"),
    Option("quiet", "Print only what is wrong.", group="loudness", spellings=("-q",)),
    Option("verbose", "Print each action.", group="loudness", spellings=("-v",)),
    Option("stats", "Print how far it has come every so often (1m), where no bar is shown.",
           group="loudness", value="TIME"),
    Option("log_file", "Write each action and problem to this file as well, with the time.",
           group="loudness", value="FILE", more="A file that is moved away is reopened."),

    # Migrations.
    Option("no_overwrite", "Leave alone what the target has already.", group="migrate"),
    Option("verify", "checksum, or full: read it back.", group="migrate", value="HOW",
           default="checksum"),
    Option("shard", "Only the I-th of N shares of the keys.", group="migrate", value="I/N"),
    Option("dask", "Let a Dask cluster do it: tcp://host:8786.", group="migrate", value="ADDRESS"),
    Option("tags", "Keep tags from one server to another, too.", group="migrate"),
    Option("stream", "Never let the server copy by itself.", group="migrate"),
    Option("manifest", "Where to write the list of what was copied.", group="migrate",
           value="FILE"),
    Option("manifest_in_target", "Put it into the target, too, last.", group="migrate"),
    Option("source_profile", "As --profile, for the source.", group="source", value="NAME"),
    Option("source_region", "As --region, for the source.", group="source", value="NAME"),
    Option("source_endpoint_url", "As --endpoint-url, for the source.", group="source",
           value="URL"),
)
# fmt: on
"""All of them; those of one section of the file, and of one group of flags, in the order they are shown."""


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
    """How a folder and its store are brought in sync."""

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
        """Return the given settings, else the defaults; the last given wins, patterns add up."""
        chosen = {name: value for words in given for name, value in words.items()}
        for name in ("include", "exclude"):
            chosen[name] = sum((words.get(name, ()) for words in given), ())
        return cls(**chosen)


File = str | os.PathLike[str] | IO[Any]
FilesFrom = File | Sequence[File] | None


class PairOptions(TypedDict, total=False):
    """Where things are: the keywords every function and command about a folder takes."""

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
    """Return those of the flags or keywords of a call that a folder of the file has, too, as values.

    Raises `UsageError` for a word that means nothing.
    """
    given = {}
    for name, option in _FOLDER.items():
        value = read(asked, name, option.parse) if option.group and option.parse else None
        if value is not None:
            given[name] = value
    given["exclude"] = given.get("exclude", ()) + _patterns_from(asked)
    return given


def refuse_unknown(asked: Mapping[str, object], known: type) -> None:
    """Raise `UsageError` for a keyword that the class of options does not have, or that has to be a bool and is not.

    Any text is true to Python: `delete="no"` would delete.
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
            raise _refused(
                "exclude_from", f"{str(file)!r} cannot be read ({error})", "Name a text file."
            ) from error
        patterns += [line for line in lines if line.strip() and not line.startswith("#")]
    return tuple(patterns)


def _refused(name: str, problem: str, remedy: str) -> UsageError:
    return UsageError(f"{FLAGS[name].flag}: {problem}.", remedy=remedy)
