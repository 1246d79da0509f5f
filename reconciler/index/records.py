"""Records: the immutable facts found at publishing, in `releases/records/<model>/<version>.json`.

The file follows schemas/record.schema.json in canonical JSON: keys sorted, two spaces, UTF-8, one newline at
the end. It is validated here without the schema library, because a run reads one record a version; a test
compares the two. `pieces` has one entry for each way in which the bundle is sharded into CARs; the facts of
an entry must be consistent with each other and with the size of the bundle.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

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
from reconciler.content.cid import Cid
from reconciler.errors import DataError, InvalidIndexError, LockedError, Where
from reconciler.fs import read_start, replace_file
from reconciler.index.guarded_yaml import shown
from reconciler.index.model import Index, Record, Version
from reconciler.index.names import MODEL_NAME, is_model_name
from reconciler.index.provenance import parse_provenance, render_provenance
from reconciler.index.record_bundle import parse_contents, parse_inputs, render_contents, render_inputs
from reconciler.index.versions import is_version
from reconciler.json_fields import JsonFields, load_json


def records_directory(index_file: Path) -> Path:
    """Return the directory with the records of an index, beside it."""
    return index_file.with_name("records")


def read_records(index: Index, versions: Iterable[Version]) -> dict[str, Record]:
    """Return the records of `versions` without contents, by `model@version`. Raises InvalidIndexError."""
    directory = records_directory(index.file)
    found = {v.ref: load_record(directory, v.model, v.version, with_contents=False) for v in versions}
    return {ref: record for ref, record in found.items() if record is not None}


def records_of(directory: Path, cid: Cid) -> Iterator[Record]:
    """Yield the valid records below `directory` that have `cid`, whichever version they are of."""
    wanted = str(cid).encode()
    for path in sorted(directory.rglob("*.json")):
        try:
            if path.is_symlink() or path.stat().st_size > MAX_RECORD_BYTES:
                continue
            data = path.read_bytes()
            if wanted in data and (record := parse_record(data, str(path))).cid == cid:
                yield record
        except (OSError, InvalidIndexError):
            continue


SCHEMA = 4  #: 1: without `bundle` and `contents`; 2: without `provenance`; 3: not sealed
_ADDED = {1: {"pieces"}, 2: {"pieces", "bundle", "contents", "empty_directories"}}
_ADDED[3] = _ADDED[4] = {*_ADDED[2], "provenance"}
MAX_RECORD_BYTES = 16 << 20  #: of a record; one CAR of 133 MB takes 250 bytes of it
_MAX_COUNT = 2**53 - 1  # what every JSON reader keeps exactly
_TEXTS = {
    "model": MODEL_NAME,
    "version": re.compile(r".{1,64}"),
    "cid": re.compile(r".{1,512}"),
    "dirhash": re.compile(r"[0-9a-f]{64}"),
    "profile": re.compile(r"[a-z0-9][a-z0-9.-]{0,63}"),
}
_COUNTS = {"size": 0, "files": 0, "blocks": 1, "block_bytes": 0, "car_size": 1}
_REQUIRED = {"schema", *_TEXTS, *_COUNTS}
_NAMINGS = tuple(naming.value for naming in RootNaming)


def record_path(records: Path, model: str, version: str) -> Path:
    """Return the path of the record of one version.

    Raises ValueError for names that could lead to another directory.
    """
    return Path(_path_text(records, model, version))


def _path_text(records: Path, model: str, version: str) -> str:
    if not is_model_name(model) or not is_version(version):
        raise ValueError(f"{model!r}@{version!r} cannot name a record")
    return f"{records}/{model}/{version}.json"


# --- reading


def load_record(records: Path, model: str, version: str, *, with_contents: bool = True) -> Record | None:
    """Return the record of one version, None without one. Raises InvalidIndexError when it is invalid.

    Without `with_contents` the lists of files, which few need, are neither checked nor returned.
    """
    path = _path_text(records, model, version)
    try:
        data = read_start(path, MAX_RECORD_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise InvalidIndexError("not a regular file", where=Where(path)) from None
        reason = (error.strerror or str(error)).lower()
        raise InvalidIndexError(f"cannot be read: {reason}", where=Where(path)) from None
    return parse_record_of(model, version, data, path, with_contents=with_contents)


def parse_record_of(
    model: str, version: str, data: bytes, name: str, *, with_contents: bool = True
) -> Record:
    """Parse the record of this version; errors call the file `name`.

    On a file system that ignores case, a model that was renamed by case only still has its records, and takes
    them over: no other model has such a name. Raises InvalidIndexError, also for the record of another
    version.
    """
    record = parse_record(data, name, with_contents=with_contents)
    if record.model != model and record.model.casefold() == model.casefold():
        record = replace(record, model=model)
    if (record.model, record.version) != (model, version):
        raise InvalidIndexError(
            f"the record is of {record.model}@{record.version}, not of {model}@{version}",
            where=Where(name),
            hint="it was moved or edited: move it back, even after a rename, or restore it from history",
        )
    return record


def parse_record(data: bytes, name: str, *, with_contents: bool = True) -> Record:
    """Parse a record; errors call the file `name`. Raises InvalidIndexError."""
    where = Where(name)
    if len(data) > MAX_RECORD_BYTES:
        raise InvalidIndexError(f"a record larger than {MAX_RECORD_BYTES >> 20} MiB", where=where)
    try:
        value = load_json(data.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise InvalidIndexError(f"not JSON: {error.msg}", where=Where(name, error.lineno)) from None
    except ValueError as error:
        raise InvalidIndexError(f"not a record: {str(error)[:200]}", where=where) from None
    fields = JsonFields(value, lambda message: InvalidIndexError(message, where=where))
    schema = fields.number("schema")
    if schema not in _ADDED:
        raise fields.fail(f"'schema' must be 1 to {SCHEMA}")
    _check_keys(fields, _REQUIRED, optional=_ADDED[schema])
    texts, counts = _texts(fields), _counts(fields)
    if not is_version(texts["version"]):
        raise fields.fail(f"{shown(texts['version'])} is not a SemVer 2.0 version")
    try:
        cid = cids.parse_canonical(texts["cid"])
    except DataError as error:
        raise InvalidIndexError(error.message, hint=error.hint, where=where) from None
    found = fields.mapping()
    pieces = parse_pieces(fields.at("pieces"), counts["car_size"]) if "pieces" in found else ()
    return Record(
        model=texts["model"],
        version=texts["version"],
        cid=cid,
        dirhash=texts["dirhash"],
        profile=texts["profile"],
        pieces=pieces,
        inputs=parse_inputs(fields.at("bundle")) if fields.has("bundle") else None,
        contents=parse_contents(fields) if with_contents and fields.has("contents") else None,
        provenance=(
            parse_provenance(fields.at("provenance")) if with_contents and fields.has("provenance") else None
        ),
        **counts,
    )


def parse_pieces(fields: JsonFields, car_size: int) -> tuple[ShardedCar, ...]:
    """Parse the pieces of a bundle whose single CAR has `car_size` bytes.

    Raises the error of `fields` when they are malformed or not consistent.
    """
    pieces = tuple(_sharded_car(entry) for entry in _filled_list(fields))
    if len({each.sharding for each in pieces}) != len(pieces):
        raise fields.fail("'pieces' has two entries with the same 'max_bytes' and 'roots'")
    for each in pieces:
        size = sum(shard.size for shard in each.shards)
        if size != car_size + sharding_overhead(each.sharding, len(each.shards)):
            raise fields.fail(
                f"{len(each.shards)} CARs of at most {each.sharding.max_bytes} bytes have {size} bytes "
                f"together, which does not match the CAR of {car_size} bytes"
            )
    return pieces


def _sharded_car(fields: JsonFields) -> ShardedCar:
    _check_keys(fields, {"max_bytes", "roots", "shards"})
    roots = fields.text("roots")
    if roots not in _NAMINGS:
        raise fields.error(f"one of {', '.join(_NAMINGS)}", "roots")
    sharding = Sharding(_count(fields, "max_bytes", 1), RootNaming(roots))
    shards = tuple(_shard(shard, sharding) for shard in _filled_list(fields.at("shards")))
    return ShardedCar(sharding, shards)


def _shard(fields: JsonFields, sharding: Sharding) -> CarShard:
    _check_keys(fields, {"car", "size", "piece"})
    size = _count(fields, "size", 1)
    try:
        cid, piece = parse_car_cid(fields.text("car")), piece_cid.parse(fields.text("piece"))
    except DataError as error:
        raise fields.fail(f"{fields.path!r}: {error.message}") from None
    if size > sharding.max_bytes or size != piece.size:
        raise fields.fail(
            f"{fields.path!r} has {size} bytes; at most {sharding.max_bytes} are allowed, and its piece has "
            f"{piece.size}"
        )
    return CarShard(cid, size, piece)


def _check_keys(fields: JsonFields, required: set[str], optional: Collection[str] = ()) -> None:
    for key in sorted(required ^ (fields.mapping().keys() - optional)):
        place = f" in {fields.path!r}" if fields.path else ""
        raise fields.fail(f"{'missing' if key in required else 'unknown'} key {shown(key)}{place}")


# These two read the object itself: a run reads thousands of records, and most of the time is spent here.


def _texts(fields: JsonFields) -> dict[str, str]:
    found, texts = fields.mapping(), {}
    for key, pattern in _TEXTS.items():
        text = found[key]
        if not isinstance(text, str):
            raise fields.error("a string", key)
        if not pattern.fullmatch(text):
            raise fields.fail(f"invalid {key!r}: {shown(text)}")
        texts[key] = text
    return texts


def _counts(fields: JsonFields) -> dict[str, int]:
    found, counts = fields.mapping(), {}
    for key, least in _COUNTS.items():
        count = found[key]
        if not isinstance(count, int) or isinstance(count, bool) or not least <= count <= _MAX_COUNT:
            count = _count(fields, key, least)  # raises
        counts[key] = count
    return counts


def _count(fields: JsonFields, key: str, least: int) -> int:
    count = fields.number(key)
    if not least <= count <= _MAX_COUNT:
        raise fields.error(f"a whole number of at least {least}", key)
    return count


def _filled_list(fields: JsonFields) -> list[JsonFields]:
    entries = list(fields.items())
    if not entries:
        raise fields.fail(f"{fields.path!r} is empty")
    return entries


# --- writing


def render_record(record: Record) -> str:
    """Return the canonical text of `record`."""
    schema = 1 if record.inputs is None and record.contents is None else 2
    schema = schema if record.provenance is None else 3
    schema = SCHEMA if record.inputs is not None and record.inputs.sealing is not None else schema
    fields: dict[str, object] = {"schema": schema, "cid": str(record.cid)}
    fields |= {name: getattr(record, name) for name in (*_TEXTS, *_COUNTS) if name != "cid"}
    if record.pieces:
        fields["pieces"] = render_pieces(record.pieces)
    if record.inputs is not None:
        fields["bundle"] = render_inputs(record.inputs)
    if record.contents is not None:
        fields |= render_contents(record.contents)
    if record.provenance is not None:
        fields["provenance"] = render_provenance(record.provenance)
    return json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def render_pieces(pieces: tuple[ShardedCar, ...]) -> list[dict[str, object]]:
    """Return the JSON value of `pieces`, in the order of a record."""
    return [
        {
            "max_bytes": each.sharding.max_bytes,
            "roots": each.sharding.naming.value,
            "shards": [
                {"car": str(shard.cid), "size": shard.size, "piece": str(shard.piece)}
                for shard in each.shards
            ],
        }
        for each in _in_order(pieces)
    ]


@contextmanager
def records_written(
    records: Path, wanted: Sequence[Record], replaced: Collection[Cid] = ()
) -> Iterator[None]:
    """Write records, and undo that when a write or the block fails.

    A record that names one of the CIDs `replaced` was left by a run whose index was never committed, and is
    replaced. Raises InvalidIndexError when another existing record contradicts a wanted one (records are
    immutable), or when its directory is a symbolic link.
    """
    undo: list[Callable[[], object]] = []
    try:
        for record in wanted:
            _write_record(records, record, replaced, undo)
        yield
    except BaseException:
        for step in reversed(undo):
            with suppress(OSError, LockedError):
                step()
        raise


def _write_record(
    records: Path, record: Record, replaced: Collection[Cid], undo: list[Callable[[], object]]
) -> None:
    path = record_path(records, record.model, record.version)
    existing = load_record(records, record.model, record.version)
    if existing is not None and existing.cid not in replaced:
        record = merge_records(existing, record, str(path))
    if existing == record:
        return
    directories = dict.fromkeys((records, records / record.model.partition("/")[0], path.parent))
    for directory in directories:
        if directory.is_symlink():
            raise InvalidIndexError(
                "is a symbolic link, and records are written inside the repository only",
                hint="replace it by a directory",
                where=Where(str(directory)),
            )
    for directory in directories:
        if not directory.exists():
            directory.mkdir(parents=True, exist_ok=True)
            undo.append(directory.rmdir)
    before = path.read_bytes() if existing is not None else None
    if before is None:
        undo.append(partial(path.unlink, missing_ok=True))
    else:
        undo.append(partial(replace_file, path, before, mode=0o644))
    replace_file(path, render_record(record).encode(), mode=0o644)


# --- comparing


def merge_records(existing: Record, found: Record, name: str) -> Record:
    """Return `existing` with the facts of `found` added: facts are added, never changed.

    What the bundle was made from stays as first recorded, since the index may have changed since. Raises
    InvalidIndexError with both values when the two contradict each other; the error calls the file `name`.
    """
    known = {each.sharding: each for each in existing.pieces}
    for each in found.pieces:
        if known.setdefault(each.sharding, each) != each:
            raise _contradiction(existing, piece_difference(known[each.sharding], each), name)
    if _plain(existing) != _plain(found):
        raise _contradiction(existing, _difference(existing, found), name)
    return replace(
        existing,
        pieces=_in_order(tuple(known.values())),
        inputs=existing.inputs or found.inputs,
        contents=existing.contents or found.contents,
        provenance=existing.provenance or found.provenance,
    )


def _plain(record: Record) -> Record:
    """Return `record` with only the facts that every record has."""
    return replace(record, pieces=(), inputs=None, contents=None, provenance=None)


def check_record(version: Version, record: Record) -> None:
    """Raise InvalidIndexError when the index and the record have different CIDs for one version."""
    if version.cid is not None and version.cid != record.cid:
        raise InvalidIndexError(
            f"{version.ref} is {version.cid} in the index and {record.cid} in its record",
            hint="a released CID is immutable: restore the index or the record from the git history",
            where=version.where,
        )


def piece_difference(old: ShardedCar, new: ShardedCar) -> str:
    """Describe the first difference between the CARs of one sharding: "<old>, not <new>"."""
    if len(old.shards) != len(new.shards):
        return f"{len(old.shards)} CARs of at most {old.sharding.max_bytes} bytes, not {len(new.shards)}"
    number, was, found = next(
        (n, a, b) for n, (a, b) in enumerate(zip(old.shards, new.shards, strict=True), 1) if a != b
    )
    if was.piece != found.piece:
        return f"CAR {number} of {len(old.shards)} is piece {was.piece}, not {found.piece}"
    return f"CAR {number} of {len(old.shards)} is {was.cid}, not {found.cid}"


def _difference(old: Record, new: Record) -> str:
    names = ("cid", *(name for name in (*_COUNTS, *_TEXTS) if name != "cid"))
    changed = [name for name in names if getattr(old, name) != getattr(new, name)]
    return ", ".join(f"{name} {getattr(old, name)}, not {getattr(new, name)}" for name in changed)


def _contradiction(existing: Record, difference: str, name: str) -> InvalidIndexError:
    return InvalidIndexError(
        f"the record of {existing.model}@{existing.version} differs from the content: {difference}",
        hint="records are immutable: release the changed content as a new version",
        where=Where(name),
    )


def _in_order(pieces: tuple[ShardedCar, ...]) -> tuple[ShardedCar, ...]:
    """Sort `pieces` as a record keeps them."""
    return tuple(sorted(pieces, key=lambda each: (each.sharding.max_bytes, each.sharding.naming.value)))
