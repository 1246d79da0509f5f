"""Git commands run hardened and without prompts, end within a time limit, and fail with a class."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.git.runner import GitError, GitFailure, GitRunner
from reconciler.git.scratch import ScratchRepository
from tests.forges.git_server import BareRepository, serve
from tests.support.git_over_http import git_over_http
from tests.support.waiting import wait_until

PASSWORD = "s3cret"
AUTHOR = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture
def bare(tmp_path: Path) -> BareRepository:
    return BareRepository.make(tmp_path / "r.git", {"file": b"one\n"})


def scratch(directory: Path, url: str, **options: object) -> ScratchRepository:
    return ScratchRepository.create(directory / "scratch", url, **options)  # type: ignore[arg-type]


def global_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(text)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def failure(run: Callable[[], object]) -> GitFailure:
    with pytest.raises(GitError) as caught:
        run()
    return caught.value.failure


# --- hardening


def test_no_hook_of_the_user_runs_for_a_commit_a_fetch_or_a_push(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "ran"
    for name in ("reference-transaction", "pre-push", "pre-commit", "post-commit", "pre-auto-gc"):
        program(tmp_path / "hooks" / name, f"echo {name} >> {trace}\nexit 1")
    global_config(tmp_path, monkeypatch, f"[core]\n\thooksPath = {tmp_path / 'hooks'}\n")
    with serve(bare, PASSWORD) as (url, _):
        header = ("http.extraHeader", "Authorization: Basic b2F1dGgyOnMzY3JldA==")  # oauth2:s3cret
        ours = scratch(tmp_path, url, settings=(header,))
        ours.fetch("+refs/heads/main:refs/heads/main")
        tree = ours.runner.run("rev-parse", "main^{tree}").text
        commit = ours.runner.run("commit-tree", "-p", "main", "-m", "x", tree, env=AUTHOR).text
        ours.runner.run("update-ref", "refs/heads/next", commit)
        ours.push(commit, "refs/heads/next", "")
        assert ours.list_refs("refs/heads/next") == {"refs/heads/next": commit}
    assert not trace.exists()
    with pytest.raises(subprocess.CalledProcessError):
        bare.run("update-ref", "refs/heads/other", "main")
    assert trace.read_text().startswith("reference-transaction"), "git by itself does run them"


def test_replacements_of_objects_are_ignored(bare: BareRepository) -> None:
    blob = bare.run("rev-parse", "main:file")
    bare.run("replace", blob, bare.run("hash-object", "-w", "--stdin", stdin=b"another\n"))
    assert bare.run("cat-file", "blob", "main:file") == "another"
    assert GitRunner(bare.path, git_dir=bare.path).run("cat-file", "blob", "main:file").stdout == b"one\n"


def test_a_repository_of_an_outer_hook_is_left_alone(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run as a git hook does: its environment names the outer repository, index and objects."""
    outer = bare.copy(tmp_path / "outer.git")
    for name, value in (
        ("GIT_DIR", outer.path),
        ("GIT_INDEX_FILE", outer.path / "index"),
        ("GIT_OBJECT_DIRECTORY", outer.path / "objects"),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", outer.path / "objects"),
        ("GIT_WORK_TREE", tmp_path),
    ):
        monkeypatch.setenv(name, str(value))
    before = {path: path.stat().st_mtime_ns for path in outer.path.rglob("*")}
    ours = scratch(tmp_path, f"file://{bare.path}")
    ours.fetch("+refs/heads/main:refs/heads/fetched")
    assert ours.runner.run("rev-parse", "--absolute-git-dir").text == str(tmp_path / "scratch")
    assert GitRunner(bare.path).run("rev-parse", "--absolute-git-dir").text == str(bare.path)
    assert {path: path.stat().st_mtime_ns for path in outer.path.rglob("*")} == before


def test_settings_are_added_to_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "of the caller")
    runner = GitRunner(tmp_path, settings=(("user.email", "ours"),))
    assert runner.run("config", "user.name").text == "of the caller"
    assert runner.run("config", "user.email").text == "ours"
    assert "ours" not in repr(runner)


def test_a_command_never_runs_in_another_directory_than_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: BareRepository
) -> None:
    monkeypatch.chdir(bare.path)
    assert failure(lambda: GitRunner(tmp_path / "missing").run("rev-parse", "HEAD")) is GitFailure.OTHER


@pytest.mark.parametrize("protocols", [(), ("https", "ssh"), ("file",)])
def test_a_transport_that_runs_a_program_is_refused(
    tmp_path: Path, protocols: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    global_config(tmp_path, monkeypatch, "[protocol]\n\tallow = always\n")
    runner = GitRunner(tmp_path, protocols=protocols)
    with pytest.raises(GitError, match="'ext' not allowed"):
        runner.run("ls-remote", f"ext::touch {tmp_path}/ran")
    assert not (tmp_path / "ran").exists()


def test_a_local_command_does_not_use_the_network(bare: BareRepository, tmp_path: Path) -> None:
    """A partial clone fetches missing objects when they are read, by the transport it configures itself."""
    bare.run("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "-q", "--bare", "--filter=blob:none", f"file://{bare.path}", clone], check=True
    )
    runner = GitRunner(clone, git_dir=clone)
    blob = runner.run("rev-parse", "main:file").text
    assert failure(lambda: runner.run("cat-file", "blob", blob)) is GitFailure.OTHER
    subprocess.run(["git", "-C", clone, "cat-file", "blob", blob], check=True, capture_output=True)


# --- ssh


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program that replaces ssh, records its arguments, and tries to open the terminal."""
    program(
        tmp_path / "bin" / "ssh",
        f'exec 3>> {tmp_path}/ssh-ran\necho "$0 $*" >&3\n(: < /dev/tty) 2>/dev/null && echo asked >&3\n'
        "echo 'git@host: Permission denied (publickey).' >&2\nexit 255",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    yield tmp_path / "ssh-ran"
    assert "asked" not in (tmp_path / "ssh-ran").read_text()


def test_ssh_runs_in_batch_mode(ssh: Path, tmp_path: Path) -> None:
    ours = scratch(tmp_path, "ssh://git@host/r.git")
    assert failure(lambda: ours.list_refs("HEAD")) is GitFailure.DENIED
    assert "-o BatchMode=yes" in ssh.read_text()


@pytest.mark.parametrize("where", ["GIT_SSH_COMMAND", "GIT_SSH", "core.sshCommand"])
def test_a_configured_ssh_command_is_used(
    ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    own = program(tmp_path / "own" / "ssh", f'echo own >> {ssh}\nexec {tmp_path}/bin/ssh "$@"')
    if where == "core.sshCommand":
        global_config(tmp_path, monkeypatch, f"[core]\n\tsshCommand = {own} -i key\n")
    else:
        monkeypatch.setenv(where, f"{own} -i key" if where == "GIT_SSH_COMMAND" else str(own))
    ours = scratch(tmp_path, "ssh://git@host/r.git")
    assert failure(lambda: ours.list_refs("HEAD")) is GitFailure.DENIED
    assert ssh.read_text().startswith("own")
    assert "BatchMode" not in ssh.read_text()
    assert where == "GIT_SSH" or "-i key" in ssh.read_text()


# --- the time limit


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until_gone(pid_file: Path) -> None:
    """A program that was stopped before it wrote its number has ended."""
    pids = [int(line) for line in pid_file.read_text().split()] if pid_file.exists() else []
    wait_until(f"{pids} to end", lambda: not any(map(is_running, pids)))


def test_an_ssh_that_hangs_ends_at_the_time_limit_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    own = program(tmp_path / "own" / "ssh", f"sleep 300 &\necho $$ $! > {pids}\nwait")
    monkeypatch.setenv("GIT_SSH_COMMAND", str(own))
    ours = scratch(tmp_path, "ssh://git@host/r.git", time_limit=1)
    with pytest.raises(GitError, match="git ls-remote took longer than 1 seconds") as caught:
        ours.list_refs("HEAD")
    assert caught.value.failure is GitFailure.TIMED_OUT
    wait_until_gone(pids)


def test_a_credential_helper_that_hangs_ends_at_the_time_limit(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    helper = program(tmp_path / "helper", f"echo $$ > {pids}\nsleep 60")
    global_config(tmp_path, monkeypatch, f"[credential]\n\thelper = {helper}\n")
    with git_over_http(tmp_path, "reader", PASSWORD) as host:
        ours = scratch(tmp_path, f"{host.url}/r.git", time_limit=2)
        assert failure(lambda: ours.list_refs("HEAD")) is GitFailure.TIMED_OUT
    wait_until_gone(pids)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Handle SIGINT as Python does. A shell that runs the tests in the background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_command(
    interruptible: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program(tmp_path / "s", f"echo $$ > {pids}\nsleep 60")))
    ours = scratch(tmp_path, "ssh://git@host/r.git")

    def interrupt() -> None:
        while not (pids.exists() and pids.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ours.list_refs("HEAD")
    thread.join()
    wait_until_gone(pids)


# --- commands that may ask


@pytest.mark.parametrize("has_terminal", [True, False])
def test_only_an_interactive_command_keeps_the_terminal(
    bare: BareRepository, tmp_path: Path, has_terminal: bool
) -> None:
    """A program that signs a commit may ask for a passphrase at the terminal of the user, if there is one."""
    program(tmp_path / "hook-like", f"(: < /dev/tty) 2>/dev/null && echo $1 >> {tmp_path}/asked\nexit 0")
    code = (
        "from pathlib import Path\nfrom reconciler.git.runner import GitRunner\n"
        f"runner = GitRunner(Path({str(tmp_path)!r}), "
        f"settings=(('alias.ask', '!{tmp_path}/hook-like \"$1\" #'),))\n"
        "runner.run('ask', 'interactive', is_interactive=True)\n"
        "runner.run('ask', 'other')\n"
    )
    command = [sys.executable, "-c", code]
    if has_terminal:  # a child of pty.spawn has the new terminal as its controlling terminal
        spawn = f"import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn({command!r})))"
        command = [sys.executable, "-c", spawn]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True)
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == ("interactive\n" if has_terminal else "")


# --- failures


def test_a_machine_without_git_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="git is not installed") as caught:
        GitRunner(tmp_path).run("version")
    assert (caught.value.failure, caught.value.hint) == (GitFailure.NOT_INSTALLED, "install git")


def test_a_repository_of_another_user_is_refused_with_one_text(
    bare: BareRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(GitError, match="trust this repository: it belongs to another user") as caught:
        GitRunner(bare.path).run("rev-parse", "HEAD", statuses=(128,))
    assert caught.value.failure is GitFailure.UNTRUSTED
    assert "safe.directory" in (caught.value.hint or "")


def test_a_directory_outside_of_repositories_is_reported(tmp_path: Path) -> None:
    assert failure(lambda: GitRunner(tmp_path).run("rev-parse", "HEAD")) is GitFailure.NO_REPOSITORY


def test_failures_to_read_from_a_server_are_classified(bare: BareRepository, tmp_path: Path) -> None:
    with git_over_http(tmp_path, "reader", PASSWORD) as host:
        denied = scratch(tmp_path, f"{host.url}/r.git")
        assert failure(lambda: denied.list_refs("HEAD")) is GitFailure.DENIED
        host.status = 404
        assert failure(lambda: denied.list_refs("HEAD")) is GitFailure.NOT_FOUND
        host.status = 503
        assert failure(lambda: denied.list_refs("HEAD")) is GitFailure.TRANSIENT
    assert failure(lambda: denied.list_refs("HEAD")) is GitFailure.TRANSIENT
    missing = scratch(tmp_path, f"file://{tmp_path}/none.git")
    assert failure(lambda: missing.list_refs("HEAD")) is GitFailure.NOT_FOUND
    there = scratch(tmp_path, f"file://{bare.path}")
    assert failure(lambda: there.fetch("0" * 40)) is GitFailure.NOT_FOUND


def test_the_text_of_an_address_does_not_classify_a_failure(tmp_path: Path) -> None:
    ours = scratch(tmp_path, "http://127.0.0.1:1/denied/not found.git")
    assert failure(lambda: ours.list_refs("HEAD")) is GitFailure.TRANSIENT


def test_failures_to_push_are_classified(bare: BareRepository, tmp_path: Path) -> None:
    ours = scratch(tmp_path, f"file://{bare.path}")
    ours.fetch("+refs/heads/main:refs/heads/main")
    commit = ours.runner.run("rev-parse", "main").text
    tree = ours.runner.run("rev-parse", "main^{tree}").text
    another = ours.runner.run("commit-tree", "-m", "x", tree, env=AUTHOR).text
    assert failure(lambda: ours.push(another, "refs/heads/main", another)) is GitFailure.STALE
    program(bare.path / "hooks" / "pre-receive", "echo 'only on Tuesdays' >&2\nexit 1")
    with pytest.raises(GitError) as caught:
        ours.push(commit, "refs/heads/a", "")
    assert caught.value.failure is GitFailure.REJECTED
    assert "only on Tuesdays" in caught.value.output
    assert caught.value.verb == "push"


def test_a_local_command_that_fails_shows_its_first_line(bare: BareRepository) -> None:
    with pytest.raises(GitError, match=r"^git cat-file failed: Not a valid object name none$") as caught:
        GitRunner(bare.path).run("cat-file", "blob", "none")
    assert caught.value.failure is GitFailure.OTHER
