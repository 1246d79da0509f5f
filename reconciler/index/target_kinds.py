"""The kinds of targets, as `schemas/targets.schema.json` declares them.

The schema is the one table of kinds: editors validate against it, the reader of targets.yaml takes from it
which keys are addresses and whole numbers, `targets.open` imports the module that belongs to a kind, and the
index reference is generated from it. A kind `my-kind` is implemented by `reconciler.targets.my_kind`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from reconciler.index.schemas import schema_text


@dataclass(frozen=True, slots=True)
class TargetKind:
    """One kind: its name, the module that implements it, and the keys, at any depth, by their type."""

    name: str
    module: str
    urls: frozenset[str]
    numbers: frozenset[str]


@cache
def target_kinds() -> Mapping[str, TargetKind]:
    """Return the kinds by name, in the order of the schema."""
    schema: dict[str, Any] = json.loads(schema_text("targets"))
    definitions = schema["$defs"]
    kinds = {}
    for name in definitions["target"]["properties"]["kind"]["enum"]:
        keys = list(_keys(definitions[name], definitions))
        kinds[name] = TargetKind(
            name,
            f"reconciler.targets.{name.replace('-', '_')}",
            frozenset(key for key, value in keys if value.get("$ref") == "#/$defs/url"),
            frozenset(key for key, value in keys if value.get("type") == "integer"),
        )
    return kinds


def _keys(node: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every key of an object of the schema with its definition, also those of nested objects."""
    for key, value in node.get("properties", {}).items():
        yield key, value
        yield from _keys(value, definitions)
        items = value.get("items", {})
        reference = items.get("$ref", "").removeprefix("#/$defs/")
        yield from _keys(definitions[reference] if reference else items, definitions)
