"""Files beside an index under a CID, and in a git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from reconciler.consume.beside import BesideRemoteIndex
from reconciler.consume.local_sources import store_source
from reconciler.content.bundle import bare_bundle
from reconciler.content.identify import identify
from reconciler.errors import DataError
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget

PATH = PurePosixPath("signatures/llm/1.0.0/0123456789abcdef/release.sigstore.json")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A directory with an index and one signature."""
    place = tmp_path / "repository" / "releases" / PATH
    place.parent.mkdir(parents=True)
    place.write_bytes(b"signed")
    (tmp_path / "repository/releases/index.yaml").write_text("schema: 1\n")
    return tmp_path / "repository"


def test_files_beside_an_index_under_a_cid_are_read_from_its_blocks(repository: Path, tmp_path: Path) -> None:
    dag = identify(bare_bundle(repository, include_hidden=False), cache=None, progress=QUIET)
    root = dag.identity.root
    StoreTarget("store", tmp_path / "store").publish(dag, Label("reconciler/put/index"), QUIET)
    sources = [store_source(tmp_path / "store", root)]
    beside = BesideRemoteIndex(f"ipfs://{root}/releases/index.yaml", None, sources)
    assert beside.read(PATH, 100) == b"signed"
    assert beside.read(PATH.with_name("none"), 100) is None
    with pytest.raises(DataError, match="the limit is 3"):
        beside.read(PATH, 3)
    assert BesideRemoteIndex(f"ipfs://{root}", None, sources).read(PATH, 100) is None


def test_files_beside_an_index_in_git_are_those_of_its_commit(repository: Path) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", repository, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    git("add", ".")
    git("commit", "--quiet", "--message", "release")
    commit = git("rev-parse", "HEAD")
    (repository / "releases" / PATH).write_bytes(b"later")
    git("commit", "--quiet", "--all", "--message", "later")
    beside = BesideRemoteIndex(f"git+file://{repository}", commit)
    assert beside.read(PATH, 100) == b"signed"
    assert beside.read(PATH.with_name("none"), 100) is None
