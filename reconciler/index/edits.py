"""Edits of `releases/index.yaml` that keep every comment, quote and line end of the rest.

An edit is an insertion at a position that the YAML parser's marks give, in block or flow style as its
neighbours are. No edit is trusted: the new text is read again, must differ from the old one in exactly the
intended fields, and must be a valid index. Text to text, but for `write_edit`.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from reconciler.content.cid import Cid
from reconciler.content.patterns import ALL_FILES, FilePatterns
from reconciler.errors import InvalidIndexError, Where
from reconciler.fs import replace_file
from reconciler.index import guarded_yaml
from reconciler.index.guarded_yaml import YamlScalar, implicit_type, shown
from reconciler.index.load import parse_index
from reconciler.index.names import is_model_name, name_hint, name_key, unportable, version_hint
from reconciler.index.versions import is_version, newest_first

Fields = list[tuple[str, "str | Fields"]]  #: keys and values as they are written; nested for a mapping

NAME = "releases/index.yaml"  #: the name of the file in errors, by default
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+=@-]*")


def quoted(value: str) -> str:
    """Return `value` as a double-quoted YAML scalar."""
    return json.dumps(value, ensure_ascii=False)


def text_value(value: str) -> str:
    """Return `value` as a YAML scalar that every reader takes for text, without quotes where that is safe."""
    scalar = YamlScalar(value)
    scalar.plain = True
    return value if _PLAIN.fullmatch(value) and implicit_type(scalar) is None else quoted(value)


class YamlDocument:
    """A guarded YAML text with the positions of its nodes. Edits are collected, and applied by `edited`."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        loader = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
        self._root: Any = yaml.compose(text, Loader=loader)
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._pairs: dict[int, dict[str, tuple[Any, Any]]] = {}  # of mapping nodes already searched
        self._edits: list[tuple[int, int, str]] = []  # start, end, replacement

    def find(self, *path: str) -> Any:
        """Return the YAML node under the keys `path`, or None."""
        pair = self._pair(path)
        return None if pair is None else pair[1]

    def line_of(self, *path: str) -> int | None:
        """Return the line of the last key of `path`, from 1, or None."""
        pair = self._pair(path)
        return None if pair is None else pair[0].start_mark.line + 1

    def append(self, mapping: Any, key: str, value: str) -> None:
        """Add `key: value` at the end of a mapping that is not empty."""
        last_key, last_value = mapping.value[-1]
        if mapping.flow_style:
            if all(each.style == '"' for each, _ in mapping.value):
                key, value = quoted(key), quoted(value)
            self._insert(last_value.end_mark.index, f", {key}: {value}")
        else:
            indent = " " * last_key.start_mark.column
            self._insert(self._line_end(_end(last_value)), f"{self._newline}{indent}{key}: {value}")

    def insert(self, path: tuple[str, ...], key: str, fields: Fields, *, after: int) -> None:
        """Insert `key` with `fields` into the mapping at `path`, after its first `after` entries.

        Raises InvalidIndexError when `path` is not a mapping.
        """
        pair = self._pair(path)
        if pair is None or not isinstance(pair[1], yaml.MappingNode):
            raise InvalidIndexError(f"{'.'.join(path)} is not a mapping", where=Where(self._name))
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
        """Return the text with all edits."""
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
        # The first entry goes right below the parent's key, so that comments stay above their entries.
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
        """Return the indentation of the first nested block mapping, else 2."""
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
        """Return the end of the line of `position`, before its line break."""
        end = self._text.find("\n", position)
        if end < 0:
            return len(self._text)
        return end - 1 if self._text[end - 1] == "\r" else end


def _flow(fields: str | Fields) -> str:
    if isinstance(fields, str):
        return fields
    return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in fields) + "}"


def _end(node: Any) -> int:
    """Return the end of the text of `node`; the end mark of a block also covers comments after it."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)


def set_cids(text: str, wanted: Mapping[tuple[str, str], Cid], *, name: str = NAME) -> str:
    """Return `text` with a `cid` for each (model, version) of `wanted`, one line or one flow entry each.

    A version that already has this CID is unchanged. Raises InvalidIndexError, with the line, when a version
    is missing or has another CID.
    """
    tree = _plain(guarded_yaml.parse(text, name))
    document = YamlDocument(text, name)
    for (model, version), cid in wanted.items():
        node = document.find("models", model, "versions", version)
        if node is None:
            raise InvalidIndexError(f"{model}@{version} is not in the index", where=Where(name))
        there = tree["models"][model]["versions"][version].setdefault("cid", str(cid))
        if there != str(cid):
            raise InvalidIndexError(
                f"{model}@{version} has the CID {there}, not {cid}",
                hint="a released CID is immutable: release the changed content as a new version",
                where=Where(name, document.line_of("models", model, "versions", version, "cid")),
            )
        if document.find("models", model, "versions", version, "cid") is None:
            document.append(node, "cid", str(cid))
    return _checked(document.edited(), tree, name)


def add_version(
    text: str,
    model: str,
    version: str,
    *,
    path: str | None = None,
    source: str | None = None,
    created_at: str | None = None,
    cid: Cid | None = None,
    hidden: bool = False,
    patterns: FilePatterns = ALL_FILES,
    kind: str | None = None,
    format: str | None = None,  # noqa: A002 (the word of the index)
    license: str | None = None,  # noqa: A002
    name: str = NAME,
) -> str:
    """Return `text` with one more version, and with the model when it is new.

    The version is inserted in the order of its neighbours; newest first where there is no order yet.
    `patterns` are written as its own; `kind`, `format` and `license` describe a new model. Raises
    InvalidIndexError when the version exists, when the model exists with another description, or when the
    result is not a valid index.
    """
    if not is_version(version):
        raise InvalidIndexError(f"{shown(version)} is not a SemVer 2.0 version", hint=version_hint(version))
    tree = _plain(guarded_yaml.parse(text, name))
    document = YamlDocument(text, name)
    about = {"kind": kind, "format": format, "license": license}
    _check_characters({"model": model, "path": path, "source": source, "created_at": created_at, **about})
    _check_new_name(model, tree["models"], name)
    description = {key: value for key, value in about.items() if value is not None}
    body = {
        "path": path,
        "source": source,
        "created_at": created_at,
        "cid": cid and str(cid),
        "hidden": "include" if hidden else None,
    }
    fields: Fields = [
        (key, quoted(value) if key in ("created_at", "source") else text_value(value))
        for key, value in body.items()
        if value
    ]
    entry: dict[str, Any] = {key: value for key, value in body.items() if value}
    for key, texts in (("include", patterns.include), ("exclude", patterns.exclude)):
        if texts:
            fields.append((key, f"[{', '.join(map(quoted, texts))}]"))
            entry[key] = list(texts)
    existing = tree["models"].get(model)
    if existing is None:
        whole: Fields = [(key, text_value(value)) for key, value in description.items()]
        whole.append(("versions", [(quoted(version), fields)]))
        document.insert(("models",), text_value(model), whole, after=len(tree["models"]))
        tree["models"][model] = {**description, "versions": {version: entry}}
        return _checked(document.edited(), tree, name)
    _check_description(existing, model, description, Where(name, document.line_of("models", model)))
    if version in existing["versions"]:
        line = document.line_of("models", model, "versions", version)
        raise InvalidIndexError(
            f"{model}@{version} is already in the index",
            hint="choose the next version",
            where=Where(name, line),
        )
    after = _position(list(existing["versions"]), version)
    document.insert(("models", model, "versions"), quoted(version), fields, after=after)
    existing["versions"][version] = entry
    return _checked(document.edited(), tree, name)


def write_edit(path: Path, old_text: str, new_text: str) -> None:
    """Replace the file by `new_text` atomically if it still is `old_text`; keep its mode.

    Raises FileChangedError when the file changed meanwhile, InvalidIndexError when it is not a regular
    file.
    """
    where = Where(str(path))
    if path.is_symlink():
        raise InvalidIndexError(
            "is a symbolic link, and links are not edited", hint="edit the file it points to", where=where
        )
    guarded_yaml.read(path)  # a regular file of a sane size
    mode = stat.S_IMODE(path.stat().st_mode)
    replace_file(path, new_text.encode(), mode=mode, expected=old_text.encode())


def _position(texts: list[str], version: str) -> int:
    """Return how many of the versions `texts` come before `version`."""
    ascending = newest_first(texts)[::-1]
    order = newest_first([*texts, version])
    if len(texts) > 1 and texts == ascending:
        return order[::-1].index(version)
    if texts == ascending[::-1]:
        return order.index(version)
    return len(texts)  # no order to follow


def _check_new_name(model: str, models: Mapping[str, Any], name: str) -> None:
    """Raise InvalidIndexError for a name that a new model must not have; a name in `models` is kept."""
    if model in models:
        return
    if not is_model_name(model):
        raise InvalidIndexError(f"{shown(model)} is not a model name", hint=name_hint(model))
    if (reason := unportable(model)) is not None:
        raise InvalidIndexError(f"{shown(model)} cannot be a new model: {reason}", hint=name_hint(model))
    for other in models:
        if name_key(other) == name_key(model):
            raise InvalidIndexError(
                f"model {shown(model)} differs from {shown(other)} only by case",
                hint=f"use {other!r}",
                where=Where(name),
            )


def _check_characters(values: Mapping[str, str | None]) -> None:
    """Raise InvalidIndexError for a forbidden character, naming the value instead of the edited index."""
    for key, value in values.items():
        if value is not None and (found := guarded_yaml.forbidden(value)) is not None:
            raise InvalidIndexError(
                f"{key} {shown(value)} has the control character {found!r}", hint="remove it"
            )


def _check_description(there: dict[str, Any], model: str, description: dict[str, str], where: Where) -> None:
    for key, value in description.items():
        if there.get(key, "model" if key == "kind" else None) != value:
            raise InvalidIndexError(
                f"model {model!r} has {key} {there.get(key)!r}, not {value!r}",
                hint=f"leave {key} out, or change it in the index",
                where=where,
            )


def _checked(new_text: str, expected: dict[str, Any], name: str) -> str:
    """Return `new_text` if it is a valid index with exactly the content `expected`; else raise."""
    try:
        content = _plain(guarded_yaml.parse(new_text, name))
    except InvalidIndexError:
        content = None
    if content != expected:
        raise InvalidIndexError(
            "the index is written in a way that cannot be edited safely",
            hint="make this edit by hand",
            where=Where(name),
        )
    parse_index(new_text, Path(name), name=name)
    return new_text


def _plain(node: guarded_yaml.YamlNode) -> Any:
    if isinstance(node, guarded_yaml.YamlMapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, guarded_yaml.YamlSequence):
        return [_plain(item) for item in node]
    return str(node)
