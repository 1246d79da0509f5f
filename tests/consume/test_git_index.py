"""An index in a remote git repository: the right ref, one small fetch, no secret, no prompt."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.consume.git_index import GitFileAddress, parse_git_address, read_git_file
from reconciler.consume.remote_index import open_remote
from reconciler.errors import DataError, InvalidIndexError, PeerError, SafetyError, UsageError
from reconciler.net.errors import AccessDeniedError, NotFoundError
from tests.consume.test_remote_index import CID_A, CID_B, text
from tests.forges.git_server import BareRepository
from tests.support.git_over_http import git_over_http

INDEX = "releases/index.yaml"


@pytest.fixture
def repository(tmp_path: Path) -> BareRepository:
    """A repository with an index, another index at another path, and a file that is not needed."""
    made = BareRepository.make(
        tmp_path / "r.git", {INDEX: text(v1=CID_A), "team/it.yaml": text(v2=CID_B), "big": bytes(1 << 20)}
    )
    made.run("config", "uploadpack.allowFilter", "true")
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def place(repository: BareRepository, rest: str = "") -> str:
    return f"git+file://{repository.path}{rest}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("git+https://h/o/r.git", GitFileAddress("https://h/o/r.git", "", INDEX)),
        ("git+https://h/o/r.git@main", GitFileAddress("https://h/o/r.git", "main", INDEX)),
        ("git+https://h:8443/r@v1.2#path=a/b.yaml", GitFileAddress("https://h:8443/r", "v1.2", "a/b.yaml")),
        ("git+https://h/r@team/next", GitFileAddress("https://h/r", "team/next", INDEX)),
        ("git+ssh://git@h/o/r.git@main", GitFileAddress("ssh://git@h/o/r.git", "main", INDEX)),
        ("git+file:///srv/r.git@main", GitFileAddress("file:///srv/r.git", "main", INDEX)),
    ],
)
def test_a_git_address_has_the_form_of_pip(written: str, meant: GitFileAddress) -> None:
    assert parse_git_address(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "git+https://", "git+https:///r", "git+https://h/", "git+ext::sh -c id", "git+ftp://h/r",
        "git+https://h/r@", "git+https://h/r@-x", "git+https://h/r@a..b", "git+https://h/r@a:b", "git+h/r",
        "git+https://h/r@--upload-pack=x", "git+https://h/r?x=1", "git+https://h/r#x", "git+https://h/r#path=",
        "git+https://h/r#path=/etc/passwd", "git+https://h/r#path=../x", "git+https://h/r#path=a&path=b",
        "git+https://h/r#path=a%0Ab", "git+https://[h/r", "git+https://h/r\n",
    ],
)  # fmt: skip
def test_a_malformed_git_address_is_a_usage_error(written: str) -> None:
    with pytest.raises(UsageError):
        parse_git_address(written)


@pytest.mark.parametrize(
    "written", ["git+https://u:s3cret@h/r", "git+https://s3cret@h/r", "git+ssh://u:s3cret@h/r"]
)
def test_an_address_with_a_secret_is_refused_without_showing_it(written: str) -> None:
    with pytest.raises(UsageError, match="user name or password") as caught:
        parse_git_address(written)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_a_branch_a_tag_and_a_commit_are_read(repository: BareRepository, cache: Path) -> None:
    first = repository.tip("main")
    repository.run("tag", "-a", "-m", "first", "v1", "main")
    repository.run("tag", "light", "main")
    second = repository.push("main", {INDEX: text(v1=CID_A, v2=CID_B)})
    newer, older = text(v1=CID_A, v2=CID_B), text(v1=CID_A)
    for ref, commit, data in (
        ("", second, newer),
        ("@main", second, newer),
        ("@refs/heads/main", second, newer),
        ("@v1", first, older),
        ("@light", first, older),
        ("@refs/tags/v1", first, older),
        (f"@{first}", first, older),
    ):
        found = open_remote(place(repository, ref), cache)
        assert (found.commit, found.file.read_bytes()) == (commit, data), ref


def test_only_the_index_is_fetched(
    repository: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither history nor other files are fetched when the server supports filters."""
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE_PACKET", str(trace))
    repository.push("main", {"other": b"x"})
    assert read_git_file(parse_git_address(place(repository)), 1000) is not None
    assert "deepen 1" in trace.read_text() and "filter blob:none" in trace.read_text()
    wanted = {line.rpartition("want ")[2] for line in trace.read_text().splitlines() if "> want " in line}
    assert wanted == {repository.tip("main"), repository.run("rev-parse", f"main:{INDEX}")}


def test_an_unchanged_ref_is_listed_but_not_fetched(
    repository: BareRepository, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = place(repository, "@main")
    open_remote(here, cache)
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    again = open_remote(here, cache)
    assert (again.commit, again.file.read_bytes()) == (repository.tip("main"), text(v1=CID_A))
    assert "ls-remote" in trace.read_text() and "git fetch" not in trace.read_text()
    trace.unlink()
    fixed = place(repository, f"@{repository.tip('main')}")
    open_remote(fixed, cache)
    trace.unlink()
    open_remote(fixed, cache)
    assert not trace.exists(), "a commit cannot change, so git does not run"


def test_an_index_is_kept_for_offline_use_under_its_path(repository: BareRepository, cache: Path) -> None:
    there = place(repository, "@main#path=team/it.yaml")
    assert open_remote(there, cache).file.read_bytes() == text(v2=CID_B)
    repository.path.rename(repository.path.with_name("gone"))
    kept = open_remote(there, cache, offline=True)
    assert kept.file.read_bytes() == text(v2=CID_B)
    assert kept.commit is not None
    with pytest.raises(UsageError, match="is not cached"):
        open_remote(place(repository, "@main"), cache, offline=True)
    with pytest.raises(PeerError):
        open_remote(there, cache)


def test_a_branch_that_was_set_back_is_refused(repository: BareRepository, cache: Path) -> None:
    first = repository.tip("main")
    assert first
    repository.push("main", {INDEX: text(v1=CID_A, v2=CID_B)})
    open_remote(place(repository, "@main"), cache)
    repository.run("update-ref", "refs/heads/main", first)
    for _ in range(2):
        with pytest.raises(SafetyError, match=r"no longer contains llm@2\.0\.0"):
            open_remote(place(repository, "@main"), cache)
    assert open_remote(place(repository, "@main"), cache, offline=True).file.read_bytes() == text(
        v1=CID_A, v2=CID_B
    )


def test_a_missing_ref_commit_file_or_repository_is_not_found(
    repository: BareRepository, cache: Path
) -> None:
    for rest, said in (
        ("@next", "no branch or tag 'next'"),
        ("@" + "0" * 40, "no such repository or commit"),
        ("@main#path=none.yaml", "no 'none.yaml' in"),
    ):
        with pytest.raises(NotFoundError, match=said):
            open_remote(place(repository, rest), cache)
    with pytest.raises(DataError, match="is not a file"):
        open_remote(place(repository, "@main#path=releases"), cache)
    with pytest.raises(NotFoundError, match="no such repository"):
        open_remote(f"git+file://{repository.path}-not", cache)
    with pytest.raises(InvalidIndexError):
        open_remote(place(repository, "@main#path=big"), cache)
    with pytest.raises(DataError, match="larger than 100 bytes"):
        read_git_file(parse_git_address(place(repository, "@main#path=big")), 100)


def test_a_symbolic_link_is_not_an_index(repository: BareRepository, cache: Path) -> None:
    target = repository.run("hash-object", "-w", "--stdin", stdin=b"/etc/passwd")
    tree = repository.run("mktree", stdin=f"120000 blob {target}\tindex.yaml\n".encode())
    repository.run("update-ref", "refs/heads/links", repository.run("commit-tree", "-m", "x", tree))
    with pytest.raises(DataError, match="is not a file"):
        open_remote(place(repository, "@links#path=index.yaml"), cache)


def test_a_name_of_a_branch_and_a_tag_is_ambiguous(repository: BareRepository, cache: Path) -> None:
    repository.run("update-ref", "refs/heads/1.0", "main")
    repository.run("tag", "1.0", "main")
    assert open_remote(place(repository, "@1.0"), cache).commit == repository.tip("main"), (
        "both mean the same"
    )
    repository.push("main", {"other": b"x"})
    repository.run("update-ref", "refs/heads/1.0", "main")
    with pytest.raises(UsageError, match="is a branch and a tag") as caught:
        open_remote(place(repository, "@1.0"), cache)
    assert caught.value.hint == "write @refs/heads/1.0 or @refs/tags/1.0"


def test_a_branch_with_the_same_ending_is_not_matched(repository: BareRepository, cache: Path) -> None:
    repository.run("update-ref", "refs/heads/x/refs/heads/next", "main")
    with pytest.raises(NotFoundError, match="no branch or tag 'next'"):
        open_remote(place(repository, "@next"), cache)


def test_git_authenticates_over_http_by_its_own_configuration(
    repository: BareRepository, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with git_over_http(tmp_path, "reader", "s3cret-s3cret") as host:
        url = f"{host.url}/r.git"
        with pytest.raises(AccessDeniedError, match="denied access") as caught:
            open_remote(f"git+{url}@main", cache)
        assert "credential helper" in str(caught.value.hint)
        pair = base64.b64encode(b"reader:s3cret-s3cret").decode()
        config = tmp_path / "gitconfig"
        config.write_text(f'[http "{url}"]\n\textraHeader = Authorization: Basic {pair}\n')
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        found = open_remote(f"git+{url}@main", cache)
        assert (found.commit, found.file.read_bytes()) == (repository.tip("main"), text(v1=CID_A))
        kept = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
        assert b"s3cret" not in kept
        assert pair.encode() not in kept
        host.status = 500
        with pytest.raises(PeerError, match="500"):
            open_remote(f"git+{url}@main", cache)
        host.status = 404
        with pytest.raises(NotFoundError, match="no such repository"):
            open_remote(f"git+{url}@main", cache)
    with pytest.raises(PeerError, match="failed"):
        open_remote(f"git+{url}@main", cache)
    assert open_remote(f"git+{url}@main", cache, offline=True).commit == found.commit


def test_hooks_and_the_callers_repository_are_not_used(
    repository: BareRepository, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Run as a git hook does: its environment names another repository, and hooks are configured globally."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("reference-transaction", "post-checkout", "post-merge"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n\thooksPath = {hooks}\n")
    outer = tmp_path / "outer"
    subprocess.run(["git", "init", "--quiet", "--template=", outer], check=True)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(outer / ".git/index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(outer / ".git/objects"))
    before = sorted(os.walk(outer))
    assert open_remote(place(repository, "@main"), cache).file.read_bytes() == text(v1=CID_A)
    assert not (tmp_path / "ran").exists()
    assert sorted(os.walk(outer)) == before
