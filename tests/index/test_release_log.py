"""The release log is read from git only."""

from __future__ import annotations

import subprocess

import pytest

from reconciler.errors import UserError
from reconciler.index.history import release_log

CID = {
    1: "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
    2: "bafybeifx7yeb55armcsxwwitkymga5xf53dxiarykms3ygqic223w5sk3m",
}


class Repository:
    def __init__(self, root):
        self.root = root
        self.file = root / "releases" / "index.yaml"
        self.file.parent.mkdir()
        self.git("init", "-q")

    def git(self, *arguments):
        subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self, message, author, **cids):
        lines = ["schema: 1", "id: t", "models:", "  m:", "    versions:"]
        for name, cid in cids.items():
            version = name.replace("_", ".").removeprefix("v")
            lines.append(f'      "{version}": {{path: w/{version}{", cid: " + cid if cid else ""}}}')
        self.file.write_text("\n".join(lines) + "\n")
        self.git("add", ".")
        self.git(
            "commit", "-q", "-m", message, "--author", f"{author} <{author}@example.com>", "--allow-empty"
        )


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def test_a_release_is_the_oldest_commit_with_the_cid(repository):
    repository.commit("Add 1.0.0", "ann", v1_0_0=None)
    repository.commit("Record resolved CIDs (#7)", "bot", v1_0_0=CID[1])
    repository.commit("Add 1.1.0", "bob", v1_0_0=CID[1], v1_1_0=None)
    repository.commit("Merge pull request #9 from x/y\n\nResolve", "bot", v1_0_0=CID[1], v1_1_0=CID[2])
    log = release_log(repository.file, "m")
    assert [(r.version, r.cid, r.author, r.proposal, r.subject) for r in log] == [
        ("1.1.0", CID[2], "bot", "9", "Merge pull request #9 from x/y"),
        ("1.0.0", CID[1], "bot", "7", "Record resolved CIDs (#7)"),
    ]
    assert all(len(r.commit) >= 40 and r.when.endswith("Z") for r in log)


def test_a_removed_version_stays_in_the_log(repository):
    repository.commit("one", "ann", v1_0_0=CID[1])
    repository.commit("gone", "ann", v2_0_0=None)
    assert [r.version for r in release_log(repository.file, "m")] == ["1.0.0"]


def test_the_log_of_another_model_is_empty(repository):
    repository.commit("one", "ann", v1_0_0=CID[1])
    assert release_log(repository.file, "other") == ()


def test_the_log_without_a_repository_is_an_error(tmp_path):
    (tmp_path / "index.yaml").write_text("")
    with pytest.raises(UserError, match="no git repository"):
        release_log(tmp_path / "index.yaml", "m")
