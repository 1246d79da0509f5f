"""Machines that lack something: a writable checkout, a home directory, space for temporary files."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from reconciler.errors import ReconcilerError
from reconciler.targets.storacha.client import PrivateState
from tests.support.command_line import CommandLine

READERS = [
    ["--dry-run"],
    ["plan", "--json"],
    ["status"],
    ["resolve", "llm@1.0.0"],
    ["verify", "llm@1.0.0"],
    ["pieces", "llm@1.0.0"],
]

#: runs each command given as one line in this process, and prints its exit code
_RUN_ALL = """
import sys
from reconciler.cli import main
for line in sys.argv[1:]:
    sys.argv = ["reconcile", *line.split()]
    try:
        main()
    except SystemExit as end:
        print("exit", line, end.code, flush=True)
"""


@pytest.fixture
def published(reconcile: CommandLine) -> CommandLine:
    assert reconcile().code == 0
    return reconcile


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A directory that no user can create, not even the superuser."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "home"


# -- a checkout that cannot be written -----------------------------------------------------------------------


def test_a_checkout_that_is_mounted_read_only_can_be_read(published: CommandLine, tmp_path: Path) -> None:
    """The real thing, with and without the directory for local state; nothing is written into it."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    mount = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" || exit 77\n'
    commands = [" ".join(each) for each in READERS] + [
        f"export llm@1.0.0 {tmp_path}/out.car",
        "--propose none",
    ]
    inside = mount + '"$0" -c "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, sys.executable, _RUN_ALL, *commands],
        cwd=published.root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    if "exit" not in done.stdout and (done.returncode == 77 or "unshare" in done.stderr):
        pytest.skip("no user namespaces")
    codes = [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("exit ")]
    assert codes == ["0"] * len(commands), done.stdout + done.stderr


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("arguments", READERS[:4], ids=" ".join)
def test_commands_that_read_need_no_local_state(
    published: CommandLine, monkeypatch: pytest.MonkeyPatch, number: int, arguments: list[str]
) -> None:
    shutil.rmtree(published.root / ".reconcile/cache")
    (published.root / ".reconcile/.gitignore").unlink()
    real_mkdir, real_open = Path.mkdir, Path.open

    def mkdir(path: Path, *rest: object, **named: object) -> None:
        if ".reconcile" in path.parts:
            raise OSError(number, os.strerror(number), str(path))
        real_mkdir(path, *rest, **named)  # type: ignore[arg-type]

    def open_(path: Path, mode: str = "r", *rest: object, **named: object) -> object:
        if ".reconcile" in path.parts and mode not in {"r", "rb"}:
            raise OSError(number, os.strerror(number), str(path))
        return real_open(path, mode, *rest, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "open", open_)
    assert published(*arguments).code == 0


def test_another_error_of_the_disk_is_an_error(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    done = reconcile("--dry-run")
    assert done.code == 1
    assert "Input/output error" in done.err


@pytest.fixture
def unwritable(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """The repository on a file system that `access` reports as read-only; its store is elsewhere."""
    store = f"targets:\n  store: {{kind: store, path: {tmp_path}/store}}\n"
    reconcile.write("releases/targets.yaml", store)
    real = os.access

    def access(path: str | Path, mode: int) -> bool:
        inside = Path(path).resolve().is_relative_to(reconcile.root)
        return real(path, mode) and not (inside and mode & os.W_OK)

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return reconcile


def test_a_run_that_writes_nothing_here_holds_its_lock_elsewhere(
    unwritable: CommandLine, tmp_path: Path
) -> None:
    assert unwritable("--propose", "none").code == 0
    assert list((tmp_path / "cache/reconcile/locks").glob("*/run.lock"))
    assert not (unwritable.root / ".reconcile/run.lock").exists()


def test_without_a_cache_directory_the_lock_is_among_temporary_files(
    unwritable: CommandLine, monkeypatch: pytest.MonkeyPatch, nowhere: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert unwritable("--propose", "none").code == 0
    assert list(tmp_path.glob("reconcile-locks-*/*/run.lock"))
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere))
    done = unwritable("--propose", "none")
    assert done.code == 1
    assert "no other place for the lock" in done.err


def test_nothing_is_published_when_the_index_cannot_be_written(
    unwritable: CommandLine, tmp_path: Path
) -> None:
    done = unwritable()
    assert done.code == 1
    assert "cannot be written (permission denied)" in done.err
    assert "nothing was published" in done.err
    assert "--propose pull-request" in done.err
    assert not (tmp_path / "store").exists()


# -- no home directory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["unset", "unknown", "unwritable"])
def test_commands_need_no_home_directory(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, nowhere: Path, home: str, tmp_path: Path
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "RECONCILE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    if home == "unwritable":
        monkeypatch.setenv("HOME", str(nowhere))
    elif home == "unknown":  # a container that runs under a user id without an entry in /etc/passwd

        def unknown(_: type[Path]) -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", classmethod(unknown))
    monkeypatch.chdir(reconcile.root)
    fetch = ["fetch", "llm@1.0.0", str(tmp_path / "out")]
    if home == "unset":
        fetch.append("--no-cache")  # it would be the cache of the user who runs the tests
    for arguments in ([], ["plan", "--json"], ["resolve", "llm@1.0.0"], fetch, ["put", "weights"]):
        done = reconcile(*arguments)
        assert done.code == 0, done.err


# -- temporary files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT, errno.EACCES])
def test_a_proposal_without_space_for_temporary_files_says_what_to_set(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "-q"], cwd=reconcile.root, check=True)
    subprocess.run(["git", "add", "releases"], cwd=reconcile.root, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "x"], cwd=reconcile.root, check=True)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    done = reconcile("--propose", "branch")
    assert done.code == 1
    assert f"cannot create temporary files: {os.strerror(number).lower()}" in done.err
    assert "TMPDIR" in done.err
    assert not reconcile.cars()


def test_the_private_files_of_a_client_need_a_temporary_directory(
    monkeypatch: pytest.MonkeyPatch, nowhere: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere))
    with pytest.raises(ReconcilerError, match="cannot create temporary files") as caught:
        PrivateState()
    assert "TMPDIR" in (caught.value.hint or "")


def test_runs_need_no_temporary_directory(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, nowhere: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere))
    for arguments in (
        [],
        ["verify", "llm@1.0.0"],
        ["fetch", "llm@1.0.0", str(tmp_path / "out"), "--no-cache"],
    ):
        done = reconcile(*arguments)
        assert done.code == 0, done.err


# -- one target's surroundings -------------------------------------------------------------------------------

_PIN = '{kind: pinning-service, endpoint: "https://node.example", token_env: TOKEN}'
_NODE = '{kind: kubo, api: "https://node.example", token_env: TOKEN}'
_CLUSTER = '{kind: ipfs-cluster, api: "https://node.example", token_env: TOKEN}'


@pytest.mark.parametrize(
    ("target", "environment", "why"),
    [
        (_PIN, {}, "'TOKEN' is not set"),
        (_NODE, {"TOKEN": ""}, "'TOKEN' is empty"),
        (_CLUSTER, {"TOKEN": "two\nlines"}, "'TOKEN' contains characters that are invalid"),
        (_PIN, {"TOKEN": "kü"}, "'TOKEN' contains characters that are invalid"),
        (_NODE, {"SSL_CERT_FILE": "/nowhere"}, "SSL_CERT_FILE='/nowhere' cannot be read"),
        (_PIN, {"SSL_CERT_FILE": "GARBAGE"}, "contains no certificates"),
        (_CLUSTER, {"SSL_CERT_DIR": "/nowhere"}, "SSL_CERT_DIR='/nowhere' cannot be read"),
        (_PIN, {"HTTPS_PROXY": "ftp://proxy"}, "of HTTPS_PROXY cannot be used"),
        (_NODE, {"ALL_PROXY": ":::"}, "of ALL_PROXY cannot be used"),
        (_CLUSTER, {"https_proxy": "http://proxy:port"}, "of https_proxy cannot be used"),
    ],
)
def test_the_broken_surroundings_of_one_target_never_stop_the_others(
    reconcile: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    environment: dict[str, str],
    why: str,
) -> None:
    garbage = reconcile.write("garbage.pem", "no certificate")
    for name in ("HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    if "TOKEN" not in environment and "is not set" not in why:
        monkeypatch.setenv("TOKEN", "t0ken")
    for name, value in environment.items():
        monkeypatch.setenv(name, str(garbage) if value == "GARBAGE" else value)
    index = reconcile.root / "releases/index.yaml"
    index.write_text(index.read_text().replace("[store]", "[store, bad]"))
    reconcile.write(
        "releases/targets.yaml",
        f"targets:\n  store: {{kind: store, path: .reconcile/store}}\n  bad: {target}\n",
    )
    done = reconcile("--json")
    states = [(each["target"], each["state"]) for each in done.document["items"] if each["target"]]
    assert (done.code, sorted(set(states))) == (5, [("bad", "unknown"), ("store", "applied")])
    assert why in done.out
    assert "two" not in done.out
    assert reconcile.cars()
    assert "cid: bafy" in index.read_text()
