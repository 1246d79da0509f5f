"""Where a new entry goes in a YAML text, and how it is written: block or flow, as its neighbours are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from reconciler.errors import InvalidIndex, Where
from reconciler.index.guarded_yaml import Scalar, implicit_type

Fields = list[tuple[str, "str | Fields"]]  #: keys and values as they are written; nested for a mapping

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+=@-]*")


def quoted(value: str) -> str:
    """`value` in double quotes, as YAML reads it."""
    return json.dumps(value, ensure_ascii=False)


def text_value(value: str) -> str:
    """`value` as a YAML scalar that every reader takes for text: without quotes where that is safe."""
    scalar = Scalar(value)
    scalar.plain = True
    return value if _PLAIN.fullmatch(value) and implicit_type(scalar) is None else quoted(value)


class Document:
    """A guarded YAML text with the places of its nodes. Edits are gathered, and applied by `edited`."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        loader = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
        self._root: Any = yaml.compose(text, Loader=loader)
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._pairs: dict[int, dict[str, tuple[Any, Any]]] = {}  # of mapping nodes already searched
        self._edits: list[tuple[int, int, str]] = []  # start, end, what stands there instead

    def find(self, *path: str) -> Any:
        """The YAML node under the keys `path`, or None."""
        pair = self._pair(path)
        return None if pair is None else pair[1]

    def line_of(self, *path: str) -> int | None:
        """The line of the last key of `path`, from 1, or None."""
        pair = self._pair(path)
        return None if pair is None else pair[0].start_mark.line + 1

    def append(self, mapping: Any, key: str, value: str) -> None:
        """Put `key: value` at the end of a mapping that is not empty."""
        last_key, last_value = mapping.value[-1]
        if mapping.flow_style:
            if all(each.style == '"' for each, _ in mapping.value):
                key, value = quoted(key), quoted(value)
            self._insert(last_value.end_mark.index, f", {key}: {value}")
        else:
            indent = " " * last_key.start_mark.column
            self._insert(self._line_end(_end(last_value)), f"{self._newline}{indent}{key}: {value}")

    def insert(self, path: tuple[str, ...], key: str, fields: Fields, *, after: int) -> None:
        """Put `key` with `fields` into the mapping at `path`, behind its first `after` entries."""
        pair = self._pair(path)
        if pair is None or not isinstance(pair[1], yaml.MappingNode):
            raise InvalidIndex(f"{'.'.join(path)} is not a mapping", where=Where(self._name))
        parent, mapping = pair
        entries = mapping.value
        if not entries and not self._is_in_flow(path):
            self._replace_empty(parent, mapping, key, fields)
        elif not entries:
            self._insert(mapping.end_mark.index - 1, f"{key}: {_flow(fields)}")
        elif mapping.flow_style and after == 0:
            self._insert(entries[0][0].start_mark.index, f"{key}: {_flow(fields)}, ")
        elif mapping.flow_style:
            self._insert(entries[after - 1][1].end_mark.index, f", {key}: {_flow(fields)}")
        else:
            self._insert_block(parent, entries, key, fields, after)

    def edited(self) -> str:
        """The text with all edits."""
        parts, position = [], 0
        for start, end, replacement in sorted(self._edits, key=lambda edit: edit[:2]):
            parts += [self._text[position:start], replacement]
            position = end
        return "".join([*parts, self._text[position:]])

    def _insert_block(
        self, parent: Any, entries: Sequence[Any], key: str, fields: Fields, after: int
    ) -> None:
        neighbour_key, neighbour = entries[max(after - 1, 0)]
        column = neighbour_key.start_mark.column
        if neighbour.flow_style:
            lines = [" " * column + f"{key}: {_flow(fields)}"]
        else:
            lines = self._block(key, fields, column, self._step())
        # At the top it goes right under the parent's key: comments stay with the entries they stand above.
        before = parent.end_mark.index if after == 0 else _end(neighbour)
        self._insert(self._line_end(before), "".join(self._newline + line for line in lines))

    def _replace_empty(self, parent: Any, mapping: Any, key: str, fields: Fields) -> None:
        """Turn `parent: {}` into a block."""
        column, step = parent.start_mark.column, self._step()
        start = mapping.start_mark.index
        if self._text[start - 1] == " ":
            start -= 1
        self._edits.append((start, mapping.end_mark.index, ""))
        lines = self._block(key, fields, column + step, step)
        end = self._line_end(mapping.end_mark.index)
        self._insert(end, "".join(self._newline + line for line in lines))

    def _block(self, key: str, fields: Fields, column: int, step: int) -> list[str]:
        lines = [" " * column + f"{key}:"]
        for name, value in fields:
            if isinstance(value, str):
                lines.append(" " * (column + step) + f"{name}: {value}")
            else:
                lines += self._block(name, value, column + step, step)
        return lines

    def _step(self) -> int:
        """How far this file indents: as its first nested block mapping does, else 2."""
        for key, value in self._root.value:
            if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
                step: int = value.value[0][0].start_mark.column - key.start_mark.column
                return max(step, 1)
        return 2

    def _is_in_flow(self, path: tuple[str, ...]) -> bool:
        return (
            any(self.find(*path[:depth]).flow_style for depth in range(1, len(path))) or self._root.flow_style
        )

    def _pair(self, path: tuple[str, ...]) -> tuple[Any, Any] | None:
        node, pair = self._root, None
        for name in path:
            if not isinstance(node, yaml.MappingNode):
                return None
            pairs = self._pairs.get(id(node))
            if pairs is None:
                pairs = self._pairs[id(node)] = {pair[0].value: pair for pair in node.value}
            pair = pairs.get(name)
            if pair is None:
                return None
            node = pair[1]
        return pair

    def _insert(self, position: int, what: str) -> None:
        self._edits.append((position, position, what))

    def _line_end(self, position: int) -> int:
        """Where the line of `position` ends, before its line break."""
        end = self._text.find("\n", position)
        if end < 0:
            return len(self._text)
        return end - 1 if self._text[end - 1] == "\r" else end


def _flow(fields: str | Fields) -> str:
    if isinstance(fields, str):
        return fields
    return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in fields) + "}"


def _end(node: Any) -> int:
    """Where the text of `node` really ends; a block's own end mark lies behind the comments after it."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)
