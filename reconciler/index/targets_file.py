"""`releases/targets.yaml`: the definition of each target name.

Addresses are in this file only. It contains no secrets: an entry names the environment variable that
contains one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from reconciler.errors import InvalidIndexError, Where
from reconciler.index import guarded_yaml, schemas
from reconciler.index.declarations import entries, kind_problems, options, path_problems, url_problems
from reconciler.index.guarded_yaml import (
    IndexProblem,
    YamlMapping,
    YamlNode,
    YamlScalar,
    YamlSequence,
    raise_for,
    shown,
)
from reconciler.index.model import Index, TargetSpec
from reconciler.index.target_kinds import target_kinds

DEFAULT_STORE = ".reconcile/store"
REPLICATION_HINT = "min is at least 1 and not above max; -1 for both means every peer"
_PRIVATE = "private"
RESERVED_KINDS = ("filecoin-pin",)  #: known, but not implemented by this version


def load_targets(
    path: Path | None, *, stamp_directory: Path | None = None, name: str | None = None
) -> tuple[TargetSpec, ...]:
    """Return the targets in the file `path`, in its order.

    Without the file (or with None), return one store in DEFAULT_STORE. Raises InvalidIndexError with
    `file:line`; errors call the file `name` and never show what may be a secret.
    """
    return read_targets(path, stamp_directory=stamp_directory, name=name)[0]


def read_targets(
    path: Path | None, *, stamp_directory: Path | None = None, name: str | None = None
) -> tuple[tuple[TargetSpec, ...], bytes]:
    """Return what `load_targets` returns, and the bytes that were parsed; b"" without the file."""
    if path is None or not path.exists():
        where = Where(name or str(path or "releases/targets.yaml"))
        return (TargetSpec("store", "store", {"path": DEFAULT_STORE}, where),), b""
    name = name or str(path)
    data = guarded_yaml.read(path, name)
    tree = guarded_yaml.parse(guarded_yaml.decode(data, name), name)
    key = (
        schemas.stamp_key("targets", hashlib.sha256(data).hexdigest()) if stamp_directory is not None else ""
    )
    stamped = stamp_directory is not None and schemas.is_stamped(stamp_directory, "targets", key)
    if not stamped:
        raise_for(list(_reserved(tree)), name)
        raise_for(schemas.problems("targets", tree), name)
    raise_for(list(_problems(tree)), name)
    if stamp_directory is not None and not stamped:
        schemas.write_stamp(stamp_directory, "targets", key)
    specs = tuple(
        TargetSpec(
            str(target),
            str(entry["kind"]),
            options({k: v for k, v in entry.items() if k != _PRIVATE}, target_kinds()[str(entry["kind"])]),
            Where(name, line),
            private=_is_private(entry),
        )
        for target, line, entry in entries(tree, "targets")
    )
    return specs, data


def check_target_names(index: Index, specs: Collection[TargetSpec]) -> None:
    """Raise InvalidIndexError when a version names a target that `specs` does not define, or that is not
    private although its model is not public.
    """
    names = [spec.name for spec in specs]
    for version in index.versions():
        for target in version.targets:
            if target not in names:
                raise InvalidIndexError(
                    f"{version.ref} names the target {target!r}, which releases/targets.yaml does not define",
                    hint=schemas.suggestion(target, names),
                    where=version.where,
                )
            if not version.public and not next(spec.private for spec in specs if spec.name == target):
                raise InvalidIndexError(
                    f"{version.ref} is not public, and the target {target!r} is not private",
                    hint=f"choose another target, or write `private: true` for {target} in targets.yaml if "
                    "only people you trust can read from it",
                    where=version.where,
                )


def _reserved(tree: YamlNode) -> Iterator[IndexProblem]:
    for target, line, entry in entries(tree, "targets"):
        if entry["kind"] in RESERVED_KINDS:
            yield IndexProblem(
                line,
                f"target {shown(target)}: kind {str(entry['kind'])!r} is not supported by this version",
                "remove it, or update once a later version supports it",
            )


def _problems(tree: YamlNode) -> Iterator[IndexProblem]:
    """Yield the problems that the schema cannot find, or that a forged stamp must not hide."""
    yield from _log_problems(tree)
    declared = list(entries(tree, "targets"))
    yield from kind_problems(declared, "target", target_kinds(), tree.line)
    for _, _, entry in declared:
        kind = target_kinds().get(str(entry["kind"]))
        if kind is None:
            continue
        yield from path_problems(entry)
        yield from _bad_replication(entry)
        private = entry.get(_PRIVATE)
        if private is not None and not (
            isinstance(private, YamlScalar) and schemas.as_boolean(private) is not None
        ):
            yield IndexProblem(getattr(private, "line", 1), f"{_PRIVATE!r} must be true or false", None)
        nodes = entry.get("nodes")
        for part in [entry, *(nodes if isinstance(nodes, YamlSequence) else ())]:
            if isinstance(part, dict):
                yield from url_problems(part, kind.urls)


def _log_problems(tree: YamlNode) -> Iterator[IndexProblem]:
    """Yield what is wrong with the addresses in `log` and `anchor`."""
    for key, places in (("log", "witnesses"), ("anchor", None)):
        node = tree.value(key) if isinstance(tree, YamlMapping) else None
        parts = node.value(places) if places is not None and isinstance(node, YamlMapping) else node
        for part in parts if isinstance(parts, YamlSequence) else (parts,):
            if isinstance(part, YamlMapping):
                yield from url_problems({str(name): value for name, value in part.items()}, ("url", "rpc"))


def _is_private(entry: Mapping[str, YamlNode]) -> bool:
    value = entry.get(_PRIVATE)
    return isinstance(value, YamlScalar) and schemas.as_boolean(value) is True


def _bad_replication(entry: Mapping[str, YamlNode]) -> Iterator[IndexProblem]:
    replication = entry.get("replication")
    if not isinstance(replication, guarded_yaml.YamlMapping):
        return
    low, high = replication.value("min"), replication.value("max")
    if not isinstance(low, YamlScalar) or not isinstance(high, YamlScalar):
        yield IndexProblem(replication.line, "'replication' needs min and max", None)
    elif not is_replication(schemas.as_integer(low), schemas.as_integer(high)):
        text = f"replication of {shown(low)} to {shown(high)} is not possible"
        yield IndexProblem(low.line, text, REPLICATION_HINT)


def is_replication(low: object, high: object) -> bool:
    """Return whether a cluster can keep `low` to `high` copies.

    That is 1 <= low <= high, or -1 for both (every peer).
    """
    if not isinstance(low, int) or not isinstance(high, int):
        return False
    return low == high == -1 or 1 <= low <= high
