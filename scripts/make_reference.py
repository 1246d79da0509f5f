"""Write the tables of docs/index-reference.md from the schemas.

    python scripts/make_reference.py            rewrite the tables
    python scripts/make_reference.py --check    exit 1 if a table is outdated

The markers of a table are `<!-- table: SCHEMA POINTER -->` and `<!-- end -->`; POINTER names an object of the
schema.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from generated_page import PROJECT, update, wants_check

PAGE = PROJECT / "docs" / "index-reference.md"
TABLE = re.compile(r"(<!-- table: (?P<schema>\w+) (?P<pointer>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(name: str, pointer: str) -> str:
    """Render the keys of one object: name, whether it is required, its values and its meaning."""
    schema: Any = json.loads((PROJECT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    node = schema
    for step in pointer.strip("/").split("/"):
        node = node[step] if step else node
    rows = ["| key | takes | meaning |", "|---|---|---|"]
    for key, given in node["properties"].items():
        if key == "kind" and "const" in given:
            continue  # the heading of the section names the kind
        definition = resolved(given, schema)
        needed = " (required)" if key in node.get("required", []) else ""
        rows.append(
            f"| `{key}`{needed} | {takes(definition, schema)} | {definition.get('description', '').strip()} |"
        )
    return "\n".join(rows) + "\n"


def resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return `node` with its `$ref` resolved; keys beside the reference take precedence."""
    if "$ref" not in node:
        return node
    target = resolved(schema["$defs"][node["$ref"].removeprefix("#/$defs/")], schema)
    return target | {key: value for key, value in node.items() if key != "$ref"}


def takes(node: dict[str, Any], schema: dict[str, Any]) -> str:
    """Describe the values that a key takes."""
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "anyOf" in node:
        return " or ".join(takes(resolved(each, schema), schema) for each in node["anyOf"])
    if "then" in node:
        return f"mapping, or {takes(node['else'], schema)}"
    kind = node["type"]
    if kind == "array":
        return f"list of {takes(resolved(node['items'], schema), schema)}"
    if kind == "integer":
        return (
            f"whole number, {node['minimum']} to {node['maximum']:,}" if "maximum" in node else "whole number"
        )
    return {"string": "text", "boolean": "`true`, `false`", "object": "mapping"}[kind]


def main() -> int:
    """Rewrite the page, or compare it."""
    return update(
        PAGE,
        TABLE,
        lambda found: found[1] + table(found["schema"], found["pointer"]) + found[4],
        source="schemas",
        check=wants_check(__doc__ or ""),
    )


if __name__ == "__main__":
    sys.exit(main())
