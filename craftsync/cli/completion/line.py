"""The line that is being typed, as the script of a shell hands it over, and what completes it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from craftsync.cli.completion.names import Item


class Plain:
    """What zsh and fish hand over: words without quotes, the last one incomplete."""

    def __init__(self, words: Sequence[str]) -> None:
        *self.words, self.incomplete = words or ("",)
        self._option = _option_before(self.incomplete)

    def line_of(self, item: Item) -> str | None:
        value = self._option + item.value
        if not value.isprintable():
            return None
        return value if item.type == "part" else f"{value}\t{_first_line(item.help)}"


class Bash(Plain):
    """What bash hands over: the line as it was typed, quotes and all.

    readline replaces only what follows the last of COMP_WORDBREAKS, a colon for
    instance, or an open quote; so only that is printed.
    """

    def __init__(self, line: str, breaks: str) -> None:
        words, raw = split(line)
        super().__init__([*words[1:], raw.text])
        self._raw = raw
        self._kept = raw.kept(breaks)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Bash:
        return cls(environment["COMP_LINE"], environment.get("COMP_WORDBREAKS", ""))

    def line_of(self, item: Item) -> str | None:
        value = self._option + item.value
        if not value.isprintable() or not value.startswith(self._kept):
            return None
        rest = self._raw.quoted(value[len(self._kept) :], at_start=not self._kept)
        # An open quote readline closes by itself.
        return rest if item.type == "part" or self._raw.quote else f"{rest} "


class Raw:
    """The last word of a line as it was typed: its text, its open quote, and where each letter came from."""

    def __init__(self) -> None:
        self.text = ""
        self.quote = ""
        self.plain: list[bool] = []
        """For each letter of the text, whether neither quote nor backslash protected it."""
        self.quoted_from = 0
        """How much of the text stood before the open quote."""

    def add(self, letter: str, *, plain: bool) -> None:
        self.text += letter
        self.plain.append(plain)

    def kept(self, breaks: str) -> str:
        """Return the start of the text that readline leaves alone when it completes."""
        if self.quote:
            return self.text[: self.quoted_from]
        ends = [
            at + 1
            for at, letter in enumerate(self.text)
            if self.plain[at] and letter in breaks and not letter.isspace()
        ]
        return self.text[: ends[-1]] if ends else ""

    def quoted(self, text: str, *, at_start: bool) -> str:
        """Return text as it has to be typed after what was."""
        if self.quote == "'":
            return text.replace("'", "'\\''")
        special = '\\"$`' if self.quote else "\\\"'$` \t&|;<>()*?[]{}!#"
        home = 1 if at_start and not self.quote and text.startswith("~/") else 0
        rest = "".join(f"\\{letter}" if letter in special else letter for letter in text[home:])
        if home or self.quote or not text.startswith("~"):
            return text[:home] + rest
        return f"\\{rest}"


def split(line: str) -> tuple[list[str], Raw]:
    """Return the words of a command line, and the last one as it was typed."""
    words: list[str] = []
    raw, started, escaped = Raw(), False, False
    for letter in line:
        if escaped:
            raw.add(letter, plain=False)
            escaped = False
        elif letter == "\\" and raw.quote != "'":
            escaped = started = True
        elif raw.quote:
            if letter == raw.quote:
                raw.quote = ""
            else:
                raw.add(letter, plain=False)
        elif letter in "'\"":
            raw.quote, raw.quoted_from, started = letter, len(raw.text), True
        elif letter.isspace():
            if started:
                words.append(raw.text)
            raw, started = Raw(), False
        else:
            raw.add(letter, plain=True)
            started = True
    return words, raw


def _option_before(word: str) -> str:
    """Return the `--option=` that stands before the value being typed, if one does."""
    return f"{word.partition('=')[0]}=" if word.startswith("--") and "=" in word else ""


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
