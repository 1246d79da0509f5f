"""The pieces of a record: from JSON to values and back.

One entry for each way the bundle was cut into CARs; of these, everything a record says must fit together.

`releases/records/<model>/<version>.json`: the immutable facts found at publishing.

The file is schemas/record.schema.json in canonical JSON: keys sorted, two spaces, UTF-8, one newline at
the end. It is checked here by hand, because a run reads one record a version and should not load a schema
library for that; a test holds the two to the same answers.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.content import cid as cids
from reconciler.content import piece_cid
from reconciler.content.car import (
    CarShard,
    RootNaming,
    ShardedCar,
    Sharding,
    parse_car_cid,
    sharding_overhead,
)
from reconciler.errors import DataError, InvalidIndexError, Where
from reconciler.fs import replace_file
from reconciler.index.guarded_yaml import shown
from reconciler.index.model import Record, Version
from reconciler.index.versions import is_version
from reconciler.json_fields import load_json

_MAX_PIECES = 2**53 - 1
_NAMINGS = tuple(naming.value for naming in RootNaming)


def render_pieces(pieces: tuple[ShardedCar, ...]) -> list[dict[str, object]]:
    """The JSON value of `pieces`, in an order of their own."""
    return [
        {
            "max_bytes": each.sharding.max_bytes,
            "roots": each.sharding.naming.value,
            "shards": [
                {"car": str(shard.cid), "size": shard.size, "piece": str(shard.piece)}
                for shard in each.shards
            ],
        }
        for each in in_order(pieces)
    ]


def in_order(pieces: tuple[ShardedCar, ...]) -> tuple[ShardedCar, ...]:
    """`pieces` as a record keeps them."""
    return tuple(sorted(pieces, key=lambda each: (each.sharding.max_bytes, each.sharding.naming.value)))


def piece_difference(old: ShardedCar, new: ShardedCar) -> str:
    """What the first difference of two lists of CARs of one cut is: `old`'s value, not `new`'s."""
    if len(old.shards) != len(new.shards):
        return f"{len(old.shards)} CARs of at most {old.sharding.max_bytes} bytes, not {len(new.shards)}"
    number, was, found = next(
        (n, a, b) for n, (a, b) in enumerate(zip(old.shards, new.shards, strict=True), 1) if a != b
    )
    if was.piece != found.piece:
        return f"CAR {number} of {len(old.shards)} is piece {was.piece}, not {found.piece}"
    return f"CAR {number} of {len(old.shards)} is {was.cid}, not {found.cid}"


def parse_pieces(value: object, car_size: int, where: Where) -> tuple[ShardedCar, ...]:
    """The pieces that the JSON `value` says of a bundle whose one CAR has `car_size` bytes.

    Raises InvalidIndexError, pointing at `where`.
    """
    pieces = tuple(_entry(entry, where) for entry in _list(value, "'pieces'", where))
    if len({each.sharding for each in pieces}) != len(pieces):
        raise InvalidIndexError("'pieces' has one way of cutting twice", where=where)
    for each in pieces:
        size = sum(shard.size for shard in each.shards)
        if size != car_size + sharding_overhead(each.sharding, len(each.shards)):
            raise InvalidIndexError(
                f"{len(each.shards)} CARs of at most {each.sharding.max_bytes} bytes are {size} bytes "
                f"together; a CAR of {car_size} bytes is never cut like that",
                where=where,
            )
    return pieces


def _entry(value: object, where: Where) -> ShardedCar:
    entry = _object(value, ("max_bytes", "roots", "shards"), where)
    if entry["roots"] not in _NAMINGS:
        raise InvalidIndexError(f"'roots' must be one of {', '.join(_NAMINGS)}", where=where)
    cut = Sharding(_count(entry["max_bytes"], "max_bytes", where), RootNaming(entry["roots"]))
    shards = tuple(_shard(shard, cut, where) for shard in _list(entry["shards"], "'shards'", where))
    return ShardedCar(cut, shards)


def _shard(value: object, cut: Sharding, where: Where) -> CarShard:
    fields = _object(value, ("car", "size", "piece"), where)
    size = _count(fields["size"], "size", where)
    try:
        cid, piece = parse_car_cid(str(fields["car"])), piece_cid.parse(str(fields["piece"]))
    except DataError as error:
        raise InvalidIndexError(error.message, hint=error.hint, where=where) from None
    if size > cut.max_bytes or size != piece.size:
        raise InvalidIndexError(
            f"a CAR of {size} bytes does not fit: at most {cut.max_bytes} may be, its piece has {piece.size}",
            where=where,
        )
    return CarShard(cid, size, piece)


def _list(value: object, what: str, where: Where) -> list[object]:
    if not isinstance(value, list) or not value:
        raise InvalidIndexError(f"{what} must be a list that is not empty", where=where)
    return value


def _object(value: object, keys: tuple[str, ...], where: Where) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidIndexError("a JSON object should stand in 'pieces'", where=where)
    for key in sorted(set(keys) ^ value.keys()):
        raise InvalidIndexError(
            f"{'missing' if key in keys else 'unknown'} key {shown(key)} in 'pieces'", where=where
        )
    return value


def _count(value: object, name: str, where: Where) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_PIECES:
        raise InvalidIndexError(f"{name!r} must be a whole number of at least 1", where=where)
    return value


SCHEMA = 1
MAX_RECORD_BYTES = 16 << 20  #: of a record; one CAR of 133 MB takes 250 bytes of it
_MAX_COUNT = 2**53 - 1  # what every JSON reader keeps exactly
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TEXTS = {
    "model": _NAME,
    "version": re.compile(r".{1,64}"),
    "cid": re.compile(r".{1,512}"),
    "dirhash": re.compile(r"[0-9a-f]{64}"),
    "profile": re.compile(r"[a-z0-9][a-z0-9.-]{0,63}"),
}
_COUNTS = {"size": 0, "files": 0, "blocks": 1, "block_bytes": 0, "car_size": 1}


def record_path(records: Path, model: str, version: str) -> Path:
    """Where the record of one version is kept. Raises ValueError for names that could lead elsewhere."""
    if not _NAME.fullmatch(model) or not is_version(version):
        raise ValueError(f"{model!r}@{version!r} cannot name a record")
    return records / model / f"{version}.json"


def render_record(record: Record) -> str:
    """The canonical text of `record`."""
    fields: dict[str, object] = {"schema": SCHEMA, "cid": str(record.cid)}
    fields |= {name: getattr(record, name) for name in (*_TEXTS, *_COUNTS) if name != "cid"}
    if record.pieces:
        fields["pieces"] = render_pieces(record.pieces)
    return json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def load_record(records: Path, model: str, version: str) -> Record | None:
    """The record of one version, None when there is none. Raises InvalidIndexError when it does not hold."""
    path = record_path(records, model, version)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidIndexError("not a regular file", where=Where(str(path)))
        with path.open("rb") as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidIndexError(f"cannot be read: {reason}", where=Where(str(path))) from None
    return record_of(data, str(path), model, version)


def record_of(data: bytes, name: str, model: str, version: str) -> Record:
    """The record of this version in `data`; errors call the file `name`. Raises InvalidIndexError."""
    record = parse_record(data, name)
    if (record.model, record.version) != (model, version):
        raise InvalidIndexError(
            f"the record says it is of {record.model}@{record.version}",
            where=Where(name),
            hint="it was moved or edited",
        )
    return record


def parse_record(data: bytes, name: str) -> Record:
    """The record in `data`; errors call the file `name`. Raises InvalidIndexError."""
    where = Where(name)
    if len(data) > MAX_RECORD_BYTES:
        raise InvalidIndexError(f"a record larger than {MAX_RECORD_BYTES >> 20} MiB", where=where)
    try:
        fields = load_json(data.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise InvalidIndexError(f"not JSON: {error.msg}", where=Where(name, error.lineno)) from None
    except ValueError as error:
        raise InvalidIndexError(f"not a record: {str(error)[:200]}", where=where) from None
    if not isinstance(fields, dict):
        raise InvalidIndexError("not a record: a JSON object should stand here", where=where)
    known = {"schema", *_TEXTS, *_COUNTS}
    for key in sorted(known ^ (fields.keys() - {"pieces"})):
        raise InvalidIndexError(f"{'missing' if key in known else 'unknown'} key {shown(key)}", where=where)
    _check_fields(fields, where)
    try:
        cid = cids.parse_canonical(fields["cid"])
    except DataError as error:
        raise InvalidIndexError(error.message, hint=error.hint, where=where) from None
    pieces = parse_pieces(fields["pieces"], fields["car_size"], where) if "pieces" in fields else ()
    plain = {key: fields[key] for key in (*_TEXTS, *_COUNTS) if key != "cid"}
    return Record(**plain, cid=cid, pieces=pieces)


def _check_fields(fields: dict[str, Any], where: Where) -> None:
    if type(fields["schema"]) is not int or fields["schema"] != SCHEMA:
        raise InvalidIndexError(f"'schema' must be {SCHEMA}", where=where)
    for key, pattern in _TEXTS.items():
        if not isinstance(fields[key], str) or not pattern.fullmatch(fields[key]):
            raise InvalidIndexError(f"{key!r} does not hold: {shown(str(fields[key]))}", where=where)
    for key, least in _COUNTS.items():
        if type(fields[key]) is not int or not least <= fields[key] <= _MAX_COUNT:
            raise InvalidIndexError(f"{key!r} must be a whole number of at least {least}", where=where)
    if not is_version(fields["version"]):
        raise InvalidIndexError(f"{shown(fields['version'])} is not a SemVer 2.0 version", where=where)


def write_record(records: Path, record: Record) -> bool:
    """Keep `record`; False when the same facts were there already.

    Raises InvalidIndexError when the record there says something else (records are immutable), or when its
    directory is a link.
    """
    there = load_record(records, record.model, record.version)
    path = record_path(records, record.model, record.version)
    if there is not None:
        record = joined(there, record, str(path))
    if there == record:
        return False
    for place in (records, path.parent):
        if place.is_symlink():
            hint = "put a directory in its place: what is written stays in the repository"
            raise InvalidIndexError(
                "is a symbolic link and is not written through", hint=hint, where=Where(str(place))
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, render_record(record).encode(), mode=0o644)
    return True


def joined(there: Record, found: Record, name: str) -> Record:
    """The record `there` with the pieces of `found` besides its own: facts are added, never changed.

    Raises InvalidIndexError, naming both values, where the two say different things; the error calls it
    `name`.
    """
    known = {each.sharding: each for each in there.pieces}
    for each in found.pieces:
        if known.setdefault(each.sharding, each) != each:
            raise _contradiction(there, piece_difference(known[each.sharding], each), name)
    if replace(there, pieces=()) != replace(found, pieces=()):
        raise _contradiction(there, _difference(there, found), name)
    return replace(there, pieces=in_order(tuple(known.values())))


def _contradiction(there: Record, difference: str, name: str) -> InvalidIndexError:
    return InvalidIndexError(
        f"the record of {there.model}@{there.version} says {difference}",
        hint="records are immutable: release the changed content as a new version",
        where=Where(name),
    )


def check_record(version: Version, record: Record) -> None:
    """Raise InvalidIndexError when the index and the record name different CIDs for one version."""
    if version.cid is not None and version.cid != record.cid:
        raise InvalidIndexError(
            f"the index says {version.ref} is {version.cid}, its record says {record.cid}",
            hint="published is immutable: restore the CID of the index, or the record, from git history",
            where=version.where,
        )


def _difference(old: Record, new: Record) -> str:
    names = ("cid", *(name for name in (*_COUNTS, *_TEXTS) if name != "cid"))
    changed = [name for name in names if getattr(old, name) != getattr(new, name)]
    return ", ".join(f"{name} {getattr(old, name)}, not {getattr(new, name)}" for name in changed)
