"""Real pushes over HTTP with a password: what arrives, what is refused, and where no token appears."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
from urllib.parse import quote

import pytest

from reconciler.errors import PeerError, UsageError, UserError
from reconciler.forges import git_remote as git_module
from reconciler.forges.git_remote import GitRemote
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchOutcome, SetFiles
from reconciler.forges.local_repository import CommitIdentity
from reconciler.net.auth import Secret
from reconciler.net.errors import AccessDeniedError, NotFoundError, RejectedError, TransientError
from tests.conformance.forges import FILES, INDEX, MESSAGE, OTHER_FILES
from tests.forges.git_server import BareRepository, serve

CANARY = "glpat-canary/+Zm9vYmFy"
BOT = CommitIdentity("A Bot", "bot@example.org")


@pytest.fixture
def bare(tmp_path) -> BareRepository:
    return BareRepository.make(tmp_path / "r.git", {INDEX: b"schema: 1\n", "README.md": b"x\n"})


@pytest.fixture
def served(bare):
    with serve(bare, CANARY) as (url, gate):
        yield GitRemote("Git", url, Secret(CANARY), identity=BOT), gate


def place(remote, files=FILES, **options):
    return remote.ensure_branch(SetFiles(files, MESSAGE), base="main", **options)


def test_a_push_arrives_and_a_clone_reads_it_back(bare, served, tmp_path):
    remote, _ = served
    result = place(remote)
    assert result.outcome is BranchOutcome.CREATED
    clone = tmp_path / "clone"
    header = "Authorization: Basic " + base64.b64encode(f"oauth2:{CANARY}".encode()).decode()
    subprocess.run(
        [
            "git",
            "-c",
            f"http.extraHeader={header}",
            "clone",
            "-q",
            "-b",
            PROPOSAL_BRANCH,
            remote.url,
            str(clone),
        ],
        check=True,
        capture_output=True,
    )
    for path, data in FILES.items():
        assert (clone / path).read_bytes() == data
    log = ["git", "log", "-1", "--format=%H %an %cn"]
    shown = subprocess.run(log, cwd=clone, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"{result.sha} A Bot A Bot"
    assert place(remote).outcome is BranchOutcome.UNCHANGED


def test_an_unchanged_branch_is_not_pushed(served):
    remote, gate = served
    place(remote)
    gate.asked.clear()
    assert place(remote).outcome is BranchOutcome.UNCHANGED
    assert not any("receive-pack" in path + query for path, query in gate.asked)


def test_a_commit_that_a_person_pushes_just_before_ours_is_not_overwritten(bare, served):
    remote, gate = served
    place(remote)
    theirs = []
    gate.before_push = lambda: theirs.append(bare.push(PROPOSAL_BRANCH, {"notes.txt": b"by hand"}))
    result = place(remote, OTHER_FILES)
    assert result.outcome is BranchOutcome.HUMAN_EDITED
    assert bare.tip(PROPOSAL_BRANCH) == theirs[0] == result.sha


def test_a_branch_that_a_person_makes_just_before_ours_is_not_overwritten(bare, served):
    remote, gate = served
    theirs = []
    gate.before_push = lambda: theirs.append(
        bare.push(PROPOSAL_BRANCH, {"notes.txt": b"by hand"}, onto=bare.tip("main"))
    )
    assert place(remote).outcome is BranchOutcome.HUMAN_EDITED
    assert bare.tip(PROPOSAL_BRANCH) == theirs[0]


def test_a_stale_lease_is_refused_by_the_server(bare, served):
    """The push alone, without reading the branch before it."""
    remote, _ = served
    old = place(remote).sha
    theirs = bare.push(PROPOSAL_BRANCH, {"notes.txt": b"by hand"})
    with remote._scratch() as scratch:
        remote._fetch(scratch, "main")
        with pytest.raises(git_module._StaleError):
            remote._push(scratch, bare.tip("main"), PROPOSAL_BRANCH, old)
    assert bare.tip(PROPOSAL_BRANCH) == theirs


def test_another_job_that_pushes_the_same_just_before_is_no_conflict(bare, served):
    remote, gate = served
    other = GitRemote("Git", f"file://{bare.path}", identity=CommitIdentity("Another", "another@example.org"))
    gate.before_push = lambda: place(other)
    assert place(remote).outcome is BranchOutcome.UNCHANGED


def test_a_branch_that_moves_before_every_push_ends_in_one_error(bare, served):
    remote, gate = served
    place(remote)
    mine = bare.tip(PROPOSAL_BRANCH)
    other = GitRemote("Git", f"file://{bare.path}", identity=BOT)
    count = []

    def again() -> None:
        count.append(1)
        place(other, {INDEX: f"{len(count)}".encode()})
        gate.before_push = again

    gate.before_push = again
    with pytest.raises(PeerError, match="changed during every attempt"):
        place(remote, OTHER_FILES)
    assert len(count) == 3
    assert bare.tip(PROPOSAL_BRANCH) != mine


def test_a_branch_is_deleted_only_where_it_was_seen(bare, served):
    remote, _ = served
    old = place(remote).sha
    theirs = bare.push(PROPOSAL_BRANCH, {"notes.txt": b"by hand"})
    with pytest.raises(PeerError, match="was changed meanwhile and is not deleted"):
        remote.delete_branch(PROPOSAL_BRANCH, old)
    assert bare.tip(PROPOSAL_BRANCH) == theirs
    remote.delete_branch(PROPOSAL_BRANCH, theirs)
    assert bare.tip(PROPOSAL_BRANCH) is None
    remote.delete_branch(PROPOSAL_BRANCH, theirs)


def test_a_hook_that_refuses_is_one_error_with_its_words(bare):
    hook = bare.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'only on Tuesdays' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(RejectedError, match="only on Tuesdays") as caught:
        place(GitRemote("Git", f"file://{bare.path}", identity=BOT))
    assert "protected branches" in (caught.value.hint or "")


def test_a_wrong_token_is_denied_without_asking_anyone(served, monkeypatch):
    remote, _ = served
    monkeypatch.setenv("GIT_ASKPASS", "/bin/false")
    wrong = GitRemote("Git", remote.url, Secret("wrong-token"), identity=BOT)
    with pytest.raises(AccessDeniedError) as caught:
        place(wrong)
    assert "write" in (caught.value.hint or "")
    assert "wrong-token" not in str(caught.value)
    with pytest.raises(AccessDeniedError):
        place(GitRemote("Git", remote.url, identity=BOT))


def test_no_credential_helper_gives_or_learns_anything(served, tmp_path, monkeypatch):
    remote, _ = served
    trace = tmp_path / "asked"
    config = tmp_path / "gitconfig"
    config.write_text(f'[credential]\n\thelper = "!f() {{ echo $1 >> {trace}; }}; f"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    place(remote)
    with pytest.raises(AccessDeniedError):
        place(GitRemote("Git", remote.url, Secret("wrong-token"), identity=BOT))
    assert not trace.exists()


def test_what_is_not_there_is_not_found(served, tmp_path):
    remote, _ = served
    with pytest.raises(NotFoundError):
        place(GitRemote("Git", remote.url.replace("/o/r", "/o/other"), Secret(CANARY), identity=BOT))
    with pytest.raises(NotFoundError):
        place(GitRemote("Git", f"file://{tmp_path}/nothing", identity=BOT))
    with pytest.raises(NotFoundError, match="nowhere"):
        remote.ensure_branch(SetFiles(FILES, MESSAGE), base="nowhere")


def test_a_server_that_fails_or_is_gone_is_one_error(served):
    remote, gate = served
    gate.status = "503 Service Unavailable"
    with pytest.raises(TransientError):
        place(remote)
    with pytest.raises(TransientError) as caught:
        place(GitRemote("Git", "http://127.0.0.1:1/o/r.git", Secret(CANARY), identity=BOT))
    assert CANARY not in str(caught.value)


def test_an_answer_that_is_lost_after_the_push_is_found_out(bare, served, monkeypatch):
    remote, _ = served
    push = GitRemote._push
    pushes = []

    def lost(self, *arguments):
        pushes.append(push(self, *arguments))
        raise TransientError("Git", "the connection broke")

    monkeypatch.setattr(GitRemote, "_push", lost)
    result = place(remote)
    assert len(pushes) == 1
    assert (result.outcome, result.sha) == (BranchOutcome.UNCHANGED, bare.tip(PROPOSAL_BRANCH))


def test_nobody_to_commit_as_is_one_error(bare, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.delenv("EMAIL", raising=False)
    with pytest.raises(UserError, match="name and email"):
        place(GitRemote("Git", f"file://{bare.path}"))


@pytest.mark.parametrize(
    "url", ["", "git.example/r", "ext::sh -c id", "-u", "/a/b", "https://user:pw@host/r.git"]
)
def test_an_address_that_could_run_or_tell_something_is_refused(url):
    with pytest.raises(UsageError) as caught:
        GitRemote("Git", url)
    assert "pw" not in str(caught.value)


def test_the_token_is_nowhere_but_in_the_request(bare, served, tmp_path, monkeypatch, caplog):
    """It is in no argument of a process, no file, no log, no trace of git, and no object."""
    caplog.set_level(logging.DEBUG)
    remote, _ = served
    arguments = tmp_path / "arguments"
    real = subprocess.run(
        ["sh", "-c", "command -v git"], capture_output=True, text=True, check=True
    ).stdout.strip()
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {arguments}\n{real} "$@"\nstatus=$?\n'
        f"cat config .git/config >> {arguments} 2>/dev/null\nexit $status\n"
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("GIT_TRACE_CURL", str(tmp_path / "trace-curl"))
    place(remote)
    assert "push" in arguments.read_text()
    assert "Authorization" in (tmp_path / "trace-curl").read_text()
    places = [arguments, tmp_path / "trace", tmp_path / "trace-curl"]
    shown = caplog.text + repr(remote) + "".join(place.read_text() for place in places)
    shown += bare.run("log", "--all", "--format=%B%an%ae%cn%ce") + (bare.path / "config").read_text()
    pair = base64.b64encode(f"oauth2:{CANARY}".encode()).decode()
    for form in (CANARY, base64.b64encode(CANARY.encode()).decode(), quote(CANARY, safe=""), pair):
        assert form not in shown
    assert sys.getsizeof(shown) > 1000
