"""A directory that only we can read, for the client's key and proof, and for no longer than it is needed.

Whoever uses it holds a lock on a file in it, the client included. The operating system takes that lock from
a process that is killed; so what a killed run left is known for what it is, and the next one removes it.

The official client, run with a private state of its own: the one way to upload.

Its key comes in its environment and its proof in a file that only we can read; nothing secret is in an
argument. Our CAR goes to its standard input, so no copy of it is ever on disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from reconciler.errors import PeerError
from reconciler.net.auth import Secret
from reconciler.net.errors import AccessDeniedError, TransientError, UnexpectedResponseError, sanitize
from reconciler.targets.storacha import output
from reconciler.targets.storacha.options import Agent, StorachaOptions

_PREFIX = "reconcile-storacha-"
_OWNER = "owner"
_MODE = 0o700  # as mkdtemp makes it


class PrivateState:
    """One such directory, made when this is; `lock` is a file descriptor, open until `remove`."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self.lock = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if _is_ours(self.lock, self.path):
                return
            os.close(self.lock)  # another run swept it away between two of our calls

    def remove(self) -> None:
        """Remove it with all that is in it."""
        _clear(self.path)
        os.close(self.lock)


def _is_ours(lock: int, directory: Path) -> bool:
    """Whether we have the lock, on what still lies there; also where nothing can be locked."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(lock), (directory / _OWNER).lstat())
    except OSError:
        return False


def _sweep(parent: Path) -> None:
    """Remove what runs of this user left that were killed. What cannot be told or removed stays."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    _remove_dead(Path(entry.path))


def _remove_dead(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o777 != _MODE:
        return
    lock = os.open(directory / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError while anybody uses it
        _clear(directory)
    finally:
        os.close(lock)


def _clear(directory: Path) -> None:
    """Remove everything; what says whose it is goes last, should we be killed meanwhile."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _OWNER:
                path.unlink()
    shutil.rmtree(directory, ignore_errors=True)


_TOLD = 256 << 20  # bytes of standard output
_TICK = 0.5  # seconds
_STACK = 64 << 10  # bytes of standard error; the last ones say why
_PASSED = (  # what Node and a network need; nothing else of our environment reaches the client
    "PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip


class StorachaClient:
    """One agent and one space. `silence` is how many seconds a command may stand still, `short` the same for
    those that send nothing. Calls raise RequestError; the source's own errors pass through.
    """

    def __init__(
        self,
        name: str,
        options: StorachaOptions,
        agent: Agent,
        environ: Mapping[str, str],
        *,
        root: Path,
        silence: float = 3600.0,
        short: float = 180.0,
    ) -> None:
        self._name = name
        self._options = options
        self._agent = agent
        self._environ = environ
        self._root = root
        self._silence = silence
        self._short = short
        self._state: PrivateState | None = None
        self._ready = False

    def version(self) -> str:
        """The client's version, one that works."""
        return output.check_version(self._name, self._run(["--version"]))

    def call(self, *arguments: str) -> list[object]:
        """What a command that takes no input prints, as JSON."""
        self._open()
        return output.documents(self._name, self._run(arguments))

    def upload(
        self, car: Iterable[bytes], shard_size: int, waiting: Callable[[], None] = lambda: None
    ) -> output.Stored:
        """Store the CAR that `car` yields, cut at `shard_size` bytes. `waiting` is called twice a second
        while the client works; what it raises ends the client.
        """
        self._open()
        arguments = ("up", "--car", "--json", "--verbose", "--shard-size", str(shard_size))
        return output.read_stored(self._name, self._run(arguments, car, waiting))

    def close(self) -> None:
        """Remove the private state. May be called twice."""
        if self._state is not None:
            self._state.remove()
        self._state, self._ready = None, False

    def _open(self) -> None:
        """Check the client, and tell it which space."""
        if self._ready:
            return
        self.version()
        proof = self._private().path / "proof.car"
        with os.fdopen(os.open(proof, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self._agent.delegation.car)
        printed = self._run(["space", "add", str(proof)]).decode("utf-8", "replace").split()
        if printed != [self._options.space]:
            said = sanitize(" ".join(printed), self._secrets)
            raise AccessDeniedError(
                self._name, f"the delegation is for {said or 'no space'}, not {self._options.space}"
            )
        self._ready = True

    @property
    def _secrets(self) -> tuple[Secret, ...]:
        return (self._agent.key, self._agent.proof)

    def _private(self) -> PrivateState:
        if self._state is None:
            self._state = PrivateState()
        return self._state

    def _command(self) -> list[str]:
        if self._options.cli:
            path = self._root / Path(self._options.cli).expanduser()
            if not os.access(path, os.X_OK) or path.is_dir():
                message = f"{self._options.cli!r} is no program that can be run"
                raise UnexpectedResponseError(self._name, message, hint=output.INSTALL)
            return [str(path)]
        path_variable = self._environ.get("PATH", os.defpath)
        if found := shutil.which("storacha", path=path_variable):
            return [found]
        if found := shutil.which("npx", path=path_variable):
            return [found, "--yes", output.PINNED]
        raise UnexpectedResponseError(
            self._name, "there is no storacha command, and no npx to get one", hint=output.INSTALL
        )

    def _environment(self) -> dict[str, str]:
        home, real = str(self._private().path), self._environ.get("HOME", "")
        given = {name: self._environ[name] for name in _PASSED if name in self._environ}
        given |= {
            name: value for name, value in self._environ.items() if name.lower().startswith("npm_config_")
        }
        if real:  # npx keeps what it fetched, and finds the registry that the user has set
            given.setdefault("npm_config_cache", str(Path(real, ".npm")))
            given.setdefault("npm_config_userconfig", str(Path(real, ".npmrc")))
        given |= {"HOME": home, "XDG_CONFIG_HOME": home, "NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1"}
        given["STORACHA_PRINCIPAL"] = self._agent.key.reveal()
        if self._options.service:
            given["STORACHA_SERVICE_URL"] = self._options.endpoint
            given["STORACHA_SERVICE_DID"] = self._options.service
            given["STORACHA_RECEIPTS_URL"] = self._options.receipts
        return given

    def _run(
        self,
        arguments: Iterable[str],
        feed: Iterable[bytes] | None = None,
        waiting: Callable[[], None] = lambda: None,
    ) -> bytes:
        """Standard output of a command that ended well."""
        command = [*self._command(), *arguments]
        try:
            process = subprocess.Popen(
                command,
                cwd=self._private().path,
                pass_fds=(self._private().lock,),  # while the client lives, its state is in use
                env=self._environment(),
                stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # npx starts others; they all have to end with it
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UnexpectedResponseError(
                self._name, f"cannot run {command[0]!r}: {reason}", hint=output.INSTALL
            ) from None
        told = _Collected(_pipe(process.stdout), _TOLD, head=True)
        why = _Collected(_pipe(process.stderr), _STACK, head=False)
        try:
            if feed is not None:
                self._feed(process, feed, waiting)
            self._wait(process, self._short if feed is None else self._silence, waiting)
        finally:
            _kill(process)  # before its input ends, or it would take half a CAR for a whole one
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            told.finish()
            why.finish()
        if process.returncode != 0:
            raise output.failure(self._name, process.returncode, why.text(), self._secrets)
        if told.too_long:
            raise UnexpectedResponseError(self._name, f"the storacha command printed more than {_TOLD} bytes")
        return told.data()

    def _feed(
        self, process: subprocess.Popen[bytes], pieces: Iterable[bytes], waiting: Callable[[], None]
    ) -> None:
        """Write everything. The last byte of each piece waits for the next: a stream that breaks off, also
        because we are killed, then ends within a block, and no part of a CAR is a CAR.
        """
        stdin = _pipe(process.stdin)
        descriptor = stdin.fileno()
        os.set_blocking(descriptor, False)
        held = b""
        for piece in pieces:
            data = held + piece
            held = data[-1:]
            if not self._write(process, descriptor, memoryview(data)[:-1], waiting):
                return
        if self._write(process, descriptor, memoryview(held), waiting):
            with contextlib.suppress(BrokenPipeError):
                stdin.close()

    def _write(
        self,
        process: subprocess.Popen[bytes],
        descriptor: int,
        view: memoryview,
        waiting: Callable[[], None],
    ) -> bool:
        """Whether the client took all of `view`; it has ended when not."""
        patience = time.monotonic() + self._silence
        while view:
            try:
                taken = os.write(descriptor, view)
            except BlockingIOError:
                if process.poll() is not None:
                    return False
                if time.monotonic() > patience:
                    raise self._stuck(self._silence) from None
                waiting()
                select.select([], [descriptor], [], _TICK)
            except BrokenPipeError:
                return False
            else:
                view = view[taken:]
                patience = time.monotonic() + self._silence
        return True

    def _wait(self, process: subprocess.Popen[bytes], seconds: float, waiting: Callable[[], None]) -> None:
        patience = time.monotonic() + seconds
        while True:
            try:
                process.wait(min(_TICK, seconds))
            except subprocess.TimeoutExpired:
                if time.monotonic() > patience:
                    raise self._stuck(seconds) from None
                waiting()
            else:
                return

    def _stuck(self, seconds: float) -> PeerError:
        return TransientError(
            self._name, f"the storacha command stood still for {seconds:.0f} s", timed_out=True
        )


class _Collected:
    """The first (`head`) or last `limit` bytes of a stream, read in a thread so that it never fills up."""

    def __init__(self, stream: IO[bytes], limit: int, *, head: bool) -> None:
        self._stream, self._limit, self._head = stream, limit, head
        self._data = bytearray()
        self.too_long = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self._stream.read1(1 << 16):  # type: ignore[attr-defined]
            self._data += data
            if len(self._data) > self._limit:
                self.too_long = True
                del self._data[slice(self._limit, None) if self._head else slice(None, -self._limit)]

    def finish(self) -> None:
        """Wait for the end of the stream; a process that nobody could end keeps it no longer than this."""
        self._thread.join(5)
        if not self._thread.is_alive():
            self._stream.close()

    def data(self) -> bytes:
        return bytes(self._data)

    def text(self) -> str:
        return self._data.decode("utf-8", "replace")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """A stream that was asked for."""
    if stream is None:
        raise RuntimeError("a pipe that was asked for is not there")
    return stream


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the client and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
