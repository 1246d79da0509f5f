"""An index in a remote git repository, at a ref: `git+https://HOST/REPO.git[@REF][#path=FILE]`.

The form is pip's (packaging.python.org, "direct URL", VCS). One commit is fetched into a scratch repository,
without history and, if the server supports filters, without any file but the index. Git authenticates by its
own configuration: a credential helper, a netrc, an SSH key. An address contains no secret, and no password
prompt appears.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, urlsplit

from reconciler import fs
from reconciler.errors import DataError, ReconcilerError, UsageError
from reconciler.git.repository import OBJECT_ID
from reconciler.git.runner import GitError, GitFailure, GitOutput
from reconciler.git.scratch import ScratchRepository
from reconciler.net.errors import AccessDeniedError, NotFoundError, TransientError, sanitize

_PREFIX = "git+"
_SCHEMES = ("https", "http", "ssh", "file")
_INDEX = "releases/index.yaml"
_REF = re.compile(r"(?!-)[^\x00-\x20\x7f~^:?*\[\\]+")  # roughly what git-check-ref-format allows
_TIME_LIMIT = 120.0  # seconds for one git command
_HINT = "write it like git+https://host/repository.git@main#path=releases/index.yaml"


@dataclass(frozen=True, slots=True)
class GitFileAddress:
    """The address of a file in a repository.

    `url` is the one for git; `ref` is a branch, a tag, a full ref or a commit, "" for the default branch.
    """

    url: str
    ref: str
    path: str

    @property
    def is_fixed(self) -> bool:
        """Whether the ref is a commit, so that the file never changes."""
        return OBJECT_ID.fullmatch(self.ref) is not None


@dataclass(frozen=True, slots=True)
class GitFile:
    """The bytes of a file, its commit, and the object id that the ref had (a commit or a tag).

    The same object id later means the same file.
    """

    data: bytes
    commit: str
    oid: str


def is_git_address(address: str) -> bool:
    """Return whether `address` begins with `git+`."""
    return address.startswith(_PREFIX)


def parse_git_address(address: str) -> GitFileAddress:
    """Parse an address. Raises UsageError, without a user name or password in its message."""
    try:
        parts = urlsplit(address.removeprefix(_PREFIX))
        user, password = parts.username, parts.password
    except ValueError:
        raise UsageError("the git address of the index is not a URL", hint=_HINT) from None
    if password is not None or (user is not None and parts.scheme != "ssh"):
        raise UsageError(
            "the git address of the index contains a user name or password",
            hint="remove it; git uses its credential helper, or the netrc",
        )
    if parts.scheme not in _SCHEMES or parts.query or not address.isprintable() or " " in address:
        raise UsageError(f"cannot read an index from {address!r}", hint=_HINT)
    if not (parts.path if parts.scheme == "file" else parts.hostname) or parts.path in ("", "/"):
        raise UsageError(f"{address!r} has no repository", hint=_HINT)
    path, at, ref = parts.path.rpartition("@") if "@" in parts.path else (parts.path, "", "")
    if (at and not _REF.fullmatch(ref)) or ".." in ref:
        raise UsageError(f"{ref!r} is not a branch, tag or commit", hint=_HINT)
    url = parts._replace(path=path, fragment="").geturl()
    return GitFileAddress(url, ref, _file(parts.fragment, address))


def read_git_file(address: GitFileAddress, limit: int, known: str = "") -> GitFile | None:
    """Fetch the file at the current object of the ref; return None when that still is `known`.

    Raises UsageError when a tag and a branch have the name, NotFoundError, AccessDeniedError or
    TransientError when the server fails, DataError for anything but a file of at most `limit` bytes.
    """
    with fs.scratch_directory("reconciler-") as scratch:
        repository = _IndexRepository(Path(scratch, "git"), address)
        oid = address.ref if address.is_fixed else repository.tip()
        if oid == known:
            return None
        commit = repository.fetch(oid)
        return GitFile(repository.file(commit, limit), commit, oid)


def _file(fragment: str, address: str) -> str:
    """Return the path in the fragment of an address."""
    pairs = parse_qsl(fragment, keep_blank_values=True)
    if not fragment:
        return _INDEX
    if [key for key, _ in pairs] != ["path"]:
        raise UsageError(f"{address!r} has a fragment that is not path=FILE", hint=_HINT)
    path = PurePosixPath(pairs[0][1])
    if path.is_absolute() or ".." in path.parts or not path.parts or not str(path).isprintable():
        raise UsageError(f"{str(path)!r} is not a path in a repository", hint=_HINT)
    return str(path)


class _IndexRepository:
    """A scratch repository whose origin is the one at `address`. Errors are those of `read_git_file`."""

    def __init__(self, directory: Path, address: GitFileAddress) -> None:
        self._address = address
        with _request_errors(address):
            self._scratch = ScratchRepository.create(directory, address.url, time_limit=_TIME_LIMIT)

    def tip(self) -> str:
        """Return the object id of the ref on the server.

        Raises NotFoundError, and UsageError when a branch and a tag have the name.
        """
        ref = self._address.ref
        names = [ref or "HEAD"] if not ref or ref.startswith("refs/") else _full(ref)
        with _request_errors(self._address):
            listed = self._scratch.list_refs(*names)
        found = {name: oid for name, oid in listed.items() if OBJECT_ID.fullmatch(oid)}
        if not found:
            what = f"branch or tag {ref!r}" if ref else "commit"
            hint = "write a commit with all digits of its id"
            raise NotFoundError(self._address.url, f"no {what}", hint=hint)
        if len(set(found.values())) > 1:
            raise UsageError(
                f"{ref!r} is a branch and a tag of {self._address.url!r}",
                hint=f"write @{' or @'.join(names)}",
            )
        return next(iter(found.values()))

    def fetch(self, oid: str) -> str:
        """Fetch the commit `oid`, or the one that the tag `oid` points to, without files; return its id."""
        with _request_errors(self._address):
            self._scratch.fetch(oid, flags=("--depth=1", "--filter=blob:none"))
        return self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{oid}^{{commit}}").text

    def file(self, commit: str, limit: int) -> bytes:
        """Return the content of the file in `commit`."""
        path = self._address.path
        entry = self._git("ls-tree", "-z", "--full-tree", commit, "--", path).text.partition("\t")[0].split()
        where = f"{path!r} in {commit[:12]} of {self._address.url}"
        if not entry:
            raise NotFoundError(
                self._address.url, f"no {path!r} in {commit[:12]}", hint="write its path as #path=FILE"
            )
        mode, kind, blob = entry
        if kind != "blob" or mode == "120000":
            raise DataError(f"{where} is not a file")
        if int(self._git("cat-file", "-s", blob).stdout) > limit:
            raise DataError(f"{where} is larger than {limit} bytes")
        return self._git("cat-file", "blob", blob).stdout

    def _git(self, *command: str) -> GitOutput:
        with _request_errors(self._address):
            return self._scratch.runner.run(*command)


@contextmanager
def _request_errors(address: GitFileAddress) -> Iterator[None]:
    """Raise RequestError for a GitError."""
    try:
        yield
    except GitError as error:
        raise _failure(address.url, error) from None


def _failure(url: str, error: GitError) -> ReconcilerError:
    what = f"git {error.verb}: {sanitize(error.output.strip().removeprefix('fatal: '))}"
    match error.failure:
        case GitFailure.NOT_INSTALLED:
            return ReconcilerError("reading this index needs git", hint=error.hint)
        case GitFailure.DENIED:
            hint = "configure git to read it: with a credential helper, a netrc, or an SSH key"
            return AccessDeniedError(url, f"denied access ({what})", hint=hint)
        case GitFailure.UNTRUSTED:
            return AccessDeniedError(url, error.message, hint=error.hint)
        case GitFailure.NOT_FOUND | GitFailure.NO_REPOSITORY:
            return NotFoundError(url, f"no such repository or commit ({what})", hint="check the address")
        case GitFailure.TIMED_OUT:
            return TransientError(url, error.message, timed_out=True)
    return TransientError(url, f"failed ({what})", hint="check the address and the connection")


def _full(ref: str) -> list[str]:
    return [f"refs/heads/{ref}", f"refs/tags/{ref}"]
