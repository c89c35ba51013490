"""Reads the configuration file: YAML in, frozen values out.

Every error is a `ConfigError` that names the file, the key, the value and the
remedy. The file never contains secrets. `places` resolves environments to
stores.

Booleans and numbers are those of YAML 1.2: in YAML 1.1 `off` is false, `10:20`
is 620 and `2026-11-22` is a date, all of which are likely rates or names here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from craftsync.config import options
from craftsync.config.options import Option, Transport
from craftsync.config.parsers import BadWord, user_path
from craftsync.config.secrets import TOKEN_ENV
from craftsync.core.retention import Reserve, Retention
from craftsync.errors import ConfigError, nearest

if TYPE_CHECKING:
    from yaml import SafeLoader


@dataclass(frozen=True, slots=True)
class DirectoryEnvironment:
    """A plain folder used as a store."""

    path: Path


@dataclass(frozen=True, slots=True)
class S3Environment:
    """A bucket and a prefix; boto3 determines each value that is `None`."""

    bucket: str
    prefix: str = ""
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    request_payer: bool = False
    content_type: str | None = None
    storage_class: str | None = None
    sse: str | None = None


@dataclass(frozen=True, slots=True)
class CraftAiEnvironment:
    """An environment of the platform; the token itself is in a variable or in a file."""

    url: str
    control_url: str | None = None
    token_env: str = TOKEN_ENV
    token_file: Path | None = None
    transport: Transport = Transport.API


Environment = DirectoryEnvironment | S3Environment | CraftAiEnvironment


@dataclass(frozen=True, slots=True)
class LinkedFolder:
    """A linked folder of the configuration. `environment` may end in ":folder"."""

    root: Path
    environment: str
    given: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The `Settings` of its runs that the file sets."""
    retention: Retention = field(default_factory=Retention)
    """How long its trash keeps versions: its own `trash:`, and the top-level one for the rest."""


@dataclass(frozen=True, slots=True)
class Config:
    """The content of the file; empty when there is no file."""

    environments: Mapping[str, Environment] = field(default_factory=dict)
    folders: Mapping[str, LinkedFolder] = field(default_factory=dict)
    reserve: Reserve = field(default_factory=Reserve)
    """Free space to leave on a disk."""
    trash: Mapping[str, Any] = field(default_factory=dict)
    """The keys that the top-level `trash:` sets."""
    metrics: Path | None = None
    """The file to which `watch` writes metrics for Prometheus."""
    metrics_addr: tuple[str, int] | None = None
    """Host and port at which `watch` serves metrics and health checks."""
    notify: tuple[str, ...] = ()
    """The command, as a list of arguments, that `watch` runs when something needs attention."""

    @property
    def retention(self) -> Retention:
        """How long the trash of a folder without a `trash:` of its own keeps versions."""
        return Retention(**self.trash)


STORES: Mapping[str, type[Environment]] = {
    "craft-ai": CraftAiEnvironment,
    "s3": S3Environment,
    "directory": DirectoryEnvironment,
}
"""The kinds of store that an environment can be."""

_NAME = r"[\w][\w.-]*"
_SECRET = r"(?i)token|secret|password|access_?key|credential"


def default_file() -> Path:
    named = os.environ.get("CRAFTSYNC_CONFIG")
    if named:
        return user_path(named)
    from platformdirs import user_config_path

    return user_config_path("craftsync") / "config.yaml"


def default_state_dir() -> Path:
    """Return the default folder of the state databases."""
    named = os.environ.get("CRAFTSYNC_STATE_DIR")
    if named:
        return user_path(named)
    from platformdirs import user_state_path

    return user_state_path("craftsync")


def load(file: str | os.PathLike[str] | None = None) -> Config:
    """Read the configuration; empty if the default file does not exist.

    A file given here or by `CRAFTSYNC_CONFIG` must exist. Raises `ConfigError`.
    """
    named = file is not None or bool(os.environ.get("CRAFTSYNC_CONFIG"))
    path = default_file() if file is None else user_path(file)
    try:
        content = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if named:
            raise ConfigError(
                f"{path}: file not found.",
                remedy="Create it (craftsync config example prints one) or name another with --config.",
            ) from None
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{path} cannot be read ({reason}).",
            remedy="It must be a UTF-8 file that you can read.",
        ) from error
    return parse(content, path)


def parse(content: str, file: Path) -> Config:
    """Parse the text of a configuration file; `file` is for messages and relative paths."""
    try:
        keys = read_yaml(content)
    except NotYaml as error:
        raise ConfigError(
            f"{file}: {error}.",
            remedy="Correct that line; craftsync config example prints a valid file.",
        ) from error
    top = Section(file, "", keys, options.keys(""), ("environments", "folders", "trash"))
    environments = {
        name: _environment(file, f"environments.{name}", keys)
        for name, keys in top.named("environments").items()
    }
    trash = _trash(file, "trash", top)
    folders = {
        name: _folder(file, f"folders.{name}", keys, environments, trash)
        for name, keys in top.named("folders").items()
    }
    return Config(environments, folders, trash=trash, **top.values())


def _environment(file: Path, key: str, content: Any) -> Environment:
    kind = content.get("store") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in STORES:
        every = [option for store in sorted(STORES) for option in options.keys(store)]
        section = Section(file, key, content, every, ("store",))
        if kind is None:
            raise section.missing("store")
        raise section.wrong_value(
            "store", "is not a kind of store", f"Use one of {', '.join(STORES)}."
        )
    return STORES[kind](**Section(file, key, content, options.keys(kind), ("store",)).values())


def _folder(
    file: Path,
    key: str,
    content: Any,
    environments: Mapping[str, Environment],
    trash: Mapping[str, Any],
) -> LinkedFolder:
    section = Section(file, key, content, options.keys("folder"))
    given = section.values()
    root, environment = given.pop("root"), given.pop("environment")
    name = environment.partition(":")[0]
    if name not in environments:
        known = ", ".join(environments) or "none yet"
        raise section.wrong_value(
            "environment",
            "is not an environment of this file",
            f"{nearest(name, environments)}Known environments: {known}.",
        )
    own = _trash(file, f"{key}.trash", section)
    return LinkedFolder(root, environment, given, Retention(**{**trash, **own}))


def _trash(file: Path, key: str, above: Section) -> dict[str, Any]:
    """Return the keys that the `trash:` of a section sets."""
    return Section(file, key, above.content.get("trash"), options.keys("trash")).values()


class Section:
    """The mapping at `key` of `file`; the constructor raises `ConfigError` for an unknown key in it."""

    def __init__(
        self,
        file: Path,
        key: str,
        content: Any,
        known: Sequence[Option],
        sections: Sequence[str] = (),
    ) -> None:
        self._file = file
        self._key = key
        self._options = known
        if content is None:
            content = {}
        if not isinstance(content, dict):
            raise self._wrong(
                key, f"{content!r} is not a section", "Write keys below it, each with a value."
            )
        self.content: dict[Any, Any] = content
        names = (*sections, *(option.name for option in known))
        for name in content:
            if name not in names:
                raise self._unknown(name, names)

    def values(self) -> dict[str, Any]:
        """Return the values of the options that are set; a relative path starts at the file's folder."""
        found = {}
        for option in self._options:
            word = self.content.get(option.name)
            if word is None and option.required:
                raise self.missing(option.name)
            if word is None or option.parse is None:
                continue
            try:
                value = option.parse(word)
            except BadWord as bad:
                raise self.wrong_value(option.name, str(bad), bad.remedy) from bad
            if isinstance(value, Path):
                value = Path(os.path.abspath(self._file.absolute().parent / value))
            found[option.name] = value
        return found

    def missing(self, name: str) -> ConfigError:
        return self._wrong(self._place(name), "this key is required", f"Add a line `{name}: …`.")

    def named(self, name: str) -> dict[str, Any]:
        """Return a section whose keys are names chosen by the user."""
        content = self.content.get(name)
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise self.wrong_value(
                name, "is not a section", "Write a name below it, and its keys below the name."
            )
        for chosen in content:
            if not isinstance(chosen, str) or not re.fullmatch(_NAME, chosen):
                raise self._wrong(
                    self._place(name),
                    f"{chosen!r} cannot be a name",
                    "Use letters, digits, dots, dashes and underscores.",
                )
        return content

    def wrong_value(self, name: str, problem: str, remedy: str) -> ConfigError:
        return self._wrong(self._place(name), f"{self.content[name]!r} {problem}", remedy)

    def _unknown(self, name: Any, known: tuple[str, ...]) -> ConfigError:
        misspelt = nearest(str(name), known, likeness=0.8)
        if re.search(_SECRET, str(name)) and not misspelt:
            # The value is a secret: the message must not repeat it.
            return self._wrong(
                self._place(str(name)),
                "the configuration must not contain secrets",
                "Remove it, and set the variable or file that contains it with token_env or "
                "token_file; S3 credentials belong in an AWS profile or in the AWS_* variables.",
            )
        return self._wrong(
            self._place(str(name)),
            f"unknown key (its value is {self.content[name]!r})",
            f"{nearest(str(name), known)}Known keys: {', '.join(known)}.",
        )

    def _place(self, name: str) -> str:
        return f"{self._key}.{name}" if self._key else name

    def _wrong(self, key: str, problem: str, remedy: str) -> ConfigError:
        place = f"{self._file}: {key}" if key else f"{self._file}"
        return ConfigError(f"{place}: {problem}.", remedy=remedy)


class NotYaml(Exception):
    """The text is not YAML; the message names the line."""


def read_yaml(text: str) -> Any:
    """Return the one document in `text` as plain values; raises `NotYaml`."""
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise NotYaml(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise NotYaml(" ".join(str(error).split())) from error


def lines_of(content: str, section: str, name: str) -> tuple[int, int]:
    """Return the first line of an entry in a section, and the line after its last, counted from 0.

    `(0, 0)` if there is no such entry.
    """
    import yaml

    def entry(node: Any, name: str) -> tuple[Any, Any]:
        found = node.value if isinstance(node, yaml.MappingNode) else ()
        return next(((key, value) for key, value in found if key.value == name), (None, None))

    _, within = entry(yaml.compose(content, Loader=_loader()), section)
    key, value = entry(within, name)
    if key is None:
        return 0, 0
    while isinstance(value, yaml.CollectionNode) and value.value and not value.flow_style:
        # PyYAML ends a block where the next one begins, which is after comments between them.
        last = value.value[-1]
        value = last[1] if isinstance(last, tuple) else last
    end = value.end_mark
    return key.start_mark.line, max(key.start_mark.line, end.line - (end.column == 0)) + 1


@cache
def _loader() -> type[SafeLoader]:
    """Return a loader with the scalars of YAML 1.2 that rejects repeated keys.

    PyYAML follows YAML 1.1 (https://pyyaml.org/wiki/PyYAMLDocumentation), and
    silently keeps the last of repeated keys. It is imported only to read a file.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML requires a class attribute.

        def construct_mapping(
            self, node: yaml.MappingNode, deep: bool = False
        ) -> dict[Hashable, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, Hashable) and key in seen:
                    line = key_node.start_mark.line + 1
                    raise NotYaml(f"line {line}: the key {key!r} is repeated")
                if isinstance(key, Hashable):
                    seen.add(key)
            return super().construct_mapping(node, deep)

    for tag, pattern, first in _SCALARS:
        Loader.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first)
        )
    return Loader


_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
)
"""The scalars of YAML 1.2: (tag, pattern, first characters)."""
