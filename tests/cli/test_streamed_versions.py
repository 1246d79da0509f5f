"""A version with a `source:` goes from its source to the targets in one pass."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator

import pytest

from reconciler.sources.interface import ListedFile, SourceUnavailableError
from tests.support.command_line import CommandLine
from tests.support.memory_source import COMMIT, MemorySource
from tests.support.safetensors import safetensors

INDEX = """\
schema: 1
id: acme
defaults: {{targets: [{targets}]}}
models:
  llm:
    format: safetensors
    license: Apache-2.0
    versions:
      "1.0.0":
        source: "hf:acme/llm@{commit}"
        created_at: "2026-05-01T00:00:00Z"
"""

TARGETS = """\
targets:
  store: {kind: store, path: .reconcile/store}
  second: {kind: store, path: .reconcile/second}
"""


def files(size: int = 6 << 20) -> dict[str, bytes]:
    return {
        "model.safetensors": safetensors(os.urandom(size)),
        "config.json": b"{}",
        "onnx/a.txt": b"text",
        ".gitattributes": b"*.safetensors filter=lfs\n",
    }


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> MemorySource:
    return MemorySource(files(), frozenset({"model.safetensors"})).install(monkeypatch)


def prepare(cli: CommandLine, targets: str = "store") -> None:
    cli.write("releases/index.yaml", INDEX.format(targets=targets, commit=COMMIT))
    if targets != "store":
        cli.write("releases/targets.yaml", TARGETS)


def test_a_version_is_streamed_recorded_and_then_in_sync(empty: CommandLine, source: MemorySource) -> None:
    prepare(empty)
    planned = empty("--dry-run", "--json").document
    (item,) = planned["items"]
    assert (item["change"], item["cid"], item["reason"]) == ("stream", None, "CID after reading")
    assert item["bytes"] == sum(len(data) for path, data in source.files.items() if path[0] != ".")
    assert source.bytes_read == 0
    done = empty("--json")
    assert done.code == 0, done
    assert {item["change"] for item in done.document["items"]} == {"stream", "resolve-cid", "write-record"}
    assert source.bytes_read <= 1.02 * item["bytes"]
    again = empty("--dry-run", "--json").document
    assert again["items"] == []
    assert again["summary"]["in_sync"] == 1


def test_the_bytes_leave_the_source_once_for_two_targets(empty: CommandLine, source: MemorySource) -> None:
    prepare(empty, "store, second")
    done = empty("--json")
    assert done.code == 0, done
    assert source.bytes_read <= 1.02 * sum(map(len, source.files.values()))
    stores = [
        sorted(path.name for path in (empty.root / f".reconcile/{name}/cars").iterdir())
        for name in ("store", "second")
    ]
    assert stores[0] == stores[1] != []
    assert empty("--dry-run", "--check", "full", "--json").document["items"] == []


def test_the_same_files_in_a_directory_have_the_same_cid(empty: CommandLine, source: MemorySource) -> None:
    prepare(empty)
    assert empty("--json").code == 0
    for path, data in source.files.items():
        empty.write(f"local/{path}", data)
    text = INDEX.format(targets="store", commit=COMMIT)
    streamed = cid_in_index(empty)
    line = next(line for line in text.splitlines() if "source:" in line)
    empty.write("releases/index.yaml", text.replace(line, "        path: local"))
    (empty.root / "releases/records/llm/1.0.0.json").unlink()
    assert empty("--json").code == 0
    assert cid_in_index(empty) == streamed


def cid_in_index(cli: CommandLine) -> str:
    text = (cli.root / "releases/index.yaml").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.strip().startswith("cid:"))


@pytest.mark.parametrize("path", ["model.safetensors", "config.json", "onnx/a.txt"])
def test_bytes_that_the_source_did_not_commit_to_are_an_error_that_names_the_file(
    empty: CommandLine, source: MemorySource, path: str
) -> None:
    prepare(empty)
    data = source.files[path]
    source.served[path] = data[:-1] + bytes([data[-1] ^ 1])
    before = (empty.root / "releases/index.yaml").read_bytes()
    done = empty("--json")
    assert done.code == 5, done
    (item,) = done.document["items"]
    assert (item["change"], item["state"]) == ("stream", "failed")
    assert repr(path) in item["detail"]
    assert "nothing was published" in item["hint"]
    assert (empty.root / "releases/index.yaml").read_bytes() == before
    assert empty.cars() == []
    del source.served[path]
    assert empty("--json").code == 0
    assert empty("--dry-run", "--check", "full", "--json").document["items"] == []


def test_a_source_that_ends_early_publishes_nothing(
    empty: CommandLine, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It states no digests, and the memory in which the end is missing was used before."""
    prepare(empty)
    source.known = False
    read = source.read

    def short(file: ListedFile, start: int = 0, length: int | None = None) -> Generator[bytes, None, None]:
        pieces = list(read(file, start, length))
        yield from pieces[:-1] if start else pieces

    monkeypatch.setattr(source, "read", short)
    done = empty("--json")
    assert done.code == 5, done
    assert "'model.safetensors' came with" in done.document["items"][0]["detail"]
    assert empty.cars() == []


def test_an_interrupted_run_resumes_inside_a_file(
    empty: CommandLine, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(empty)
    monkeypatch.setattr("reconciler.loop.read_ahead.CONNECTIONS_LIMIT", 1)
    monkeypatch.setattr("reconciler.download.source_state._RECOVERY", 0.001)
    weights = len(source.files["model.safetensors"])

    def fail(path: str, start: int, end: int) -> None:
        if start >= 4 << 20:
            raise SourceUnavailableError("hf", "is gone", file=path)

    source.before_read = fail
    done = empty("--json")
    assert done.code == 5, done
    assert "is gone" in done.document["items"][0]["detail"]
    source.before_read = None
    source.bytes_read = 0
    done = empty("--json")
    assert done.code == 0, done
    assert source.bytes_read < weights - (3 << 20)
    assert empty("--dry-run", "--check", "full", "--json").document["items"] == []


def test_a_version_that_is_not_merged_yet_is_not_read_again(empty: CommandLine, source: MemorySource) -> None:
    prepare(empty)
    assert empty("--propose", "none", "--json").code == 0
    source.bytes_read = 0
    planned = empty("--dry-run", "--json").document
    assert {(item["change"], item["state"]) for item in planned["items"]} == {
        ("resolve-cid", "planned"),
        ("write-record", "planned"),
    }
    assert source.bytes_read == 0


@pytest.mark.parametrize("cached", [True, False])
def test_a_damaged_version_is_repaired_from_its_source(
    empty: CommandLine, source: MemorySource, cached: bool
) -> None:
    prepare(empty)
    assert empty("--json").code == 0
    (car,) = empty.cars()
    data = bytearray(car.read_bytes())
    data[len(data) // 2] ^= 1
    car.write_bytes(data)
    if not cached:
        shutil.rmtree(empty.root / ".reconcile/cache")
    source.bytes_read = 0
    done = empty("--check", "full", "--json")
    assert done.code == 0, done
    (item,) = done.document["items"]
    assert (item["change"], item["sources"], item["state"]) == ("repair", ["source"], "applied")
    assert source.bytes_read <= (1 << 20 if cached else sum(map(len, source.files.values())) + (2 << 20))
    assert empty("--dry-run", "--check", "full", "--json").document["items"] == []


def test_a_lost_version_is_streamed_again_and_must_have_its_cid(
    empty: CommandLine, source: MemorySource
) -> None:
    prepare(empty)
    assert empty("--json").code == 0
    shutil.rmtree(empty.root / ".reconcile")
    done = empty("--json")
    assert done.code == 0, done
    (item,) = done.document["items"]
    assert (item["change"], item["sources"], item["state"]) == ("publish", ["source"], "applied")
    shutil.rmtree(empty.root / ".reconcile")
    source.known = False
    source.files = {**source.files, "config.json": b"[]"}
    done = empty("--json")
    assert done.code == 5, done
    assert empty.cars() == []


def test_identify_reads_a_new_version_and_publishes_nothing(empty: CommandLine, source: MemorySource) -> None:
    prepare(empty)
    planned = empty("plan", "--identify", "--json").document
    (publish,) = (item for item in planned["items"] if item["change"] == "publish")
    assert publish["sources"] == ["source"]
    assert empty.cars() == []
    read = source.bytes_read
    assert read >= sum(len(data) for path, data in source.files.items() if path[0] != ".")
    assert empty("--json").code == 0
    assert cid_in_index(empty) == publish["cid"]


def test_identify_shows_why_a_source_cannot_be_read(empty: CommandLine, source: MemorySource) -> None:
    prepare(empty)
    source.served["config.json"] = b"[]"
    planned = empty("plan", "--identify", "--json").document
    (item,) = planned["items"]
    assert item["change"] == "blocked"
    assert "'config.json'" in item["reason"]


def test_a_saved_plan_that_streams_is_carried_out_to_the_end(
    empty: CommandLine, source: MemorySource
) -> None:
    prepare(empty)
    assert empty("plan", "-o", "plan.json").code == 0
    assert source.bytes_read == 0
    done = empty("apply", "plan.json", "--json")
    assert done.code == 0, done
    assert {item["change"] for item in done.document["items"]} == {"stream", "resolve-cid", "write-record"}
    assert empty("--dry-run", "--json").document["items"] == []


def test_a_target_that_fails_does_not_keep_the_others_from_the_version(
    empty: CommandLine, source: MemorySource
) -> None:
    prepare(empty, "store, second")
    empty.write(".reconcile/second", "in the way")
    done = empty("--json")
    assert done.code == 5, done
    states = {(item["change"], item["target"], item["state"]) for item in done.document["items"]}
    assert ("stream", None, "applied") in states
    assert len(empty.cars()) == 1
    (empty.root / ".reconcile/second").unlink()
    read = source.bytes_read
    assert empty("--json").code == 0
    assert source.bytes_read == read, "the other target has it"
    assert empty("--dry-run", "--check", "full", "--json").document["items"] == []
