"""models.lock: the exact versions that a consumer uses, as `fetch --locked` takes them.

A JSON file that people read and git keeps: what was asked for, and what it meant when it was locked. It is
written whole, sorted, and the same for the same index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError, UsageError, Where
from reconciler.index.replace_file import replace_file

NAME = "models.lock"
_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LockEntry:
    """One reference and what it meant. `size` in bytes and `dirhash` are from the version's record, `commit`
    is that of the index's repository; each is None where it was not known.
    """

    requested: str
    model: str
    version: str
    cid: Cid
    size: int | None
    dirhash: str | None
    commit: str | None


def read_lock(path: Path) -> dict[str, LockEntry]:
    """The entries of the lock in `path` by what was asked for.

    Raises UsageError when there is none or it does not hold.
    """
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MAX_BYTES))
        entries = [_entry(entry) for entry in document["models"]]
        if document["schema"] != 1:
            raise ValueError("another schema")
    except FileNotFoundError:
        raise UsageError(f"no {path.name} at {str(path)!r}", hint="`reconcile lock REF` makes one") from None
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise UsageError(
            f"it does not hold ({error})", hint="make it again with `reconcile lock`", where=Where(str(path))
        ) from None
    return {entry.requested: entry for entry in entries}


def write_lock(path: Path, entries: Mapping[str, LockEntry]) -> None:
    """Write the lock whole. Raises OSError."""
    models = [asdict(entry) | {"cid": str(entry.cid)} for _, entry in sorted(entries.items())]
    replace_file(path, (json.dumps({"schema": 1, "models": models}, indent=2) + "\n").encode(), 0o644)


def _entry(entry: Mapping[str, object]) -> LockEntry:
    texts = {name: entry[name] for name in ("requested", "model", "version", "cid")}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} is no text")
    size = entry.get("size")
    if size is not None and not isinstance(size, int):
        raise TypeError("size is no number")
    rest = {name: None if entry.get(name) is None else str(entry[name]) for name in ("dirhash", "commit")}
    return LockEntry(
        requested=str(texts["requested"]),
        model=str(texts["model"]),
        version=str(texts["version"]),
        cid=cids.parse(str(texts["cid"])),
        size=size,
        dirhash=rest["dirhash"],
        commit=rest["commit"],
    )
