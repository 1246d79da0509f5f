"""The label file of one root: what the store promises about it, and for whom.

It is the commit point: a CAR without it counts as incomplete. A repair sets `repairing` before the first byte
changes, so a repair that was killed is seen without reading the CAR.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError

_SCHEMA = 1
_MAX_BYTES = 1 << 20
_KEYS = frozenset(("schema", "root", "car_size", "index_size", "labels", "repairing"))


@dataclass(frozen=True, slots=True)
class Entry:
    """What the store promises: the exact bytes of CAR and block index, and the labels, sorted."""

    root: Cid
    car_size: int
    index_size: int
    labels: tuple[str, ...]
    repairing: bool = False

    def to_bytes(self) -> bytes:
        """The file; the same entry always gives the same bytes."""
        content = {
            "schema": _SCHEMA,
            "root": str(self.root),
            "car_size": self.car_size,
            "index_size": self.index_size,
            "labels": list(self.labels),
            "repairing": self.repairing,
        }
        return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def read(path: Path, root: Cid) -> Entry | None:
    """The entry of `root` at `path`, or None when there is none. Raises DataError when it does not hold."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"label file cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise DataError("label file is too large")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError("label file is not JSON") from None
    if not isinstance(content, dict) or content.keys() != _KEYS or content["schema"] != _SCHEMA:
        raise DataError("label file has other fields than this version knows")
    labels, sizes = content["labels"], (content["car_size"], content["index_size"])
    if (
        not isinstance(labels, list)
        or not labels
        or not all(isinstance(label, str) and label for label in labels)
    ):
        raise DataError("label file has no labels, or some that are not text")
    if any(type(size) is not int or size < 0 for size in sizes) or type(content["repairing"]) is not bool:
        raise DataError("label file has a value of the wrong kind")
    if not isinstance(content["root"], str) or cids.parse_canonical(content["root"]) != root:
        raise DataError("label file speaks of another root")
    return Entry(root, *sizes, tuple(labels), content["repairing"])
