"""Commands that read a version's directory whose cached digests are out of date, or that is being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.content.car_dag import open_car
from reconciler.loop import put as put_module
from reconciler.progress import QUIET
from tests.support.command_line import CommandLine
from tests.support.plant import MIB
from tests.support.unnoticed import cache_everything, write_unnoticed

OLD = bytes(3 * MIB)
NEW = bytes(2 * MIB) + b"1" + bytes(MIB - 1)  # differs in a leaf whose block is read from elsewhere
WEIGHTS = "weights/llm/1.0.0/model.safetensors"


@pytest.fixture
def large(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The repository with a file that is worth an entry in the cache, which has one."""
    cache_everything(monkeypatch)
    reconcile.write(WEIGHTS, OLD)
    assert reconcile("--dry-run").code == 0
    return reconcile


def unnoticed(reconcile: CommandLine, data: bytes) -> None:
    write_unnoticed(reconcile.root / ".reconcile/cache/identities", reconcile.root / WEIGHTS, data)


def root_of(car: Path) -> str:
    with open_car(car, QUIET) as dag:
        return str(dag.layout.root)


def identified(reconcile: CommandLine) -> str:
    arguments = ["--model", "llm", "--version", "1.0.0", "--format", "safetensors"]
    arguments += ["--created-at", "2026-05-01T00:00:00Z"]
    return reconcile("identify", "weights/llm/1.0.0", *arguments).out.strip()


def test_verify_reads_what_the_cache_knows(large: CommandLine) -> None:
    large()
    assert large("verify", "llm@1.0.0").code == 0
    unnoticed(large, NEW)
    done = large("verify", "llm@1.0.0")
    assert done.code == 1
    assert "no longer has the published CID" in done.err


def test_the_index_gets_the_cid_of_the_bytes(large: CommandLine) -> None:
    large("--propose", "none")
    unnoticed(large, NEW)
    done = large()
    assert done.code == 0
    assert "changed during the run, identified again: llm@1.0.0" in done.err
    assert large("resolve", "llm@1.0.0").out.strip() == identified(large)


def test_a_saved_plan_is_not_replaced_by_another_one(large: CommandLine) -> None:
    large("plan", "-o", "plan.json")
    unnoticed(large, NEW[::-1])
    done = large("apply", "plan.json")
    assert done.code == 5
    assert "changed after it was scanned" in done.out
    assert large("apply", "plan.json").code == 4  # what was found then is remembered
    assert large("resolve", "llm@1.0.0").code != 0
    assert large("plan", "-o", "plan.json").code == 0
    assert large("apply", "plan.json").code == 0
    assert large("resolve", "llm@1.0.0").out.strip() == identified(large)


def test_export_falls_back_to_the_targets(large: CommandLine) -> None:
    large()
    cid = large("resolve", "llm@1.0.0").out.strip()
    unnoticed(large, b"1" + OLD[1:])
    done = large("export", "llm@1.0.0", "out.car")
    assert done.code == 0
    assert "reading the targets instead" in done.err
    assert done.out.strip() == cid == root_of(large.root / "out.car")


@pytest.mark.parametrize("noticed", [True, False])
def test_pieces_fall_back_to_the_targets(large: CommandLine, noticed: bool) -> None:
    large()
    before = large("pieces", "llm@1.0.0")
    if noticed:
        large.write(WEIGHTS, b"1" + OLD[1:])
    else:
        unnoticed(large, b"1" + OLD[1:])
    after = large("pieces", "llm@1.0.0")
    assert (after.code, after.out) == (0, before.out)


def test_without_a_target_the_directory_is_the_error(large: CommandLine) -> None:
    large()
    unnoticed(large, b"1" + OLD[1:])
    for car in large.cars():
        car.unlink()
    done = large("export", "llm@1.0.0", "out.car")
    assert done.code == 1
    assert "no longer has the published CID" in done.err
    assert not (large.root / "out.car").exists()


def test_put_reads_again_what_changed_while_it_was_sent(
    large: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify = put_module.identify
    times = 0

    def then_write(*arguments: object, **rest: object) -> object:
        nonlocal times
        dag = identify(*arguments, **rest)  # type: ignore[arg-type]
        times += 1
        if times == 1:
            large.write("dataset.bin", b"new" * 9)
        return dag

    large.write("dataset.bin", b"old" * 9)
    monkeypatch.setattr(put_module, "identify", then_write)
    done = large("put", "dataset.bin")
    assert done.code == 0
    assert times == 2
    assert "reading it again" in done.err
    assert large("identify", "--bare", "dataset.bin").out.strip() in done.out
