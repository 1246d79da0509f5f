"""The guarded YAML reader: a plain subset of YAML, with a line on every node, in linear time.

Refused: anchors, aliases, tags, merge keys, duplicate keys, directives, several documents, block scalars,
tabs, control characters, a byte order mark. Every scalar stays the text that was written (`on`, `1.10` and
dates too); `YamlScalar.plain` marks unquoted ones, for schemas that require booleans or numbers. Source: YAML
1.2; the limits are ours. Events come from libyaml where PyYAML has it, else from its Python parser.

Checks of a file collect `IndexProblem`s, and `raise_for` reports them in one error.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from reconciler.errors import InvalidIndexError, Where

MAX_BYTES = 32 << 20  #: of a whole file
MAX_DEPTH = 16  #: of nested collections
MAX_SCALAR = 4096  #: characters of one scalar

# Besides control characters: line breaks that only YAML knows (editors would count other lines), and marks
# that reorder text.
_FORBIDDEN = re.compile(
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]|\r(?!\n)"
)
_CONFLICT = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
MAX_REPORTED = 10  #: problems in one error
_MAX_SHOWN = 100  # characters of a value in a message


class IndexProblem(NamedTuple):
    """One violation in a file: its line (from 1), a message, and a hint."""

    line: int
    message: str
    hint: str | None = None


def shown(value: str) -> str:
    """Return a value from a file for a message: quoted, escaped, and cut at 100 characters."""
    text = str(value)
    return repr(text) if len(text) <= _MAX_SHOWN else repr(text[:_MAX_SHOWN]) + "..."


def raise_for(problems: Sequence[IndexProblem], file: str) -> None:
    """Raise InvalidIndexError when there are problems: the first one, then the others, one a line."""
    if not problems:
        return
    first, *others = sorted(problems, key=lambda problem: problem.line)
    reported = [f"{Where(file, other.line)}: {other.message}" for other in others[: MAX_REPORTED - 1]]
    if len(others) >= MAX_REPORTED:
        reported.append(f"and {len(others) - MAX_REPORTED + 1} more")
    raise InvalidIndexError(
        "\n".join([first.message, *reported]), hint=first.hint, where=Where(file, first.line)
    )


class YamlScalar(str):
    """A scalar as written, escapes resolved. `line` counts from 1; `plain` is True for an unquoted one."""

    __slots__ = ("line", "plain")
    line: int
    plain: bool


class YamlSequence(list["YamlNode"]):
    """A sequence; `line` is where it begins, from 1."""

    __slots__ = ("line",)
    line: int


class YamlMapping(dict[YamlScalar, "YamlNode"]):
    """A mapping in the order of the file; `line` is where it begins, from 1. Its keys have lines too."""

    __slots__ = ("line",)
    line: int

    def value(self, key: str) -> YamlNode | None:
        """Return the value under `key`, None when it is missing."""
        return self.get(key)  # type: ignore[call-overload,no-any-return]


YamlNode = YamlScalar | YamlSequence | YamlMapping


def read(path: Path, name: str | None = None) -> bytes:
    """Return the bytes of the regular file `path`, at most MAX_BYTES; errors call it `name`.

    Raises InvalidIndexError.
    """
    name = name or str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidIndexError("not a regular file", where=Where(name))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InvalidIndexError("no such file", where=Where(name)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidIndexError(f"cannot be read: {reason.lower()}", where=Where(name)) from None
    if len(data) > MAX_BYTES:
        raise InvalidIndexError(f"larger than {MAX_BYTES >> 20} MiB", where=Where(name))
    return data


def decode(data: bytes, name: str) -> str:
    """Decode `data` as UTF-8, line ends unchanged.

    Raises InvalidIndexError with the line of the first byte or character that is not allowed.
    """
    if len(data) > MAX_BYTES:
        raise InvalidIndexError(f"larger than {MAX_BYTES >> 20} MiB", where=Where(name))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidIndexError(
            f"not UTF-8: byte {data[error.start]:#04x}",
            hint="save the file as UTF-8",
            where=Where(name, line),
        ) from None
    _check_characters(text, name)
    return text


def _check_characters(text: str, name: str) -> None:
    if (found := _FORBIDDEN.search(text)) is None:
        return
    where = Where(name, text.count("\n", 0, found.start()) + 1)
    character = found.group()
    if character == "\t":
        raise InvalidIndexError("tab character is not allowed", hint="use spaces", where=where)
    if character == "\ufeff":
        raise InvalidIndexError(
            "byte order mark (U+FEFF) is not allowed",
            hint="save the file as UTF-8 without a byte order mark",
            where=where,
        )
    raise InvalidIndexError(f"control character {character!r} is not allowed", hint="remove it", where=where)


def forbidden(value: str) -> str | None:
    """Return the first character of `value` that no scalar may contain, None without one.

    These are control characters, line breaks, and marks that reorder text.
    """
    if value.isprintable():
        return None
    found = _FORBIDDEN.search(value) or re.search("\n", value)
    return found.group() if found else None


def parse(text: str, name: str) -> YamlNode:
    """Parse the one document in `text`; errors call the file `name`.

    Raises InvalidIndexError with `file:line`.
    """
    if len(text) > MAX_BYTES:
        raise InvalidIndexError(f"larger than {MAX_BYTES >> 20} MiB", where=Where(name))
    _check_characters(text, name)
    try:
        return _build(_events(text), name)
    except yaml.YAMLError as error:
        raise _not_yaml(error, text, name) from None


def _not_yaml(error: yaml.YAMLError, text: str, name: str) -> InvalidIndexError:
    if conflict := _CONFLICT.search(text):
        line = text.count("\n", 0, conflict.start()) + 1
        return InvalidIndexError(
            "an unresolved merge conflict", hint="resolve it in git", where=Where(name, line)
        )
    if not isinstance(error, yaml.MarkedYAMLError):
        return InvalidIndexError(f"not YAML: {str(error).splitlines()[0]}", where=Where(name))
    mark = error.problem_mark or error.context_mark
    what = " ".join(part for part in (error.context, error.problem) if part)
    line = 1 if mark is None else mark.line + 1
    begins = {"alias": "*", "anchor": "&", "tag": "!"}.get((error.context or "").rpartition(" ")[2])
    hint = f"text that begins with {begins!r} needs quotes" if begins else None
    return InvalidIndexError(f"not YAML: {what or 'cannot be parsed'}", hint=hint, where=Where(name, line))


def _events(text: str) -> Iterator[Any]:
    loader = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
    return yaml.parse(text, Loader=loader)  # type: ignore[no-any-return,no-untyped-call,unused-ignore]


def _build(events: Iterator[Any], name: str) -> YamlNode:
    """Build the tree of one document, without recursion."""
    documents = 0
    root: YamlNode | None = None
    stack: list[YamlMapping | YamlSequence] = []
    top: YamlMapping | YamlSequence | None = None
    key: YamlScalar | None = None  # of the mapping on top, until its value arrives
    node: YamlNode
    for event in events:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            node = _scalar(event, name)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            _refuse_properties(event, name)
            node = YamlMapping() if kind is yaml.MappingStartEvent else YamlSequence()
            node.line = event.start_mark.line + 1
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            stack.pop()
            top, key = (stack[-1] if stack else None), None
            continue
        else:
            documents += _document(event, documents, name)
            continue
        if top is None:
            root = node
        elif type(top) is YamlSequence:
            top.append(node)
        elif key is None:
            key = _key(node, top, name)  # type: ignore[arg-type]
            continue
        else:
            top[key] = node  # type: ignore[call-overload]
            key = None
        if kind is not yaml.ScalarEvent:
            if len(stack) >= MAX_DEPTH:
                raise InvalidIndexError(
                    f"nested deeper than {MAX_DEPTH} levels", where=Where(name, node.line)
                )
            stack.append(node)  # type: ignore[arg-type]
            top, key = node, None  # type: ignore[assignment]
    if root is None:
        raise InvalidIndexError("the file is empty", where=Where(name, 1))
    return root


def _scalar(event: Any, name: str) -> YamlScalar:
    if event.anchor is not None or event.tag is not None:
        _refuse_properties(event, name)
    value = event.value
    scalar = YamlScalar(value)
    scalar.line = event.start_mark.line + 1
    style = event.style
    scalar.plain = not style
    if style:
        if style in "|>":
            raise InvalidIndexError(
                f"block scalar ({style}) is not allowed",
                hint="write the text on one line, in quotes",
                where=Where(name, scalar.line),
            )
        if (found := forbidden(value)) is not None:
            raise InvalidIndexError(
                f"control character {found!r} in a value is not allowed",
                hint="remove it",
                where=Where(name, scalar.line),
            )
    if len(value) > MAX_SCALAR:
        raise InvalidIndexError(
            f"a value longer than {MAX_SCALAR} characters", where=Where(name, scalar.line)
        )
    return scalar


def _key(node: YamlNode, mapping: YamlMapping, name: str) -> YamlScalar:
    where = Where(name, node.line)
    if not isinstance(node, YamlScalar):
        raise InvalidIndexError(
            "a key that is not plain text", hint="keys are names, not lists or mappings", where=where
        )
    if node == "<<":
        raise InvalidIndexError("merge key (<<) is not allowed", hint="write the keys out", where=where)
    if node in mapping:
        first = next(other.line for other in mapping if other == node)
        raise InvalidIndexError(
            f"duplicate key {str(node)!r}",
            hint=f"it is already on line {first}; remove one of them",
            where=where,
        )
    return node


def _document(event: Any, documents: int, name: str) -> int:
    """Return how many documents `event` begins (0 or 1); refuse directives, aliases and a second document."""
    where = Where(name, event.start_mark.line + 1)
    if isinstance(event, yaml.AliasEvent):
        raise InvalidIndexError(
            f"alias (*{event.anchor}) is not allowed",
            hint="write the value out; text that begins with '*' needs quotes",
            where=where,
        )
    if not isinstance(event, yaml.DocumentStartEvent):
        return 0
    if event.version is not None or event.tags:
        raise InvalidIndexError("YAML directive (%) is not allowed", hint="remove it", where=where)
    if documents:
        raise InvalidIndexError(
            "a second YAML document (---) is not allowed", hint="keep one document in the file", where=where
        )
    return 1


def _refuse_properties(event: Any, name: str) -> None:
    where = Where(name, event.start_mark.line + 1)
    if event.anchor is not None:
        raise InvalidIndexError(
            f"anchor (&{event.anchor}) is not allowed",
            hint="write the value out where it is needed; text that begins with '&' needs quotes",
            where=where,
        )
    if event.tag is not None:
        raise InvalidIndexError(
            f"tag ({event.tag[:80]}) is not allowed",
            hint="remove it: values are plain text; text that begins with '!' needs quotes",
            where=where,
        )


# The types that other readers guess for an unquoted scalar, by YAML 1.2 (core schema) and by YAML 1.1 as
# PyYAML implements it.
_IMPLICIT = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z")),
    (
        "a boolean",
        re.compile(r"(?:true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)\Z"),
    ),
    ("a date", re.compile(r"\d{4}-\d\d?-\d\d?(?:[Tt ].*)?\Z")),
    (
        "a number",
        re.compile(
            r"[-+]?(?:0b[01_]+|0o[0-7]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(?::[0-5]?[0-9])*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?"
            r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
        ),
    ),
    ("a special key", re.compile(r"=\Z")),
)
_MAY_BE_IMPLICIT = frozenset("0123456789+-.~=nNtTfFyYoO")


def implicit_type(scalar: YamlScalar) -> str | None:
    """Return the type that other YAML readers guess for an unquoted `scalar` ("a number"); None for text."""
    if not scalar.plain or (scalar and scalar[0] not in _MAY_BE_IMPLICIT):
        return None
    for name, pattern in _IMPLICIT:
        if pattern.match(scalar):
            return name
    return None
