"""The kinds of targets, as `schemas/targets.schema.json` declares them.

The schema is the one table of kinds: editors validate against it, the reader of targets.yaml takes from it
which keys are addresses and whole numbers, `targets.open` imports the module that belongs to a kind, and the
index reference is generated from it. A kind `my-kind` is implemented by `reconciler.targets.my_kind`.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.index.declarations import DeclaredKind, declared_kinds


def target_kinds() -> Mapping[str, DeclaredKind]:
    """Return the kinds by name, in the order of the schema."""
    return declared_kinds("targets", "target")


def target_module(kind: str) -> str:
    """Return the name of the module that implements a kind."""
    return f"reconciler.targets.{kind.replace('-', '_')}"
