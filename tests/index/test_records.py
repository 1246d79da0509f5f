"""A record is immutable, canonical, and never contradicts the index unnoticed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.car import CarCid, CarShard, RootNaming, ShardedCar, Sharding
from reconciler.content.contents import BundleContents, FileEntry
from reconciler.content.manifest import ReleaseInfo
from reconciler.content.patterns import FilePatterns
from reconciler.content.piece_cid import PieceCid, capacity, height_for
from reconciler.errors import InvalidIndexError
from reconciler.index.model import Record
from reconciler.index.records import (
    check_record,
    load_record,
    parse_record,
    record_path,
    records_of,
    records_written,
    render_record,
)
from reconciler.index.schemas import schema_text
from tests.index.samples import SAMPLE, index_of, some_cid

RECORD = Record(
    model="my-llm-7b",
    version="1.2.0",
    cid=some_cid("1.2.0"),
    size=5_000_000,
    files=4,
    blocks=9,
    block_bytes=5_000_400,
    car_size=5_000_900,
    dirhash="ab" * 32,
    profile="unixfs-v1-2025",
)
FIELDS = json.loads(render_record(RECORD))


def write_record(records: Path, record: Record, replaced=()) -> bool:
    """Write one record; return whether its file changed."""
    path = record_path(records, record.model, record.version)
    before = path.read_bytes() if path.exists() else None
    with records_written(records, [record], replaced):
        pass
    return path.read_bytes() != before


def test_a_record_written_is_read_back(tmp_path: Path) -> None:
    assert load_record(tmp_path, "my-llm-7b", "1.2.0") is None
    assert write_record(tmp_path, RECORD) is True
    assert write_record(tmp_path, RECORD) is False
    assert load_record(tmp_path, "my-llm-7b", "1.2.0") == RECORD
    file = tmp_path / "my-llm-7b" / "1.2.0.json"
    assert file == record_path(tmp_path, "my-llm-7b", "1.2.0")
    assert file.read_text() == json.dumps(FIELDS, indent=2, sort_keys=True) + "\n"
    assert os.listdir(file.parent) == ["1.2.0.json"]


def test_another_record_of_the_same_version_is_refused_naming_both(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    before = record_path(tmp_path, "my-llm-7b", "1.2.0").read_bytes()
    with pytest.raises(InvalidIndexError) as caught:
        write_record(tmp_path, replace(RECORD, cid=some_cid("other"), blocks=10))
    for part in (str(some_cid("1.2.0")), str(some_cid("other")), "blocks 9, not 10"):
        assert part in caught.value.message
    assert record_path(tmp_path, "my-llm-7b", "1.2.0").read_bytes() == before


def test_the_layout_of_the_json_text_does_not_matter_to_a_record(tmp_path: Path) -> None:
    path = record_path(tmp_path, "my-llm-7b", "1.2.0")
    path.parent.mkdir()
    path.write_text(json.dumps(FIELDS))
    assert write_record(tmp_path, RECORD) is False
    assert path.read_text() == json.dumps(FIELDS)


def test_a_record_that_contradicts_the_index_is_an_error_naming_both() -> None:
    version = index_of(SAMPLE).models["my-llm-7b"].versions["1.2.0"]
    check_record(version, RECORD)
    with pytest.raises(InvalidIndexError) as caught:
        check_record(version, replace(RECORD, cid=some_cid("other")))
    assert str(version.cid) in caught.value.message
    assert str(some_cid("other")) in caught.value.message
    assert caught.value.where == version.where


def test_a_record_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    path = record_path(tmp_path, "my-llm-7b", "1.2.0")
    path.rename(path.with_name("1.3.0.json"))
    with pytest.raises(InvalidIndexError, match=r"is of my-llm-7b@1\.2\.0"):
        load_record(tmp_path, "my-llm-7b", "1.3.0")


@pytest.mark.parametrize(
    ("model", "version"), [("../x", "1.0.0"), ("m", "../1.0.0"), ("m", "1.0"), ("", "1.0.0")]
)
def test_a_name_that_leads_to_another_directory_has_no_record(
    tmp_path: Path, model: str, version: str
) -> None:
    with pytest.raises(ValueError, match="cannot name a record"):
        record_path(tmp_path, model, version)


BAD = [
    b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"schema": 1}', b'{"schema": 1, "schema": 1}',
    b"9" * 10_000, b" " * (16 << 20) + b"{}",
]  # fmt: skip


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_a_malformed_record_is_one_error(data: bytes) -> None:
    with pytest.raises(InvalidIndexError) as caught:
        parse_record(data, "r.json")
    assert str(caught.value).startswith("r.json")
    assert "\n" not in str(caught.value)


values: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2**54), st.text(max_size=5), st.just([]), st.just({}),
    st.sampled_from(["m", "1.0.0", "ab" * 32, "AB" * 32, str(some_cid("x")), str(some_cid("x")).upper(),
    "QmX"]),
)  # fmt: skip


@given(st.sampled_from([*sorted(FIELDS), "extra"]), values, st.booleans())
def test_the_reader_and_the_schema_accept_the_same_records(key: str, value: object, remove: bool) -> None:
    fields = dict(FIELDS)
    if remove:
        fields.pop(key, None)
    else:
        fields[key] = value
    schema = jsonschema.Draft202012Validator(json.loads(schema_text("record")))
    try:
        parse_record(json.dumps(fields).encode(), "r.json")
        accepted = True
    except InvalidIndexError:
        accepted = False
    assert accepted == schema.is_valid(fields)


# -- pieces --------------------------------------------------------------------------------------------------

EVERY, LAST = Sharding(3_000_000), Sharding(4_000_000, RootNaming.LAST)


def _shard(number: int, size: int) -> CarShard:
    height = height_for(size)
    return CarShard(
        CarCid(bytes([number]) * 32), size, PieceCid(bytes([number]) * 32, height, capacity(height) - size)
    )


BY_EVERY = ShardedCar(EVERY, (_shard(1, 3_000_000), _shard(2, 2_000_959)))
BY_LAST = ShardedCar(LAST, (_shard(3, 4_000_000), _shard(4, 1_000_918)))
WITH_PIECES = replace(RECORD, pieces=(BY_EVERY, BY_LAST))


def test_pieces_are_read_back_in_one_order(tmp_path: Path) -> None:
    assert render_record(replace(RECORD, pieces=(BY_LAST, BY_EVERY))) == render_record(WITH_PIECES)
    assert parse_record(render_record(WITH_PIECES).encode(), "r.json") == WITH_PIECES
    jsonschema.Draft202012Validator(json.loads(schema_text("record"))).validate(
        json.loads(render_record(WITH_PIECES))
    )


def test_pieces_are_added_to_a_record_and_never_removed(tmp_path: Path) -> None:
    assert write_record(tmp_path, RECORD)
    assert write_record(tmp_path, replace(RECORD, pieces=(BY_LAST,)))
    assert not write_record(tmp_path, RECORD)
    assert write_record(tmp_path, replace(RECORD, pieces=(BY_EVERY,)))
    assert load_record(tmp_path, "my-llm-7b", "1.2.0") == WITH_PIECES
    assert not write_record(tmp_path, WITH_PIECES)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            replace(BY_LAST, shards=(_shard(3, 4_000_000), _shard(9, 1_000_918))),
            f"CAR 2 of 2 is piece {_shard(4, 1_000_918).piece}, not {_shard(9, 1_000_918).piece}",
        ),
        (
            replace(BY_LAST, shards=(replace(BY_LAST.shards[0], cid=CarCid(bytes(32))), BY_LAST.shards[1])),
            f"CAR 1 of 2 is {CarCid(bytes([3]) * 32)}, not {CarCid(bytes(32))}",
        ),
        (
            replace(BY_LAST, shards=(*BY_LAST.shards, _shard(5, 100))),
            "2 CARs of at most 4000000 bytes, not 3",
        ),
    ],
)
def test_other_pieces_are_refused_naming_both(tmp_path: Path, other: ShardedCar, said: str) -> None:
    write_record(tmp_path, WITH_PIECES)
    before = record_path(tmp_path, "my-llm-7b", "1.2.0").read_bytes()
    with pytest.raises(InvalidIndexError) as caught:
        write_record(tmp_path, replace(RECORD, pieces=(other,)))
    assert said in caught.value.message
    assert record_path(tmp_path, "my-llm-7b", "1.2.0").read_bytes() == before


def _edits() -> Iterator[Any]:
    """Yield values of `pieces` as edited by hand."""
    for wrong in ([], {}, None, "x", [1], [[]], 7):
        yield wrong
    first, second = json.loads(render_record(WITH_PIECES))["pieces"]
    yield [first, first]
    for key in ("max_bytes", "roots", "shards"):
        yield [{k: v for k, v in first.items() if k != key}, second]
        for wrong in (None, "x", 0, -1, True, [], {}, 1.5, 2**60):
            yield [{**first, key: wrong}, second]
    yield [{**first, "more": 1}]
    yield [{**first, "max_bytes": 2_999_999}]
    yield [{**first, "roots": "last"}]
    shard, rest = first["shards"]
    yield [{**first, "shards": [shard]}]
    yield [{**first, "shards": [shard, shard]}]
    yield [{**first, "shards": [shard, {**rest, "more": 1}]}]
    v1 = str(_shard(1, 3_000_000).piece.v1)
    for key in ("car", "size", "piece"):
        yield [{**first, "shards": [{k: v for k, v in shard.items() if k != key}, rest]}]
        for wrong in (None, "x", 0, True, 3_000_001, 2**60, v1, str(some_cid("x")), [], "b" * 500):
            yield [{**first, "shards": [{**shard, key: wrong}, rest]}]
    for key in ("size", "piece"):  # the CID of another CAR would hold: only its bytes can tell
        yield [{**first, "shards": [{**shard, key: rest[key]}, rest]}]


@pytest.mark.parametrize("edited", list(_edits()), ids=lambda edited: str(edited)[:40])
def test_pieces_edited_by_hand_are_one_clear_error(edited: object) -> None:
    fields = {**json.loads(render_record(WITH_PIECES)), "pieces": edited}
    with pytest.raises(InvalidIndexError) as caught:
        parse_record(json.dumps(fields).encode(), "r.json")
    assert str(caught.value).startswith("r.json")
    assert len(str(caught.value)) < 600


# --- what the bundle was made from, and its files

INPUTS = BundleInputs(ReleaseInfo("old", "1.2.0", "gguf", None), True, FilePatterns(("*.gguf",), ("a b/",)))
CONTENTS = BundleContents((FileEntry("a", 0, some_cid("a")), FileEntry("é/b", 5, some_cid("b"))), ("empty",))
WITH_BUNDLE = replace(RECORD, inputs=INPUTS, contents=CONTENTS)
BUNDLE_FIELDS = json.loads(render_record(WITH_BUNDLE))


def test_a_record_keeps_what_the_bundle_was_made_from(tmp_path: Path) -> None:
    assert write_record(tmp_path, WITH_BUNDLE)
    assert load_record(tmp_path, "my-llm-7b", "1.2.0") == WITH_BUNDLE
    jsonschema.validate(BUNDLE_FIELDS, json.loads(schema_text("record")))
    assert (FIELDS["schema"], BUNDLE_FIELDS["schema"]) == (1, 2)


def test_what_a_bundle_was_made_from_is_added_to_an_old_record_but_never_changed(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert write_record(tmp_path, WITH_BUNDLE)
    renamed = replace(WITH_BUNDLE, inputs=BundleInputs(ReleaseInfo("newer", "1.2.0")), contents=None)
    assert not write_record(tmp_path, renamed)
    assert load_record(tmp_path, "my-llm-7b", "1.2.0") == WITH_BUNDLE


def test_records_are_found_by_their_cid(tmp_path: Path) -> None:
    write_record(tmp_path, WITH_BUNDLE)
    write_record(tmp_path, replace(RECORD, model="other"))
    write_record(tmp_path, replace(RECORD, version="1.3.0", cid=some_cid("1.3.0")))
    (tmp_path / "my-llm-7b" / "damaged.json").write_text(str(RECORD.cid))
    (tmp_path / "my-llm-7b" / "link.json").symlink_to("/etc/passwd")
    assert [r.model for r in records_of(tmp_path, RECORD.cid)] == ["my-llm-7b", "other"]
    assert list(records_of(tmp_path / "nowhere", RECORD.cid)) == []


SOURCED = {"source": "hf:a/b@" + "c" * 40, "kind": "huggingface", "revision": "c" * 40}
SOURCED_FILE = {"path": "a", "size": 1, "sha256": "ab" * 32}


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 1},
        {"schema": 5},
        {"schema": 3, "provenance": []},
        {"schema": 3, "provenance": {"source": "hf:a/b", "kind": "huggingface"}},
        {"schema": 3, "provenance": {**SOURCED, "source": ""}},
        {"schema": 3, "provenance": {**SOURCED, "address": "https://hub.example"}},
        {"schema": 3, "provenance": {**SOURCED, "files": [{"path": "a", "size": 1}]}},
        {"schema": 3, "provenance": {**SOURCED, "files": [{**SOURCED_FILE, "size": -1}]}},
        {"schema": 3, "provenance": {**SOURCED, "files": [{**SOURCED_FILE, "sha256": "AB" * 32}]}},
        {"schema": 3, "provenance": {**SOURCED, "files": [{**SOURCED_FILE, "git": "a" * 64}]}},
        {"schema": 3, "provenance": {**SOURCED, "files": [{**SOURCED_FILE, "lfs": "yes"}]}},
        {"schema": 3, "provenance": {**SOURCED, "files": [{**SOURCED_FILE, "mode": 1}]}},
        {"bundle": []},
        {"bundle": {"model": "m"}},
        {"bundle": {"model": "", "version": "1"}},
        {"bundle": {"model": "m" * 300, "version": "1"}},
        {"bundle": {"model": "m", "version": "1", "cid": "x"}},
        {"bundle": {"model": "m", "version": "1", "hidden": "yes"}},
        {"bundle": {"model": "m", "version": "1", "include": "a"}},
        {"bundle": {"model": "m", "version": "1", "exclude": [1]}},
        {"bundle": {"model": "m", "version": "1", "exclude": ["[a"]}},
        {"bundle": {"model": "m", "version": "1", "exclude": ["a"] * 1001}},
        {"contents": {}},
        {"contents": [{}]},
        {"contents": [{"path": "a", "size": -1, "cid": str(some_cid("a"))}]},
        {"contents": [{"path": "a", "size": 1, "cid": "bafy"}]},
        {"contents": [{"path": "a", "size": 1, "cid": str(some_cid("a")), "mode": 1}]},
        {"contents": [{"path": "a", "size": 1, "cid": str(some_cid("a"))}] * 4097},
        {"empty_directories": [1]},
        {"empty_directories": ["../up"]},
        {"empty_directories": ["a\x00"]},
        {"empty_directories": ["/etc"]},
        {"contents": [{"path": "a//b", "size": 1, "cid": str(some_cid("a"))}]},
        {"contents": [{"path": "a\nb", "size": 1, "cid": str(some_cid("a"))}]},
        {"contents": [{"path": "\ud800", "size": 1, "cid": str(some_cid("a"))}]},
        {"empty_directories": "a"},
    ],
)
def test_a_malformed_bundle_or_list_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidIndexError):
        parse_record(json.dumps(BUNDLE_FIELDS | change).encode(), "r.json")


@pytest.mark.parametrize("link", ["records", "records/Acme", "records/Acme/LLM"])
def test_a_record_is_never_written_through_a_link(tmp_path: Path, link: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidIndexError, match="is a symbolic link"):
        write_record(tmp_path / "records", replace(RECORD, model="Acme/LLM"))
    assert not list((tmp_path / "outside").rglob("*"))
