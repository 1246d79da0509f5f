"""An index in a git repository elsewhere, at a ref: `git+https://HOST/REPO.git[@REF][#path=FILE]`.

The form is pip's (packaging.python.org, "direct URL", VCS). One commit is fetched into a scratch repository,
without history and, where the server can, without any file but the index. Git's own means say who we are: a
credential helper, a netrc, an SSH key; an address holds no secret, and nobody is asked for a password.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from reconciler.errors import DataError, ReconcilerError, UsageError
from reconciler.net.errors import AccessDeniedError, NotFoundError, TransientError, sanitize

_PREFIX = "git+"
_SCHEMES = ("https", "http", "ssh", "file")
_INDEX = "releases/index.yaml"
_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF = re.compile(r"(?!-)[^\x00-\x20\x7f~^:?*\[\\]+")  # what git-check-ref-format leaves, roughly
_SECONDS = 120.0  # for one command of git
_HINT = "write it like git+https://host/repository.git@main#path=releases/index.yaml"

_CONFIG = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",  # bytes a second
    "http.lowSpeedTime=30",  # seconds
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GCM_INTERACTIVE": "never",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
    "LC_ALL": "C",
}

_DENIALS = (
    "could not read username",
    "authentication failed",
    "permission denied",
    "access denied",
    "error: 401",
    "error: 403",
)
_ABSENCES = ("not found", "does not exist", "does not appear to be", "not our ref")


@dataclass(frozen=True, slots=True)
class GitPlace:
    """A file in a repository. `url` as git takes it; `ref` is a branch, a tag, a full ref or a commit, and ""
    the default branch.
    """

    url: str
    ref: str
    path: str

    @property
    def is_fixed(self) -> bool:
        """Whether it names a commit, so that it can never mean anything else."""
        return _OID.fullmatch(self.ref) is not None


@dataclass(frozen=True, slots=True)
class GitFile:
    """What is there: the bytes, the commit they are from, and the object that the ref named (a commit or a
    tag), by which the same is known again.
    """

    data: bytes
    commit: str
    oid: str


def is_git(place: str) -> bool:
    """Whether `place` is of this form."""
    return place.startswith(_PREFIX)


def parse_place(place: str) -> GitPlace:
    """Take it apart. Raises UsageError, which shows no user name or password."""
    try:
        parts = urlsplit(place.removeprefix(_PREFIX))
        user, password = parts.username, parts.password
    except ValueError:
        raise UsageError("the git address of the index is no URL", hint=_HINT) from None
    if password is not None or (user is not None and parts.scheme != "ssh"):
        raise UsageError(
            "the git address of the index holds a user name or password",
            hint="take it out; git asks its credential helper, or the netrc",
        )
    if parts.scheme not in _SCHEMES or parts.query or not place.isprintable() or " " in place:
        raise UsageError(f"cannot read an index from {place!r}", hint=_HINT)
    if not (parts.path if parts.scheme == "file" else parts.hostname) or parts.path in ("", "/"):
        raise UsageError(f"{place!r} names no repository", hint=_HINT)
    path, at, ref = parts.path.rpartition("@") if "@" in parts.path else (parts.path, "", "")
    if (at and not _REF.fullmatch(ref)) or ".." in ref:
        raise UsageError(f"{ref!r} is no branch, tag or commit", hint=_HINT)
    return GitPlace(parts._replace(path=path, fragment="").geturl(), ref, _file(parts.fragment, place))


def read_file(place: GitPlace, limit: int, known: str = "") -> GitFile | None:
    """The file as the ref has it now; None when that is still the object `known`.

    Raises UsageError where a tag and a branch have the name, NotFoundError, AccessDeniedError or
    TransientError as the server answers, DataError for something that is no file of up to `limit` bytes.
    """
    with tempfile.TemporaryDirectory(prefix="reconciler-") as scratch:
        repository = _Scratch(Path(scratch, "git"), place)
        oid = place.ref if place.is_fixed else repository.tip()
        if oid == known:
            return None
        commit = repository.fetch(oid)
        return GitFile(repository.file(commit, limit), commit, oid)


def _file(fragment: str, place: str) -> str:
    """The path that the part behind `#` names."""
    pairs = parse_qsl(fragment, keep_blank_values=True)
    if not fragment:
        return _INDEX
    if [key for key, _ in pairs] != ["path"]:
        raise UsageError(f"{place!r} has something behind '#' that is not path=FILE", hint=_HINT)
    path = PurePosixPath(pairs[0][1])
    if path.is_absolute() or ".." in path.parts or not path.parts or not str(path).isprintable():
        raise UsageError(f"{str(path)!r} is no path in a repository", hint=_HINT)
    return str(path)


class _Scratch:
    """A repository of our own that knows the one at `place` as its origin."""

    def __init__(self, directory: Path, place: GitPlace) -> None:
        self._directory = directory
        self._place = place
        directory.mkdir()
        self._git("init", "--quiet", "--bare", "--template=", str(directory))
        self._git("config", "remote.origin.url", place.url)

    def tip(self) -> str:
        """The object that the ref names there. Raises NotFoundError, UsageError when it names two."""
        ref = self._place.ref
        names = [ref or "HEAD"] if not ref or ref.startswith("refs/") else _full(ref)
        listed = (line.partition("\t") for line in self._git("ls-remote", "origin", *names).splitlines())
        found = {name: oid for oid, _, name in listed if name in names and _OID.fullmatch(oid)}
        if not found:
            what = f"branch or tag {ref!r}" if ref else "commit"
            hint = "a commit is named by all digits of its id"
            raise NotFoundError(self._place.url, f"has no {what}", hint=hint)
        if len(set(found.values())) > 1:
            raise UsageError(
                f"{ref!r} is a branch and a tag of {self._place.url!r}", hint=f"write @{' or @'.join(names)}"
            )
        return next(iter(found.values()))

    def fetch(self, oid: str) -> str:
        """Bring the commit that `oid` is or tags; its id."""
        flags = ("--quiet", "--depth=1", "--filter=blob:none", "--no-tags", "--no-write-fetch-head")
        self._git("fetch", *flags, "origin", oid)
        return self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{oid}^{{commit}}").strip()

    def file(self, commit: str, limit: int) -> bytes:
        """The file in `commit`."""
        path = self._place.path
        entry = self._git("ls-tree", "-z", "--full-tree", commit, "--", path).partition("\t")[0].split()
        where = f"{path!r} in {commit[:12]} of {self._place.url}"
        if not entry:
            raise NotFoundError(
                self._place.url, f"has no {path!r} in {commit[:12]}", hint="name it with #path=FILE"
            )
        mode, kind, blob = entry
        if kind != "blob" or mode == "120000":
            raise DataError(f"{where} is no file")
        if int(self._git("cat-file", "-s", blob)) > limit:
            raise DataError(f"{where} has more than {limit} bytes")
        return self._git_bytes("cat-file", "blob", blob)

    def _git(self, *command: str) -> str:
        return self._git_bytes(*command).decode("utf-8", "replace")

    def _git_bytes(self, *command: str) -> bytes:
        try:
            import git
        except ImportError:  # GitPython looks for the program when it is imported
            raise ReconcilerError("reading this index needs git", hint="install git") from None
        execute: Any = git.Git(self._directory).execute
        status, out, errors = execute(
            ["git", *(word for setting in _CONFIG for word in ("-c", setting)), *command],
            env={
                **_ENVIRONMENT,
                "GIT_DIR": str(self._directory),
                "GIT_OBJECT_DIRECTORY": str(self._directory / "objects"),
                "GIT_ALLOW_PROTOCOL": urlsplit(self._place.url).scheme,
            },
            with_extended_output=True,
            with_exceptions=False,
            stdout_as_string=False,
            strip_newline_in_stdout=False,
            kill_after_timeout=_SECONDS,
        )
        if status:
            raise self._failure(command[0], str(errors))
        return bytes(out)

    def _failure(self, verb: str, words: str) -> ReconcilerError:
        """What a failed command means, by git's own wording (LC_ALL=C), which is all it gives."""
        url = self._place.url
        said = words.replace(url, "").lower()  # an address may hold any of the signs
        what = f"git {verb}: {sanitize(words.removeprefix('fatal: '))}"
        if any(sign in said for sign in _DENIALS):
            hint = "give git what it needs to read it: a credential helper, a netrc, or an SSH key"
            return AccessDeniedError(url, f"denies access ({what})", hint=hint)
        if "dubious ownership" in said:
            hint = "it belongs to another user; to trust it: git config --global --add safe.directory DIR"
            return AccessDeniedError(url, "git does not trust this repository", hint=hint)
        if any(sign in said for sign in _ABSENCES):
            return NotFoundError(
                url, f"has no such repository or commit ({what})", hint="is the address right?"
            )
        return TransientError(url, f"failed ({what})", hint="is its address right, and can it be reached?")


def _full(ref: str) -> list[str]:
    return [f"refs/heads/{ref}", f"refs/tags/{ref}"]
