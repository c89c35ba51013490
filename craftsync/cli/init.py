"""`init` and `config`: add folders and stores to the configuration, print and remove them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from craftsync import linked_folders
from craftsync.cli import Group
from craftsync.cli import params as common
from craftsync.cli.output import say, say_json
from craftsync.config import edit, options, pairs, places
from craftsync.config import file as configuration
from craftsync.config.file import Config, LinkedFolder
from craftsync.config.options import Option, PairOptions
from craftsync.config.pairs import Pair
from craftsync.config.parsers import user_path
from craftsync.config.places import CraftAiLocation, DirectoryLocation, Location, S3Access
from craftsync.core.model import Mode
from craftsync.errors import CraftsyncError, UsageError, nearest
from craftsync.open_store import spelled_out
from craftsync.wording import shown

_of_new_store = common.all_of(
    click.option(
        "--token-env",
        metavar="NAME",
        help="The variable that holds the SDK token of a Craft AI environment.",
    ),
    click.option("--no-test", is_flag=True, help="Do not connect to the store."),
    common.access_options,
)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, metavar="[[NAME] ROOT STORE]"),
    _of_new_store,
)
def init(words: tuple[str, ...], **flags: Any) -> None:
    """Add a folder and its store to the configuration, and print the next steps.

    NAME is the name of the linked folder, by default that of the folder. init
    tests the store first: it lists the store and, if it may write there,
    writes, reads and deletes a small object. Existing entries stay as they
    are. On a terminal, init asks for missing arguments, and asks again if an
    answer is invalid. To add a store without a folder, use config add.

    Replaced and deleted versions of a new folder, and its history, are kept for
    30 days: init sets trash: {keep: 30d} in its entry, and prints so. To keep
    them longer, change it. init sets no limit if the file sets one for all
    folders, or if versions may have been kept before: craftsync has synced this
    folder with this store, another folder is linked to the store, or commands
    have replaced or removed something there.

    \b
    Examples:
      craftsync init
      craftsync init ~/datasets s3://bucket/datasets --profile prod
      craftsync init models ~/work/models ./backup
    """
    questions, old = _questions(flags)
    with _losing_no_answer(questions.accepted):
        _ask(words, questions)
        name, root, store = (questions.accepted[key] for key in ("name", "root", "store"))
        location = questions.location_of(store)
        state_dir = pairs.state_dir_of(common.place_of(flags))
        is_new = linked_folders.is_new(Pair(Path(root), location), questions.known, state_dir)
        entries = edit.new_entries(questions.known, name, root, store, location, is_new=is_new)
        content = edit.with_entries(old, questions.file, entries)
        _make(Path(root))
        _write(questions.file, content, location)
    say(f"{shown(str(questions.file))}: {name} is {shown(root)} with {shown(str(location))}")
    if note := edit.note_on_trash(entries, questions.file):
        say(shown(note))
    for line in _next_steps(name):
        say(line)


def _questions(flags: Mapping[str, Any]) -> tuple[_Questions, str]:
    """Return the checks for the answers, and the current text of the configuration."""
    asked = common.asked_of(flags)
    file, old, known = _configuration(asked)
    edit.refuse_unwritable(file)
    access, token_env = pairs.access_of(asked), flags["token_env"]
    if token_env is not None:
        edit.refuse_variable(token_env)
    return _Questions(file, known, access, token_env, test=not flags["no_test"]), old


def _write(file: Path, content: str, location: Location) -> None:
    """Write the configuration, and create the folder of a directory store if it is missing."""
    if isinstance(location, DirectoryLocation):
        _make(location.path)
    edit.write(file, content)


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        say(f"created {shown(str(folder))}")


@contextmanager
def _losing_no_answer(accepted: Mapping[str, str]) -> Iterator[None]:
    """After an error on a terminal, print the command that continues with the answers given so far."""
    try:
        yield
    except (click.Abort, KeyboardInterrupt, CraftsyncError, OSError):
        keys = ("name", "root", "store") if "store" in accepted else ("root",)
        words = [accepted[key] for key in keys if key in accepted]
        if words and sys.stdin.isatty():
            again = shlex.join(["craftsync", "init", *words])
            say(f"To continue with these answers: {shown(again)}", to_stderr=True)
        raise


def _configuration(asked: PairOptions) -> tuple[Path, str, Config]:
    """Return the configuration file, its text and its content, both empty if it does not exist."""
    file = user_path(asked.get("config") or configuration.default_file())
    if not file.exists():
        return file, "", Config()
    return file, file.read_text("utf-8"), configuration.load(file)


def _ask(words: tuple[str, ...], questions: _Questions) -> None:
    """Collect name, root (absolute) and store; on a terminal, ask for each that is missing or invalid."""
    on_terminal = sys.stdin.isatty()
    if len(words) > len(("name", "root", "store")) or (len(words) < 2 and not on_terminal):
        raise UsageError("A folder and a store are needed.", remedy="Give [NAME] ROOT STORE.")
    name = words[0] if len(words) == 3 else None
    root, store = (*words[-2:], None, None)[:2]
    if not on_terminal:
        root = str(places.absolute(root or ""))
        name = name or edit.name_of(root)
        # Check first what needs no connection.
        questions.refuse_folder_name(name)
    accepted = questions.accepted
    here = shown(os.getcwd())
    question = f"Folder to keep in sync (a relative path starts at {here})"
    root = str(places.absolute(_answer(question, root, questions.refuse_root)))
    accepted["root"] = root
    accepted["store"] = _answer(
        "Store (s3://bucket/prefix, craft-ai://, ./folder, /folder or an environment)",
        store,
        lambda word: questions.refuse_store(word, root),
    )
    default = edit.name_of(root)
    accepted["name"] = _answer("Name", name, questions.refuse_folder_name, default=default)


def _answer(
    question: str,
    given: str | None,
    refuse: Callable[[str], None],
    *,
    default: str | None = None,
) -> str:
    """Return the answer to a question: `given`, or the one typed at a prompt.

    On a terminal, an invalid answer is prompted for again, and earlier answers are kept.
    """
    while True:
        answer: str = click.prompt(question, default, err=True) if given is None else given
        try:
            refuse(answer)
        except CraftsyncError as error:
            if not sys.stdin.isatty():
                raise
            say(f"{error} {error.remedy}".rstrip(), to_stderr=True)
            given, default = None, None if answer == default else default
        else:
            return answer


@dataclass(frozen=True, slots=True)
class _Questions:
    """Checks answers, raises an error with a remedy for invalid ones, and collects the accepted ones."""

    file: Path
    known: Config
    access: S3Access
    token_env: str | None
    test: bool
    accepted: dict[str, str] = field(default_factory=dict)

    def location_of(self, word: str) -> Location:
        """Return the location of a STORE, with the settings that a new environment needs."""
        location = places.resolve(word, self.known, self.access)
        token_env = self.accepted.get("token_env", self.token_env)
        is_new = not edit.is_environment(word, self.known)
        if is_new and isinstance(location, CraftAiLocation):
            if token_env is not None:
                access = replace(location.access, token_env=token_env, token_file=None)
                location = replace(location, access=access)
            return spelled_out(location)
        if self.token_env is not None:
            raise UsageError(
                f"--token-env is for a new Craft AI environment; {word} is not one.",
                remedy="Leave it out; to change an existing environment, edit its token_env in the file.",
            )
        return location

    def refuse_root(self, word: str) -> None:
        edit.refuse_root(word, self.known)
        _refuse_unwanted(places.absolute(word))

    def refuse_store(self, word: str, root: str | None = None) -> None:
        """Raise `CraftsyncError` if it is not a store, overlaps with the folder, or fails its test."""
        self.accepted.pop("token_env", None)
        location = self.location_of(word)
        if root is not None:
            places.refuse_nesting(Path(root), location)
        if isinstance(location, DirectoryLocation):
            edit.refuse_unusable(location.path)
            _refuse_unwanted(location.path)
        if isinstance(location, CraftAiLocation) and not edit.is_environment(word, self.known):
            self._ask_for_token_env(location)
            location = self.location_of(word)
        if self.test and places.exists(location):
            _test(location)

    def _ask_for_token_env(self, location: CraftAiLocation) -> None:
        """Ask for another variable if another environment uses this one; without a terminal, raise `UsageError`."""
        other = edit.with_same_token(location, self.known)
        if other is None or self.token_env is not None:
            return
        if not sys.stdin.isatty():
            edit.refuse_same_token(location, self.known)
        held = f"{location.access.token_env} holds the token of {other}."
        question = f"{held} Variable with the token of this environment"
        self.accepted["token_env"] = _answer(question, None, edit.refuse_variable)

    def refuse_folder_name(self, name: str) -> None:
        edit.refuse_name(name, self.file, self.known.folders, "a folder")

    def refuse_environment_name(self, name: str) -> None:
        edit.refuse_name(name, self.file, self.known.environments, "an environment")


def _refuse_unwanted(folder: Path) -> None:
    """On a terminal, ask whether to create a missing folder; raises `UsageError` if not."""
    if folder.is_dir() or not sys.stdin.isatty():
        return
    if not click.confirm(f"{shown(str(folder))} does not exist. Create it?", True, err=True):
        raise UsageError(f"{folder} does not exist.", remedy="Choose another folder.")


def _test(location: Location) -> None:
    """Test a store and print the findings; raises `CraftsyncError` for the first error."""
    from craftsync.doctor.examination import tried
    from craftsync.doctor.report import Level

    say(f"Testing {shown(str(location))} …", to_stderr=True)
    for finding in tried(location):
        if finding.level is Level.ERROR:
            without = "To add it untested, use --no-test."
            named = "" if str(location) in finding.detail else f"{location}: "
            error = CraftsyncError(
                f"{named}{finding.detail}", remedy=f"{finding.remedy} {without}".lstrip()
            )
            error.exit_code = finding.exit_code
            raise error
        say(f"  {finding.name}: {shown(finding.detail)}", to_stderr=True)
        if finding.level is Level.WARNING:
            say(f"  {shown(finding.remedy)}", to_stderr=True)


def _next_steps(name: str) -> list[str]:
    steps = {
        "doctor": "check this machine and the stores",
        f"sync -n {name}": "print what a first run would do; without -n, do it",
        f"watch {name}": "keep both in sync until Ctrl-C",
        "service install": "keep every folder in sync, in the background",
    }
    width = max(map(len, steps))
    return ["Next:", *(f"  craftsync {step:{width}}  {what}" for step, what in steps.items())]


@click.group(cls=Group)
def config() -> None:
    """Print what is configured, add environments, remove folders and environments.

    \b
    Examples:
      craftsync config list
      craftsync config add dev craft-ai://
      craftsync config show datasets
      craftsync config example > config.yaml
    """


@config.command(cls=common.Command)
@common.all_of(
    click.argument("name"),
    click.argument("store"),
    common.dry_run_option,
    _of_new_store,
)
def add(name: str, store: str, dry_run: bool, **flags: Any) -> None:
    """Add an environment: a name for a store. `craftsync init` adds a store with its folder.

    The store is tested first, as by init. NAME is then a STORE in every
    command, and NAME:FOLDER a folder in it.

    \b
    Examples:
      craftsync config add dev craft-ai://
      craftsync config add prod s3://bucket/datasets --profile prod
      craftsync config add archive /mnt/archive -n
    """
    questions, old = _questions(flags)
    questions.refuse_environment_name(name)
    questions.refuse_store(store)
    location = questions.location_of(store)
    if isinstance(location, CraftAiLocation) and location.folder:
        raise UsageError(
            f"{store} is a folder in an environment.",
            remedy=f"Add the environment, and write {name}:{location.folder} for the folder.",
        )
    file, entry = shown(str(questions.file)), edit.environment_entry(name, location)
    content = edit.with_entries(old, questions.file, entry)
    if dry_run:
        for line in edit.as_lines(entry):
            say(line)
        say(f"This would be added to {file}.")
        return
    _write(questions.file, content, location)
    say(f"{file}: {name} is {shown(str(location))}")


@config.command("list", cls=common.Command)
@common.json_option
def list_(**flags: Any) -> None:
    """List the environments and the linked folders, with their locations.

    \b
    Examples:
      craftsync config list
      craftsync config list --json
    """
    file, _, known = _configuration(common.place_of(flags))
    if not flags["json"]:
        say(f"{shown(str(file))}:" if known.environments else f"Nothing in {shown(str(file))} yet.")
    for name in known.environments:
        address = places.address_of(places.resolve(name, known))
        _print_entry("environment", name, {"address": address}, shown(address), flags)
    for name, folder in known.folders.items():
        store = places.address_of(places.resolve(folder.environment, known))
        facts = {"root": str(folder.root), "environment": folder.environment, "store": store}
        _print_entry("folder", name, facts, shown(f"{folder.root} ⇄ {folder.environment}"), flags)


def _print_entry(
    kind: str, name: str, facts: dict[str, str], line: str, flags: dict[str, Any]
) -> None:
    if flags["json"]:
        say_json({"type": kind, "name": name, **facts})
    else:
        say(f"  {kind:11} {name}  {line}")


@config.command(cls=common.Command)
@common.all_of(click.argument("name"), common.json_option)
def show(name: str, **flags: Any) -> None:
    """Print the keys of a folder or an environment; a line with a default starts with #.

    \b
    Examples:
      craftsync config show datasets
      craftsync config show --json prod
    """
    file, text, known = _configuration(common.place_of(flags))
    content = configuration.read_yaml(text)
    for section in _sections_with(name, file, known):
        keys = content[section][name]
        rows = options.keys("folder")
        is_two_way = (keys.get("mode") or Mode.TWO_WAY) == Mode.TWO_WAY
        if section == "environments":
            rows = (Option("store", "The kind of store."), *options.keys(keys["store"]))
        if not flags["json"]:
            say(f"{section}:")
            say(f"  {edit.in_yaml(name)}:")
        for option in rows:
            given = keys.get(option.name) is not None
            if not given and option.name == "delete" and is_two_way:
                continue  # Two-way mode always transfers deletes.
            value = keys[option.name] if given else option.default
            if flags["json"]:
                facts = {"key": option.name, "value": value, "given": given}
                say_json({"type": section.removesuffix("s"), "name": name, **facts})
            else:
                written = edit.in_yaml(value) if given else value
                say(f"    {'' if given else '# '}{option.name}: {shown(written)}")


@config.command(cls=common.Command)
@click.argument("name")
def remove(name: str, **flags: Any) -> None:
    """Remove a linked folder, or else an environment, from the configuration; its files stay.

    \b
    Examples:
      craftsync config remove datasets
      craftsync config remove prod --config other.yaml
    """
    file, text, known = _configuration(common.place_of(flags))
    section = _sections_with(name, file, known)[0]
    users = [each for each, folder in known.folders.items() if _environment_of(folder) == name]
    if section == "environments" and users:
        raise UsageError(
            f"{name} is the store of {', '.join(users)}.",
            remedy=f"First: {'; '.join(f'craftsync config remove {user}' for user in users)}.",
        )
    edit.write(file, edit.without_entry(text, file, section, name))
    say(f"Removed the {section.removesuffix('s')} {name} from {shown(str(file))}.")
    if section == "folders":
        environment = _environment_of(known.folders[name])
        others = [each for each in known.folders.values() if _environment_of(each) == environment]
        say("A running daemon keeps it in sync until craftsync reload.")
        if len(others) == 1:
            say(f"No other folder uses its environment: craftsync config remove {environment}")


@config.command(cls=common.Command)
def example(**flags: Any) -> None:
    """Print a configuration with every key and its meaning.

    \b
    Examples:
      craftsync config example > config.yaml
    """
    from craftsync.config import reference

    for line in reference.example().splitlines():
        say(line)


def _sections_with(name: str, file: Path, known: Config) -> list[str]:
    """Return the sections with an entry of this name, folders first; raises `UsageError` if there is none."""
    sections = [
        section for section in ("folders", "environments") if name in getattr(known, section)
    ]
    if not sections:
        every = list(dict.fromkeys([*known.folders, *known.environments]))
        raise UsageError(
            f"{name!r} is neither a folder nor an environment of {file}.",
            remedy=f"{nearest(name, every)}Known: {', '.join(every) or 'none'}.",
        )
    return sections


def _environment_of(folder: LinkedFolder) -> str:
    return folder.environment.partition(":")[0]
