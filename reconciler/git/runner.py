"""The one way git runs: hardened, without prompts, within a time limit, with classified failures.

Commands are argument lists for GitPython's `Git.execute`, never a shell. All get the same hardening:

- No hooks. `core.hooksPath` is a device, so neither a commit nor a push nor a fetch runs a hook, be it of the
  repository, the user or the system (a fetch would run `reference-transaction`). A push adds `--no-verify`.
  Hooks on the server are its own.
- No file-system monitor, pager, automatic maintenance or recursion into submodules.
- No replaced objects (`refs/replace/`): an object id means the bytes that hash to it.
- No prompts. Git, its helpers and ssh run in a session without a terminal, and graphical prompts are off.
  ssh gets `BatchMode=yes` unless the user configured a command for it (`GIT_SSH_COMMAND`, `GIT_SSH`,
  `core.sshCommand`), which then runs as configured.
- The repository is the one that the caller names. What an outer git (a hook, `git rebase --exec`) put into
  the environment about its own repository is removed. Settings there (`GIT_CONFIG_COUNT`) stay.
- Network only where the caller names protocols. HTTP redirects are not followed, and a transfer below 1000
  bytes a second for a minute ends.
- `LC_ALL=C`, since failures are classified by git's messages.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from reconciler.errors import ReconcilerError

TIME_LIMIT = 600.0  #: seconds for one command
_DRAIN_SECONDS = 5.0  # for what a killed command left in its pipes

_CONFIG = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "core.splitIndex=false",
    "core.sparseCheckout=false",
    "core.askPass=",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",  # bytes a second
    "http.lowSpeedTime=60",  # seconds
    "i18n.commitEncoding=UTF-8",
)
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_GLOB_PATHSPECS": "0",
    "GIT_NOGLOB_PATHSPECS": "0",
    "GIT_ICASE_PATHSPECS": "0",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LANGUAGE": "C",
    "LC_ALL": "C",
}
_NO_QUESTIONS = {
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
}
_OFFLINE = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
# `git rev-parse --local-env-vars`, less the settings, and the limit of the search for a repository
_REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_COMMON_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_PREFIX",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_NAMESPACE",
    "GIT_CONFIG",
    "GIT_CEILING_DIRECTORIES",
)
_SSH_VARIABLES = ("GIT_SSH_COMMAND", "GIT_SSH")
_NETWORK_COMMANDS = {"clone", "fetch", "ls-remote", "push"}


class GitFailure(Enum):
    """The class of a failure, which decides what the caller may do next."""

    NOT_INSTALLED = auto()  #: there is no git on PATH
    NO_REPOSITORY = auto()  #: there is no repository around the directory
    UNTRUSTED = auto()  #: the repository belongs to another user ("dubious ownership")
    DENIED = auto()  #: authentication or authorization failed
    NOT_FOUND = auto()  #: no such repository, ref or commit
    STALE = auto()  #: a ref is not where the command expected it
    REJECTED = auto()  #: the server refused the push
    TIMED_OUT = auto()  #: the time limit ended the command
    TRANSIENT = auto()  #: a network command failed otherwise, and may succeed when repeated
    OTHER = auto()  #: a local command failed otherwise


# Parts of git's messages, in lower case, in the order in which they decide.
_SIGNS = (
    (GitFailure.UNTRUSTED, ("dubious ownership",)),
    (GitFailure.NO_REPOSITORY, ("not a git repository",)),
    (GitFailure.STALE, ("stale info", "cannot lock ref", "fetch first")),
    (
        GitFailure.DENIED,
        ("authentication failed", "could not read username", "denied", "error: 401", "error: 403"),
    ),
    (GitFailure.NOT_FOUND, ("not found", "does not exist", "does not appear to be", "not our ref")),
    (GitFailure.REJECTED, ("rejected",)),
)


class GitError(ReconcilerError):
    """A git command failed.

    `failure` classifies it, `verb` is the command ("push"), `output` what git printed to both streams.
    """

    def __init__(
        self, failure: GitFailure, message: str, *, hint: str | None = None, verb: str = "", output: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.failure = failure
        self.verb = verb
        self.output = output


@dataclass(frozen=True, slots=True)
class GitOutput:
    """The exit status and the output of a command."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output without its last line break; bytes that are not UTF-8 become surrogates."""
        return self.stdout.removesuffix(b"\n").decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class GitRunner:
    """A runner of git commands in `directory`.

    `git_dir` names the repository; without it git looks for one around `directory`, and refuses one that
    belongs to another user. `protocols` are those of git's transports that may be used; none by default.
    `settings` are pairs of a configuration key and a value that git reads from its environment, so that they
    may contain a secret. `address` is the URL that commands name: it is ignored when a failure is classified
    by its text.
    """

    directory: Path
    git_dir: Path | None = None
    protocols: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    address: str = ""
    time_limit: float = TIME_LIMIT

    def run(
        self,
        *command: str,
        stdin: bytes = b"",
        env: Mapping[str, str] = {},
        directory: Path | None = None,
        statuses: Container[int] = (),
        is_interactive: bool = False,
    ) -> GitOutput:
        """Run `git command...` and return its output.

        `env` is added to the environment; `directory` replaces the runner's; `statuses` are exit statuses
        besides 0 that count as success. An interactive command, such as one that signs, may ask for a
        passphrase; it keeps the user's terminal if there is one, and then has no time limit.

        Raises GitError.
        """
        place = (directory or self.directory).absolute()
        words = [
            "git",
            "-C",  # GitPython runs a command in the current directory where it may not enter this one
            str(place),
            *(word for setting in _CONFIG for word in ("-c", setting)),
            "--no-pager",
            *command,
        ]
        quiet = {} if is_interactive else _NO_QUESTIONS
        environment = {**_ENVIRONMENT, **quiet, **self._environment(command[0]), **env}
        leaked = [name for name in _REPOSITORY_VARIABLES if name in os.environ and name not in environment]
        if leaked:  # GitPython can only add to the environment
            words = ["env", *(word for name in leaked for word in ("-u", name)), *words]
        in_session = is_interactive and _has_terminal()
        limit = None if in_session else self.time_limit
        try:
            status, out, err = _execute(place, words, stdin, environment, limit, new_session=not in_session)
        except subprocess.TimeoutExpired:
            message = f"git {command[0]} took longer than {self.time_limit:g} seconds"
            raise GitError(GitFailure.TIMED_OUT, message, verb=command[0]) from None
        output = GitOutput(status, out, err.decode("utf-8", "replace"))
        if status == 0:
            return output
        error = self._error(command[0], output)
        if status not in statuses or error.failure is GitFailure.UNTRUSTED:
            raise error
        return output

    def _environment(self, verb: str) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.git_dir is not None:
            found["GIT_DIR"] = str(self.git_dir)
        if self.protocols:
            found["GIT_ALLOW_PROTOCOL"] = ":".join(self.protocols)
        else:
            found |= _OFFLINE
        if "ssh" in self.protocols and verb in _NETWORK_COMMANDS and not self._has_ssh_command():
            found["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes"
        return found | _settings_environment(self.settings)

    def _has_ssh_command(self) -> bool:
        """Whether the user chose the command for ssh connections."""
        if any(os.environ.get(name) for name in _SSH_VARIABLES):
            return True
        return bool(self.run("config", "--get", "core.sshCommand", statuses=(1,)).text)

    def _error(self, verb: str, output: GitOutput) -> GitError:
        words = f"{output.stdout.decode('utf-8', 'replace')}\n{output.stderr}"
        failure = _classify(verb, words.replace(self.address, "") if self.address else words)
        if failure is GitFailure.UNTRUSTED:
            message = "git does not trust this repository: it belongs to another user"
            hint = "to trust it: git config --global --add safe.directory DIRECTORY"
            return GitError(failure, message, hint=hint, verb=verb, output=words)
        first = next(filter(None, map(str.strip, output.stderr.splitlines())), f"exit status {output.status}")
        first = first.removeprefix("fatal: ").removeprefix("error: ")
        first = "".join(character if character.isprintable() else " " for character in first)
        return GitError(failure, f"git {verb} failed: {first}", verb=verb, output=words)


def _classify(verb: str, words: str) -> GitFailure:
    """Return the class of a failure by git's wording (LC_ALL=C), which is all that git offers."""
    said = words.lower()
    for failure, signs in _SIGNS:
        if any(sign in said for sign in signs):
            return failure
    return GitFailure.TRANSIENT if verb in _NETWORK_COMMANDS else GitFailure.OTHER


def _settings_environment(settings: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the variables that add `settings` to those that the environment has already."""
    if not settings:
        return {}
    given = os.environ.get("GIT_CONFIG_COUNT", "")
    first = int(given) if given.isdecimal() else 0
    found = {"GIT_CONFIG_COUNT": str(first + len(settings))}
    for number, (key, value) in enumerate(settings, first):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _execute(
    place: Path,
    words: list[str],
    stdin: bytes,
    environment: Mapping[str, str],
    limit: float | None,
    *,
    new_session: bool,
) -> tuple[int, bytes, bytes]:
    """Run a command to its end; return its exit status, standard output and standard error.

    Any exception while waiting, such as a signal, kills the whole process group. Raises
    subprocess.TimeoutExpired after `limit` seconds, and GitError when git is not installed.
    """
    try:
        import git
    except ImportError:  # GitPython looks for the program when it is imported
        raise _not_installed() from None
    execute: Any = git.Git(place).execute
    try:
        running = execute(  # terminates the process when it is collected
            words,
            istream=subprocess.PIPE,
            env=environment,
            as_process=True,
            start_new_session=new_session,
        )
    except git.GitCommandNotFound:
        raise _not_installed() from None
    process = running.proc
    try:
        out, err = process.communicate(stdin, limit)
    except BaseException:
        _kill(process, group=new_session)
        raise
    return process.returncode, out, err


def _kill(process: Any, *, group: bool) -> None:
    """Kill a command; with `group`, its whole process group."""
    with suppress(ProcessLookupError):
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_DRAIN_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _not_installed() -> GitError:
    return GitError(GitFailure.NOT_INSTALLED, "git is not installed", hint="install git")
