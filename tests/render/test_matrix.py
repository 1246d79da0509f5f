"""The strategy matrix holds what needs publishing, in at most as many jobs as GitHub makes."""

from __future__ import annotations

import pytest

from reconciler.content import cid
from reconciler.index.part import Part
from reconciler.loop.changes import Blocked, Change, PinRoot, Plan, Publish, Repair, StreamVersion
from reconciler.loop.settings import RunOptions
from reconciler.render.workflow import MAX_JOBS, matrix_document

ROOT = cid.hash_block(cid.RAW, b"x")


def plan(*changes: Change) -> Plan:
    return Plan("id", "0" * 64, "0" * 64, RunOptions(), changes)


def publish(version: str, target: str = "store", size: int | None = 10) -> Publish:
    return Publish(
        model="m", version=version, target=target, root=ROOT, label="l", sources=("directory",), size=size
    )


def test_an_entry_is_a_version_with_the_targets_that_lack_it() -> None:
    repair = Repair(model="m", version="2.0.0", target="store", root=ROOT, label="l", sources=("other",))
    found = matrix_document(plan(publish("1.0.0", "b"), publish("1.0.0", "a"), repair))
    assert found == {
        "include": [
            {"name": "m@1.0.0", "only": "m@1.0.0", "targets": ["a", "b"], "bytes": 20},
            {"name": "m@2.0.0", "only": "m@2.0.0", "targets": ["store"], "bytes": 0},
        ]
    }


def test_a_version_that_is_in_a_remote_source_is_an_entry_with_the_size_of_its_files() -> None:
    stream = StreamVersion(
        model="m", version="1.0.0", source="hf:a/b@c", targets=("store", "node"), files=2, size=7
    )
    assert matrix_document(plan(stream)) == {
        "include": [{"name": "m@1.0.0", "only": "m@1.0.0", "targets": ["node", "store"], "bytes": 7}]
    }


def test_what_needs_no_bytes_is_in_no_entry() -> None:
    pin = PinRoot(model="m", version="1.0.0", target="pinning", root=ROOT, label="l")
    assert matrix_document(plan(pin, Blocked(model="m", version="2.0.0"))) == {"include": []}


@pytest.mark.parametrize(("versions", "jobs"), [(MAX_JOBS, MAX_JOBS), (MAX_JOBS + 1, 129), (1000, 250)])
def test_more_versions_than_jobs_share_them_and_none_is_lost(versions: int, jobs: int) -> None:
    found = matrix_document(plan(*(publish(f"1.{number}.0") for number in range(versions))))["include"]
    assert len(found) == jobs <= MAX_JOBS
    refs = [ref for entry in found for ref in entry["only"].split("\n")]
    assert refs == [f"m@1.{number}.0" for number in range(versions)]
    assert found[0]["name"].startswith("m@1.0.0")


def stream(version: str, size: int, *, divisible: bool = True) -> StreamVersion:
    return StreamVersion(
        model="m",
        version=version,
        source="hf:a/b@c",
        targets=("node",),
        files=2,
        size=size,
        divisible=divisible,
    )


def test_with_a_part_size_the_parts_of_larger_versions_are_the_entries() -> None:
    changes = (stream("1.0.0", 10), stream("2.0.0", 11), stream("3.0.0", 99, divisible=False))
    found = matrix_document(plan(*changes, publish("4.0.0", size=99)), 10)
    assert found == {
        "include": [
            {"name": "m@2.0.0 (part 1/2)", "only": "m@2.0.0#1/2", "targets": ["node"], "bytes": 6},
            {"name": "m@2.0.0 (part 2/2)", "only": "m@2.0.0#2/2", "targets": ["node"], "bytes": 6},
        ]
    }


@pytest.mark.parametrize("sizes", [[10_000], [1000] * 300, [1, 10_000, 11]])
def test_parts_become_larger_when_there_would_be_too_many_jobs(sizes: list[int]) -> None:
    changes = (stream(f"1.{number}.0", size) for number, size in enumerate(sizes))
    entries = matrix_document(plan(*changes), 10)["include"]
    assert len(entries) <= MAX_JOBS
    assert all(Part.parse(entry["only"].partition("#")[2]) for entry in entries)
