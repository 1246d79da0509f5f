"""`reconcile add MODEL VERSION FILE.car`: a CAR is verified before it enters the index."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.content.cid import Cid
from tests.support.command_line import CommandLine
from tests.support.dags import MemoryDag, car_bytes, memory_dag
from tests.support.shapes import bundle as small_chunks

FILES = {"config.json": b"{}", "model.bin": bytes(range(256)) * 4096 + b"end", "sub": {"x": b""}}
LARGE = {f"{number:04}" + "n" * 200: b"same" for number in range(1300)}


def car_of(dag: MemoryDag) -> bytes:
    return car_bytes(dag.layout.root, dag.blocks.items())


@pytest.fixture
def repository(empty: CommandLine) -> CommandLine:
    empty("init", "--id", "acme")
    return empty


def cid_of(repository: CommandLine, ref: str) -> str:
    return repository("resolve", ref).out.strip()


def test_a_car_has_the_cid_of_the_directory_it_was_made_from(repository: CommandLine) -> None:
    repository.write("w/1/model.bin", b"weights")
    repository("add", "llm", "1.0.0", "w/1")
    assert repository().code == 0
    assert repository("export", "llm@1.0.0", "llm.car").code == 0

    done = repository("add", "acme/Other", "v2.0.0", "llm.car")

    assert (done.code, done.out) == (0, "added acme/Other@2.0.0 to releases/index.yaml\n")
    assert f"note: its CID is {cid_of(repository, 'llm@1.0.0')}, every block verified" in done.err
    assert repository().code == 0
    assert cid_of(repository, "acme/Other@2.0.0") == cid_of(repository, "llm@1.0.0")
    assert repository("--dry-run", "--exit-code").code == 0


@pytest.mark.parametrize(
    "source", [FILES, LARGE, {"d": {"none": {}}, "x": b""}], ids=["files", "hamt", "empty"]
)
def test_a_car_of_the_profile_is_accepted(repository: CommandLine, source: dict[str, bytes]) -> None:
    dag = memory_dag(source)
    repository.write("w/packed.car", car_of(dag))
    done = repository("add", "llm", "1.0.0", "w/packed.car", "--json")
    assert done.code == 0, done.err
    assert done.document["path"] == "w/packed.car"


def two_roots(dag: MemoryDag) -> bytes:
    other = Cid(dag.layout.root.codec, bytes(32))
    header = (
        bytes.fromhex("a265726f6f747382") + 2 * (b"\xd8\x2a\x58\x25\x00" + bytes(other)) + b"\x67version\x01"
    )
    return bytes((len(header),)) + header


def without_last(dag: MemoryDag) -> bytes:
    blocks = dict(dag.blocks)
    del blocks[dag.layout.cid(len(dag.layout) - 1)]
    return car_bytes(dag.layout.root, blocks.items())


WRONG: dict[str, tuple[Callable[[MemoryDag], bytes], str]] = {
    "cut": (lambda dag: car_of(dag)[:-1], "truncated"),
    "changed": (lambda dag: car_of(dag)[:-1] + b"?", "hash differs"),
    "block missing": (without_last, "is incomplete"),
    "two roots": (two_roots, "CAR header has 2 roots; exactly one is supported"),
    "version 2": (lambda dag: bytes.fromhex("0aa16776657273696f6e02") + bytes(40), "this is a CARv2"),
    "text": (lambda dag: b"hello, this is not a CAR. " * 9, "not a CAR"),
    "empty": (lambda dag: b"", "not a CAR"),
    "other chunks": (lambda dag: car_of(small_chunks("car")), "is not the one that the CID profile"),
    "one file": (lambda dag: car_of(memory_dag(b"weights")), "is not the one that the CID profile"),
    "no files": (lambda dag: car_of(memory_dag({"d": {}})), "it has no files"),
    "sums that lie": (
        lambda dag: car_of(memory_dag({"a": b"1", "SHA256SUMS": b"0" * 64 + b"  a\n"})),
        "wrong sum for 'a'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_car_is_one_error_and_changes_nothing(repository: CommandLine, case: str) -> None:
    make, says = WRONG[case]
    repository.write("wrong.car", make(memory_dag(FILES)))
    before = repository.files()
    done = repository("add", "llm", "1.0.0", "wrong.car")
    assert done.code in (1, 2)
    error = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert error[0].startswith("error: wrong.car")
    assert says in error[0]
    assert repository.files() == before


def test_what_is_no_car_of_the_repository_gets_advice(repository: CommandLine, tmp_path: Path) -> None:
    repository.write("model.gguf", b"GGUF")
    (tmp_path / "out.car").write_bytes(car_of(memory_dag(FILES)))
    for path, says, hint in (
        ("model.gguf", "is neither a directory nor a CAR file", "give the directory that contains it"),
        ("../out.car", "is outside", "--source-root"),
        ("none.car", "no such directory or CAR file", ""),
    ):
        done = repository("add", "llm", "1.0.0", path)
        assert (done.code, says in done.err, hint in done.err) == (2, True, True)


@pytest.mark.ipfs
def test_a_car_of_kubo_is_accepted_when_it_has_the_profile(
    repository: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPFS_PATH", str(repository.root / "kubo"))
    monkeypatch.setenv("IPFS_TELEMETRY", "off")
    subprocess.run(["ipfs", "init", "--profile", "test"], check=True, capture_output=True)
    repository.write("w/model.bin", b"weights" * 100_000)
    repository.write("w/config.json", b"{}")
    profile = ["--cid-version=1", "--raw-leaves", "--chunker=size-1048576"]
    for name, options in (("profile", profile), ("defaults", [])):
        add = ["ipfs", "add", "-r", "-Q", *options, str(repository.root / "w")]
        root = subprocess.run(add, check=True, capture_output=True, text=True).stdout.strip()
        exported = subprocess.run(["ipfs", "dag", "export", root], check=True, capture_output=True).stdout
        repository.write(f"{name}.car", exported)
    assert repository("add", "llm", "1.0.0", "profile.car").code == 0
    refused = repository("add", "llm", "1.1.0", "defaults.car")
    assert (refused.code, "CID profile" in refused.err) == (1, True)
