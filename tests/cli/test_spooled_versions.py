"""With `spool`, a target that needs the root first gets its bytes from the disk instead of the source.

The target is a store without its session for leaves.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler import fs
from reconciler.sources.interface import SourceUnavailableError
from reconciler.targets.store.target import StoreTarget
from tests.cli.test_streamed_versions import INDEX
from tests.support.command_line import CommandLine
from tests.support.memory_source import COMMIT, MemorySource
from tests.support.safetensors import safetensors
from tests.support.small_disk import small_disk

MIB = 1 << 20
TARGETS = """\
targets:
  late: {kind: store, path: .reconcile/store}
  store: {kind: store, path: .reconcile/other}
"""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> MemorySource:
    files = {"model.safetensors": safetensors(os.urandom(6 * MIB)), "config.json": b"{}", "a/b.txt": b"text"}
    return MemorySource(files, frozenset({"model.safetensors"})).install(monkeypatch)


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the target `late` one that needs the root before it takes bytes."""
    begin = StoreTarget.ingest
    monkeypatch.setattr(
        StoreTarget,
        "ingest",
        lambda target, *rest: None if target.name == "late" else begin(target, *rest),
    )


def prepare(cli: CommandLine, spool: str = ".reconcile/spool", targets: str = "late") -> Path:
    cli.write("releases/index.yaml", INDEX.format(targets=targets, commit=COMMIT))
    cli.write("releases/targets.yaml", TARGETS)
    if spool:
        cli.write("releases/sources.yaml", f"sources: {{hf: {{kind: huggingface, spool: {spool}}}}}\n")
    return cli.root / spool


def size(source: MemorySource) -> int:
    return sum(map(len, source.files.values()))


def in_sync(cli: CommandLine) -> bool:
    return cli("--dry-run", "--check", "full", "--json").document["items"] == []


def fail_after(offset: int) -> object:
    def fail(path: str, start: int, end: int) -> None:
        if start >= offset:
            raise SourceUnavailableError("hf", "is gone", file=path)

    return fail


def test_without_a_spool_a_target_that_needs_the_root_first_reads_the_source_twice(
    empty: CommandLine, source: MemorySource
) -> None:
    prepare(empty, spool="")
    assert empty("--json").code == 0
    assert source.bytes_read >= 2 * len(source.files["model.safetensors"])
    assert in_sync(empty)


def test_with_a_spool_the_bytes_leave_the_source_once_and_nothing_is_left_on_the_disk(
    empty: CommandLine, source: MemorySource
) -> None:
    spool = prepare(empty)
    done = empty("--json")
    assert done.code == 0, done.out
    assert source.bytes_read <= 1.02 * size(source)
    assert list(spool.iterdir()) == []
    assert in_sync(empty)


def test_a_target_that_takes_leaves_makes_the_spool_unnecessary(
    empty: CommandLine, source: MemorySource
) -> None:
    spool = prepare(empty, targets="late, store")
    assert empty("--json").code == 0
    assert source.bytes_read <= 1.02 * size(source)
    assert not spool.exists()
    assert in_sync(empty)


def test_a_dry_run_makes_no_spool(empty: CommandLine, source: MemorySource) -> None:
    spool = prepare(empty)
    assert empty("--dry-run", "--json").code == 0
    assert not spool.exists()
    assert source.bytes_read == 0


@pytest.mark.parametrize("cached", [True, False])
def test_what_was_identified_is_published_without_the_source(
    empty: CommandLine, source: MemorySource, cached: bool
) -> None:
    spool = prepare(empty)
    assert empty("plan", "--identify", "--json").code == 0
    assert len(list(spool.iterdir())) == 1
    if not cached:
        shutil.rmtree(empty.root / ".reconcile/cache")
    source.bytes_read = 0
    assert empty("--json").code == 0
    assert source.bytes_read < 10_000, source.reads
    assert list(spool.iterdir()) == []
    assert in_sync(empty)


def test_a_source_with_sums_of_its_own_is_published_from_the_spool(
    empty: CommandLine, source: MemorySource
) -> None:
    """To find the spool, the run reads the SHA256SUMS of the source."""
    spool = prepare(empty)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in source.files.items())
    source.files = {**source.files, "SHA256SUMS": sums.encode()}
    assert empty("plan", "--identify", "--json").code == 0
    source.bytes_read = 0
    assert empty("--json").code == 0
    assert source.bytes_read < 10_000, source.reads
    assert list(spool.iterdir()) == []
    assert in_sync(empty)


def test_an_interrupted_pass_is_continued(
    empty: CommandLine, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = prepare(empty)
    monkeypatch.setattr("reconciler.loop.read_ahead.CONNECTIONS_LIMIT", 1)
    monkeypatch.setattr("reconciler.download.source_state._RECOVERY", 0.001)
    source.before_read = fail_after(4 * MIB)  # type: ignore[assignment]
    assert empty("--json").code == 5
    assert len(list(spool.iterdir())) == 1
    source.before_read, source.bytes_read = None, 0
    assert empty("--json").code == 0
    assert source.bytes_read < len(source.files["model.safetensors"]) - 3 * MIB
    assert list(spool.iterdir()) == []
    assert in_sync(empty)


def test_the_spool_stays_until_the_target_has_the_version(empty: CommandLine, source: MemorySource) -> None:
    spool = prepare(empty)
    empty.write(".reconcile/store", "in the way")
    assert empty("--json").code == 5
    (empty.root / ".reconcile/store").unlink()
    assert empty("--json").code == 0
    assert source.bytes_read <= 1.02 * size(source)
    assert list(spool.iterdir()) == []
    assert in_sync(empty)


@pytest.mark.parametrize("cached", [True, False])
def test_a_damaged_spool_costs_the_leaves_that_it_damages(
    empty: CommandLine, source: MemorySource, cached: bool
) -> None:
    spool = prepare(empty)
    assert empty("plan", "--identify", "--json").code == 0
    if not cached:
        shutil.rmtree(empty.root / ".reconcile/cache")
    (file,) = spool.iterdir()
    with file.open("r+b") as opened:
        opened.seek(3 * MIB)
        opened.write(bytes(100))
    source.bytes_read = 0
    done = empty("--json")
    assert done.code == 0, done.out
    assert MIB <= source.bytes_read <= 2 * MIB
    assert in_sync(empty)


def test_sections_of_other_leaves_are_not_taken_for_the_right_ones(
    empty: CommandLine, source: MemorySource
) -> None:
    """Each section in the file is valid; without the cache, only the sums of the file refuse them."""
    spool = prepare(empty)
    assert empty("plan", "--identify", "--json").code == 0
    shutil.rmtree(empty.root / ".reconcile/cache")
    (file,) = spool.iterdir()
    original = dict(source.files)
    source.files = {**original, "model.safetensors": safetensors(os.urandom(6 * MIB))}
    assert empty("plan", "--identify", "--json").code == 0
    (other,) = spool.iterdir()
    assert other.name != file.name, "the other listing has another key, and the older file is gone"
    other.rename(file)
    source.files = original
    shutil.rmtree(empty.root / ".reconcile/cache")
    assert empty("--json").code == 0
    assert in_sync(empty)


def test_a_full_disk_is_one_error_before_anything_is_read(
    empty: CommandLine, source: MemorySource, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", 3) as disk:
        prepare(empty, spool=str(disk.path))
        done = empty("--json")
        assert done.code == 5, done
        (item,) = done.document["items"]
        assert "more bytes" in item["detail"]
        assert str(disk.path) in item["detail"]
        assert "larger disk" in item["hint"]
        assert source.bytes_read < 10_000, "headers, to examine the files"
        disk.grow(20)
        assert empty("--json").code == 0
        assert list(disk.path.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_one_error(
    empty: CommandLine, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(empty)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("reconciler.content.partial_car.write_parts_at", full)
        done = empty("--json")
    assert done.code == 5, done
    assert "no space left in the spool '.reconcile/spool'" in done.document["items"][0]["detail"]
    assert empty("--json").code == 0


@pytest.mark.parametrize("link", [".reconcile", ".reconcile/spool"])
def test_a_spool_behind_a_link_out_of_the_repository_is_refused(
    empty: CommandLine, source: MemorySource, tmp_path: Path, link: str
) -> None:
    prepare(empty, spool="deep/.reconcile/spool")
    outside = tmp_path / "outside"
    outside.mkdir()
    place = empty.root / "deep" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    done = empty("--json")
    assert done.code != 0
    assert "leads outside the repository through the link" in done.out
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_the_file_is_not_followed(
    empty: CommandLine, source: MemorySource, tmp_path: Path
) -> None:
    spool = prepare(empty)
    assert empty("plan", "--identify", "--json").code == 0
    (file,) = spool.iterdir()
    file.unlink()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file.symlink_to(victim)
    shutil.rmtree(empty.root / ".reconcile/cache")
    done = empty("--json")
    assert done.code == 5, done
    assert "cannot write to the spool" in done.document["items"][0]["detail"]
    assert victim.read_text() == "precious"


def test_old_files_are_removed_unless_a_process_has_them(empty: CommandLine, source: MemorySource) -> None:
    spool = prepare(empty)
    spool.mkdir(parents=True)
    names = SimpleNamespace(
        old="0" * 16 + "-" + "0" * 64 + ".spool",
        locked="1" * 16 + "-" + "0" * 64 + ".spool",
        new="2" * 16 + "-" + "0" * 64 + ".spool",
        foreign="notes.txt",
    )
    for name in vars(names).values():
        (spool / name).write_text("x")
        if name != names.new:
            os.utime(spool / name, (time.time() - 8 * 86400,) * 2)
    descriptor = os.open(spool / names.locked, os.O_RDWR)
    try:
        assert fs.try_lock(descriptor)
        assert empty("--json").code == 0
    finally:
        os.close(descriptor)
    assert {path.name for path in spool.iterdir()} == {names.locked, names.new, names.foreign}


@pytest.mark.parametrize(
    ("spool", "message"), [("../x", "has a '..' part"), ("~/x", "not expanded"), ('""', "")]
)
def test_a_spool_that_is_no_path_is_refused_with_its_line(
    empty: CommandLine, spool: str, message: str
) -> None:
    prepare(empty, spool=spool)
    done = empty("--dry-run")
    assert done.code == 2, done
    assert "sources.yaml:1" in done.err
    assert message in done.err
