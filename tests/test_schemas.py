"""Every printed JSON document has a schema for its kind, and every schema is valid."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

PROJECT = Path(__file__).parents[1]
SCHEMAS = {path.name.removesuffix(".schema.json"): path for path in (PROJECT / "schemas").iterdir()}
#: formats of files, and a list; these have no kind
WITHOUT_KIND = {"config", "index", "targets", "sources", "record", "pieces"}


def kinds(source: str) -> Iterator[str]:
    """Yield the kinds of the documents that a module makes: of dictionaries with `schema` and `kind`, of
    calls of `_document(kind, …)` in render.documents, and of dictionaries changed by `update(kind=…)`.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Dict():
                entries = dict(zip(map(_constant, node.keys), map(_constant, node.values), strict=True))
                if "schema" in entries and entries.get("kind"):
                    yield str(entries["kind"])
            case ast.Call(func=ast.Name(id="_document"), args=[kind]):
                yield str(_constant(kind))
            case ast.Call(func=ast.Attribute(attr="update")):
                yield from (str(_constant(given.value)) for given in node.keywords if given.arg == "kind")


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def test_every_document_has_a_schema_and_every_schema_a_document() -> None:
    made = {kind for path in (PROJECT / "reconciler").rglob("*.py") for kind in kinds(path.read_text())}
    assert made | WITHOUT_KIND == SCHEMAS.keys()


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_and_has_its_own_name(name: str) -> None:
    schema: dict[str, Any] = json.loads(SCHEMAS[name].read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:model-reconciler:schema:{name}:1"
    assert schema["title"]
    if name not in WITHOUT_KIND:
        assert schema["properties"]["kind"] == {"const": name}
        assert {"schema", "kind"} <= set(schema["required"])
        closed = {schema.get("additionalProperties"), schema.get("unevaluatedProperties")}
        assert False in closed, "an unknown key would pass"
