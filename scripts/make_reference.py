"""Write the tables of docs/index-reference.md from the schemas, so that page and program cannot disagree.

    python scripts/make_reference.py            rewrite the tables
    python scripts/make_reference.py --check    exit 1 when a table is out of date

A table stands between `<!-- table: SCHEMA POINTER -->` and `<!-- end -->`; POINTER leads to an object of the
schema.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "index-reference.md"
TABLE = re.compile(r"(<!-- table: (?P<schema>\w+) (?P<pointer>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(name: str, pointer: str) -> str:
    """The keys of one object: name, whether it must be there, what it takes, what it means."""
    schema: Any = json.loads((PROJECT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    node = schema
    for step in pointer.strip("/").split("/"):
        node = node[step] if step else node
    rows = ["| key | takes | meaning |", "|---|---|---|"]
    for key, given in node["properties"].items():
        if key == "kind" and "const" in given:
            continue  # each section already says its kind
        definition = resolved(given, schema)
        needed = " (required)" if key in node.get("required", []) else ""
        rows.append(
            f"| `{key}`{needed} | {takes(definition, schema)} | {definition.get('description', '').strip()} |"
        )
    return "\n".join(rows) + "\n"


def resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """`node` with its `$ref` followed; what stands beside the reference wins."""
    if "$ref" not in node:
        return node
    target: dict[str, Any] = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return target | {key: value for key, value in node.items() if key != "$ref"}


def takes(node: dict[str, Any], schema: dict[str, Any]) -> str:
    """In words, what values a key takes."""
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    wanted = TABLE.sub(lambda found: found[1] + table(found["schema"], found["pointer"]) + found[4], text)
    if wanted == text:
        return 0
    if check:
        print(f"error: {PAGE.relative_to(PROJECT)} differs from the schemas", file=sys.stderr)
        print("hint: python scripts/make_reference.py rewrites it", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
