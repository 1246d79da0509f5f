"""The provenance of a streamed version, checked against clones of its source that have no weights."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_streamed_versions import INDEX
from tests.support.command_line import CommandLine
from tests.support.hub_server import HubRepository, hub_server
from tests.support.memory_source import MemorySource, pointer_of
from tests.support.safetensors import safetensors


def git(place: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=place, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Upstream:
    """A git repository with an LFS pointer, and the source that serves the same files."""

    def __init__(self, place: Path, patch: pytest.MonkeyPatch) -> None:
        self.place = place
        files = {"model.safetensors": safetensors(os.urandom(2 << 20)), "config.json": b"{}", "a/b.txt": b"b"}
        self.source = MemorySource(files, frozenset({"model.safetensors"})).install(patch)
        place.mkdir()
        git(place, "init", "-q")
        for path, data in files.items():
            (place / path).parent.mkdir(exist_ok=True)
            digest = self.source.list().files
            listed = next(file for file in digest if file.path == path)
            sha256 = listed.digests.sha256
            (place / path).write_bytes(data if sha256 is None else pointer_of(sha256, len(data)))
        git(place, "add", "-A")
        git(place, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "weights")
        self.commit = git(place, "rev-parse", "HEAD")
        self.source.commit = self.commit


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    return Upstream(tmp_path / "upstream", monkeypatch)


@pytest.fixture
def published(empty: CommandLine, upstream: Upstream) -> CommandLine:
    empty.write("releases/index.yaml", INDEX.format(targets="store", commit=upstream.commit))
    done = empty("--json")
    assert done.code == 0, done
    return empty


def record(cli: CommandLine) -> Any:
    return json.loads((cli.root / "releases/records/llm/1.0.0.json").read_text())


def test_the_record_names_source_revision_and_digests(published: CommandLine, upstream: Upstream) -> None:
    found = record(published)
    assert found["schema"] == 3
    provenance = found["provenance"]
    assert provenance["source"] == f"hf:acme/llm@{upstream.commit}"
    assert (provenance["kind"], provenance["revision"]) == ("huggingface", upstream.commit)
    tree = git(upstream.place, "ls-tree", "-r", "HEAD").splitlines()
    in_git = {line.split("\t")[1]: line.split()[2] for line in tree}
    assert {file["path"]: file["git"] for file in provenance["files"]} == in_git
    assert [file["path"] for file in provenance["files"] if file.get("lfs")] == ["model.safetensors"]
    assert published("check").code == 0


def test_a_clone_without_any_file_proves_the_record(
    published: CommandLine, upstream: Upstream, tmp_path: Path
) -> None:
    git(upstream.place, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--bare", "--filter=blob:none", f"file://{upstream.place}", "clone.git")
    git(tmp_path / "clone.git", "remote", "remove", "origin")
    done = published("verify", tmp_path / "clone.git", "--as", "llm@1.0.0", "--json")
    assert done.code == 0, done
    assert done.document["files"] == 3
    assert done.document["revision"] == upstream.commit
    assert published("verify", upstream.place, "--as", "llm@1.0.0").out.startswith("ok: llm@1.0.0 bafybei")


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("sha256", "0" * 64, "other digests than its SHA256SUMS"),
        ("git", "0" * 40, "in the commit"),
        ("size", 7, "another SHA-256 or size"),
        ("path", "other.bin", "other digests than its SHA256SUMS"),
    ],
)
def test_a_record_that_was_edited_is_an_error(
    published: CommandLine, upstream: Upstream, key: str, value: object, error: str
) -> None:
    found = record(published)
    file = next(file for file in found["provenance"]["files"] if file.get("lfs"))
    file[key] = value
    published.write("releases/records/llm/1.0.0.json", json.dumps(found))
    done = published("verify", upstream.place, "--as", "llm@1.0.0")
    assert done.code == 1, done
    assert error in done.err


def test_a_hub_that_lists_another_digest_than_its_pointer_is_refused(
    empty: CommandLine, upstream: Upstream
) -> None:
    """Else it could serve other weights, with a digest of its own, for the same commit."""
    empty.write("releases/index.yaml", INDEX.format(targets="store", commit=upstream.commit))
    upstream.source.pointers = {"model.safetensors": b"1" * 20}
    done = empty("--json")
    assert done.code == 5, done
    assert "'model.safetensors' has a listed SHA-256 and size" in done.document["items"][0]["detail"]
    assert upstream.source.bytes_read == 0


@pytest.mark.parametrize("schema", [1, 2])
def test_provenance_is_no_part_of_earlier_records(published: CommandLine, schema: int) -> None:
    found = record(published)
    found["schema"] = schema
    published.write("releases/records/llm/1.0.0.json", json.dumps(found))
    assert published("check").code == 2


def test_a_version_on_a_hub_is_streamed_recorded_and_proven_by_a_clone(
    empty: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"model.safetensors": safetensors(os.urandom(3 << 20)), "config.json": b"{}", "a/b.txt": b"b"}
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        made = hub.add(HubRepository.make("acme/llm", files, git_root=tmp_path / "git"))
        empty.write("releases/index.yaml", INDEX.format(targets="store", commit=made.commit))
        done = empty("--json")
        assert done.code == 0, done
        assert empty("--dry-run", "--json").document["items"] == []
    done = empty("verify", tmp_path / "git/acme/llm", "--as", "llm@1.0.0", "--json")
    assert done.code == 0, done
    assert (done.document["revision"], done.document["files"]) == (made.commit, 3)
