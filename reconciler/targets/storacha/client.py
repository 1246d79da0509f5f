"""The official client, the only way to upload, run with a private state directory.

No secret is in a command-line argument: the client gets its key in its environment and its proof in a file
that only we can read. It reads our CAR from its standard input, so no copy of it is ever on disk.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from reconciler.fs import expand_user, no_temporary_place, try_lock
from reconciler.json_fields import JsonFields
from reconciler.net.auth import Secret
from reconciler.net.errors import AccessDeniedError, TransientError, UnexpectedResponseError, sanitize
from reconciler.net.retry import RetryBudget
from reconciler.targets.storacha import output
from reconciler.targets.storacha.options import AgentCredentials, StorachaOptions
from reconciler.targets.storacha.processes import RunningProcesses, kill

_MAX_OUTPUT = 256 << 20  # bytes of standard output
_MAX_STACK = 64 << 10  # bytes of standard error that are kept; the last ones say why
_TICK = 0.5  # seconds between two calls of `waiting`
_PASSED = (  # what Node.js and a network need; the client gets nothing else of our environment
    "PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip

_END_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL: prctl(2)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

_PREFIX = "reconcile-storacha-"
_OWNER = "owner"
_MODE = 0o700  # as mkdtemp creates a directory


# --- the private state


class PrivateState:
    """A new directory that only we can read, for the key and the proof of the client.

    Its users, the client included, hold a lock on a file in it. The operating system releases the lock of a
    process that is killed, so the next run recognizes its directory as abandoned and removes it. `lock` is a
    file descriptor, open until `remove`.
    """

    def __init__(self) -> None:
        while True:
            try:
                _remove_abandoned(Path(tempfile.gettempdir()))
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self.lock = os.open(self.path / _OWNER, flags, 0o600)
            except OSError as error:
                raise no_temporary_place(error) from None
            if _claim(self.lock, self.path):
                return
            os.close(self.lock)

    def remove(self) -> None:
        """Remove the directory with its content."""
        _remove_state(self.path)
        os.close(self.lock)


def _claim(lock: int, directory: Path) -> bool:
    """Lock a new directory; False when another run is removing it, or has removed it, as abandoned."""
    try:
        if not try_lock(lock):
            return False
    except OSError:
        pass  # the file system has no locks
    try:
        return os.path.samestat(os.fstat(lock), (directory / _OWNER).lstat())
    except OSError:
        return False


def _remove_abandoned(parent: Path) -> None:
    """Remove the directories of killed runs of this user; a directory that cannot be removed stays."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o777 != _MODE:
        return
    lock = os.open(directory / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if try_lock(lock):
            _remove_state(directory)
    finally:
        os.close(lock)


def _remove_state(directory: Path) -> None:
    """Remove a state directory, the owner file last: if we are killed, the rest is still recognized."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _OWNER:
                path.unlink()
    shutil.rmtree(directory, ignore_errors=True)


# --- the client


class StorachaClient:
    """The client of one agent for one space.

    `silence` is how many seconds a command may make no progress, `short` the same for commands without
    input. With the run of `budget` end all commands. Methods raise RequestError.
    """

    def __init__(
        self,
        name: str,
        options: StorachaOptions,
        agent: AgentCredentials,
        environ: Mapping[str, str],
        *,
        root: Path,
        silence: float = 3600.0,
        short: float = 180.0,
        budget: RetryBudget | None = None,
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
        self._running = RunningProcesses()
        if budget is not None:
            budget.share(self._running)

    def version(self) -> str:
        """Return the version of the client. Raises UnexpectedResponseError for one that is not supported."""
        return output.parse_version(self._name, self._run(["--version"]))

    def run_json(self, *arguments: str) -> list[JsonFields]:
        """Run a command without input, and return the JSON values that it prints, one for each line."""
        self.prepare()
        return output.parse_json_lines(self._name, self._run(arguments))

    def upload(
        self, car: Iterable[bytes], shard_size: int, waiting: Callable[[], None] = lambda: None
    ) -> output.UploadResult:
        """Upload the CAR that `car` yields, split into CARs of at most `shard_size` bytes.

        Calls `waiting` twice a second while the client works. What it raises, or `car`, ends the client and
        passes through.
        """
        self.prepare()
        arguments = ("up", "--car", "--json", "--verbose", "--shard-size", str(shard_size))
        return output.parse_upload(self._name, self._run(arguments, car, waiting))

    @property
    def takes_cars(self) -> bool:
        """Whether `store_car` can be used: its client must end when we are killed.

        Linux can do that, for a client that is not the child of another program, as npx makes it.
        """
        return sys.platform == "linux" and len(self._command()) == 1

    def store_car(self, car: Iterable[bytes], waiting: Callable[[], None] = lambda: None) -> None:
        """Store the bytes of a CAR in the space, where nothing lists it. Calls `waiting` as `upload` does."""
        self.prepare()
        self._run(["can", "blob", "add"], car, waiting, ends_with_us=True)

    def close(self) -> None:
        """Remove the private state. May be called twice."""
        if self._state is not None:
            self._state.remove()
        self._state, self._ready = None, False

    def prepare(self) -> None:
        """Check the version of the client, and give it the proof, once."""
        if self._ready:
            return
        self.version()
        proof = self._private().path / "proof.car"
        with os.fdopen(os.open(proof, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self._agent.delegation.car)
        printed = self._run(["space", "add", str(proof)]).decode("utf-8", "replace").split()
        if printed != [self._options.space]:
            space = sanitize(" ".join(printed), self._secrets)
            raise AccessDeniedError(
                self._name, f"the delegation is for {space or 'no space'}, not {self._options.space}"
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
        """Return the command that runs the client."""
        if self._options.cli:
            path = self._root / expand_user(self._options.cli)
            if not os.access(path, os.X_OK) or path.is_dir():
                message = f"{self._options.cli!r} is not an executable file"
                raise UnexpectedResponseError(self._name, message, hint=output.INSTALL)
            return [str(path)]
        path_variable = self._environ.get("PATH", os.defpath)
        if found := shutil.which("storacha", path=path_variable):
            return [found]
        if found := shutil.which("npx", path=path_variable):
            return [found, "--yes", output.PINNED]
        raise UnexpectedResponseError(self._name, "neither storacha nor npx is on PATH", hint=output.INSTALL)

    def _environment(self) -> dict[str, str]:
        """Return the environment of the client."""
        home, real = str(self._private().path), self._environ.get("HOME", "")
        given = {name: self._environ[name] for name in _PASSED if name in self._environ}
        given |= {
            name: value for name, value in self._environ.items() if name.lower().startswith("npm_config_")
        }
        if real:  # npx uses the cache and the registry of the user
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
        *,
        ends_with_us: bool = False,
    ) -> bytes:
        """Run a command with `feed` as its input, and return its standard output.

        With `ends_with_us`, on Linux, the kernel kills it when this thread ends, even if we are killed: it
        would take the end of its input for that of what it should store. Its input ends first, by less
        than the time that it needs to hash and store anything. Raises RequestError when it fails,
        or makes no progress for too long.
        """
        command = [*self._command(), *arguments]
        if ends_with_us:
            command = [sys.executable, "-Ic", _END_WITH_PARENT, str(os.getpid()), *command]
        try:
            process = subprocess.Popen(
                command,
                cwd=self._private().path,
                pass_fds=(self._private().lock,),  # as long as the client lives, its state is in use
                env=self._environment(),
                stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # npx starts other processes, which must end with it
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UnexpectedResponseError(
                self._name, f"cannot run {command[0]!r}: {reason}", hint=output.INSTALL
            ) from None
        printed = _OutputCollector(_pipe(process.stdout), _MAX_OUTPUT, head=True)
        errors = _OutputCollector(_pipe(process.stderr), _MAX_STACK, head=False)
        try:
            with self._running.holding(process):
                if feed is not None:
                    self._feed(process, feed, waiting)
                self._wait(process, self._short if feed is None else self._silence, waiting)
        finally:
            kill(process)  # before its input ends, or it would take part of a CAR for a whole one
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            printed.finish()
            errors.finish()
        if process.returncode != 0:
            raise output.classify_failure(self._name, process.returncode, errors.text(), self._secrets)
        if printed.too_long:
            message = f"the storacha command printed more than {_MAX_OUTPUT} bytes"
            raise UnexpectedResponseError(self._name, message)
        return printed.data()

    def _feed(
        self, process: subprocess.Popen[bytes], chunks: Iterable[bytes], waiting: Callable[[], None]
    ) -> None:
        """Write `chunks` to the standard input of the client, the last byte of each together with the next.

        A stream that breaks off, even because we are killed, then ends within a block, and the client rejects
        it. It would accept a CAR that ends between two blocks.
        """
        stdin = _pipe(process.stdin)
        descriptor = stdin.fileno()
        os.set_blocking(descriptor, False)
        held = b""
        for chunk in chunks:
            data = held + chunk
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
        """Write all of `view`; False when the client has ended."""
        deadline = time.monotonic() + self._silence
        while view:
            try:
                taken = os.write(descriptor, view)
            except BlockingIOError:
                if process.poll() is not None:
                    return False
                if time.monotonic() > deadline:
                    raise self._no_progress(self._silence) from None
                waiting()
                select.select([], [descriptor], [], _TICK)
            except BrokenPipeError:
                return False
            else:
                view = view[taken:]
                deadline = time.monotonic() + self._silence
        return True

    def _wait(self, process: subprocess.Popen[bytes], seconds: float, waiting: Callable[[], None]) -> None:
        """Wait up to `seconds` for the end of the client."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                process.wait(min(_TICK, seconds))
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise self._no_progress(seconds) from None
                waiting()
            else:
                return

    def _no_progress(self, seconds: float) -> TransientError:
        return TransientError(
            self._name, f"the storacha command made no progress for {seconds:.0f} s", timed_out=True
        )


class _OutputCollector:
    """The first (`head`) or last `limit` bytes of a stream, read in a thread so that its pipe never fills."""

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
        """Wait for the end of the stream, at most 5 s: a process that survived may keep it open."""
        self._thread.join(5)
        if not self._thread.is_alive():
            self._stream.close()

    def data(self) -> bytes:
        """Return the collected bytes."""
        return bytes(self._data)

    def text(self) -> str:
        """Return the collected bytes as text; bytes that are not UTF-8 are replaced."""
        return self._data.decode("utf-8", "replace")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """Return a stream of a process that was started with pipes."""
    if stream is None:
        raise RuntimeError("the process has no such pipe")
    return stream
