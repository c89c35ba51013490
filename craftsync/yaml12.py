"""YAML with the scalars of version 1.2, and without repeated keys. The only importer of PyYAML.

PyYAML follows YAML 1.1 (https://pyyaml.org/wiki/PyYAMLDocumentation), where
`no` is false, `10:20` is 620 and `2026-11-22` is a date; and of a key that is
given twice it silently keeps the last.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml


class Malformed(Exception):
    """The text is not YAML; the message says where."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML asks for a class attribute.

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                line = key_node.start_mark.line + 1
                raise Malformed(f"line {line}: the key {key!r} is there twice")
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def read(text: str) -> Any:
    """Return the one document in `text` as plain values; raises `Malformed`."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise Malformed(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise Malformed(" ".join(str(error).split())) from error
