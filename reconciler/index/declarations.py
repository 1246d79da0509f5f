"""What the files that declare names have in common: targets.yaml and sources.yaml.

Each entry has a `kind`; the schema of the file is the one table of kinds, and says which keys are addresses
and whole numbers. No entry contains a secret: it names the environment variable that does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from reconciler.index.guarded_yaml import IndexProblem, YamlMapping, YamlNode, YamlScalar, YamlSequence, shown
from reconciler.index.schemas import as_integer, schema_text

Entry = tuple[str, int, dict[str, YamlNode]]  #: name, line, and keys


_URL = "#/$defs/url"


@dataclass(frozen=True, slots=True)
class DeclaredKind:
    """One kind: its name, and the keys, at any depth, by their type."""

    name: str
    urls: frozenset[str]
    numbers: frozenset[str]


@cache
def declared_kinds(schema_name: str, entry: str) -> Mapping[str, DeclaredKind]:
    """Return the kinds that a schema declares for each `entry`, by name, in the order of the schema."""
    schema: dict[str, Any] = json.loads(schema_text(schema_name))
    definitions = schema["$defs"]
    kinds = {}
    for name in definitions[entry]["properties"]["kind"]["enum"]:
        keys = list(_keys(definitions[name], definitions))
        kinds[name] = DeclaredKind(
            name,
            frozenset(key for key, value in keys if _URL in _references(value)),
            frozenset(key for key, value in keys if "integer" in _types(value)),
        )
    return kinds


def entries(tree: YamlNode, key: str) -> Iterator[Entry]:
    """Yield each entry below `key` that is a mapping with a kind."""
    declared = tree.value(key) if isinstance(tree, YamlMapping) else None
    if isinstance(declared, YamlMapping):
        for name, entry in declared.items():
            if isinstance(entry, YamlMapping) and isinstance(entry.value("kind"), YamlScalar):
                yield name, name.line, {str(key): value for key, value in entry.items()}


def kind_problems(
    declared: Collection[Entry], what: str, kinds: Collection[str], line: int
) -> Iterator[IndexProblem]:
    """Yield a problem for each entry with a kind that is not in `kinds`, or when there is no entry."""
    if not declared:
        yield IndexProblem(line, f"no {what}s", None)
    for name, where, entry in declared:
        if entry["kind"] not in kinds:
            hint = "one of " + ", ".join(kinds)
            yield IndexProblem(where, f"{what} {shown(name)} has an unknown kind", hint)


def path_problems(entry: Mapping[str, YamlNode]) -> Iterator[IndexProblem]:
    """Yield what is wrong with the paths of an entry, which may be absolute."""
    for key in ("path", "spool"):
        path = entry.get(key)
        if isinstance(path, YamlScalar) and (reason := _bad_path(path)):
            yield IndexProblem(path.line, f"{key} {shown(path)} {reason}", None)


def _bad_path(path: str) -> str | None:
    if not path.isprintable():
        return "has a control character"
    if path.startswith("~"):
        return "begins with '~', which is not expanded"
    if ".." in re.split(r"[/\\]", path):
        return "has a '..' part"
    return None


def url_problems(entry: Mapping[str, YamlNode], keys: Collection[str]) -> Iterator[IndexProblem]:
    """Yield problems of addresses: not an HTTP URL, or with a secret. The address itself is never shown."""
    given = ((key, node) for key, node in entry.items() if key in keys)
    for key, url in ((key, each) for key, node in given for each in _scalars(node)):
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            parts, fine = urlsplit(""), False
        if not fine or not url.isprintable() or " " in url or "\\" in url:
            yield IndexProblem(url.line, f"{key!r} is not an http:// or https:// address", None)
        elif parts.username is not None or parts.password is not None or "@" in parts.netloc:
            hint = "set an environment variable to them and name it with token_env (auth: basic)"
            yield IndexProblem(url.line, f"{key!r} has a user name or password in the address", hint)
        elif parts.query or parts.fragment:
            hint = "addresses end with the path; secrets go into the variable that token_env names"
            yield IndexProblem(url.line, f"{key!r} has a query or fragment in the address", hint)


def _scalars(node: YamlNode) -> Iterator[YamlScalar]:
    """Yield a scalar, or the scalars of a sequence."""
    for each in node if isinstance(node, YamlSequence) else (node,):
        if isinstance(each, YamlScalar):
            yield each


def options(entry: Mapping[str, YamlNode], kind: DeclaredKind) -> dict[str, object]:
    """Return the keys of an entry but its kind, typed as the schema types them."""
    return {key: _plain(key, value, kind.numbers) for key, value in entry.items() if key != "kind"}


def _plain(key: str, node: YamlNode, numbers: Collection[str]) -> object:
    """Convert `node` to plain Python values; the scalars of the keys `numbers` become integers."""
    if isinstance(node, YamlMapping):
        return {str(name): _plain(name, value, numbers) for name, value in node.items()}
    if isinstance(node, YamlSequence):
        return [_plain(key, item, numbers) for item in node]
    if key in numbers and (number := as_integer(node)) is not None:
        return number
    return str(node)


def _references(definition: dict[str, Any]) -> tuple[object, object]:
    """Return what a key refers to, and what the items of its list refer to."""
    return definition.get("$ref"), definition.get("items", {}).get("$ref")


def _types(definition: dict[str, Any]) -> tuple[object, object]:
    """Return the type of a key, and that of the items of its list."""
    return definition.get("type"), definition.get("items", {}).get("type")


def _keys(node: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every key of an object of the schema with its definition, also those of nested objects."""
    for key, value in node.get("properties", {}).items():
        yield key, value
        yield from _keys(value, definitions)
        items = value.get("items", {})
        reference = items.get("$ref", "").removeprefix("#/$defs/")
        yield from _keys(definitions[reference] if reference else items, definitions)
