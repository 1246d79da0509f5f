"""An index in a git repository elsewhere, at a ref: `git+https://HOST/REPO.git[@REF][#path=FILE]`.

The form is pip's (packaging.python.org, "direct URL", VCS). One commit is fetched into a scratch repository,
without history and, where the server can, without any file but the index. Git's own means say who we are: a
credential helper, a netrc, an SSH key; an address holds no secret, and nobody is asked for a password.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, urlsplit

from reconciler.errors import DataError, ReconcilerError, UsageError
from reconciler.git.repository import OBJECT_ID
from reconciler.git.runner import GitError, GitFailure, GitOutput
from reconciler.git.scratch import ScratchRepository
from reconciler.net.errors import AccessDeniedError, NotFoundError, TransientError, sanitize

_PREFIX = "git+"
_SCHEMES = ("https", "http", "ssh", "file")
_INDEX = "releases/index.yaml"
_REF = re.compile(r"(?!-)[^\x00-\x20\x7f~^:?*\[\\]+")  # what git-check-ref-format leaves, roughly
_SECONDS = 120.0  # for one command of git
_HINT = "write it like git+https://host/repository.git@main#path=releases/index.yaml"


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
        return OBJECT_ID.fullmatch(self.ref) is not None


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
        repository = _IndexRepository(Path(scratch, "git"), place)
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


class _IndexRepository:
    """A scratch repository with the one at `place` as its origin. Errors are those of `read_file`."""

    def __init__(self, directory: Path, place: GitPlace) -> None:
        self._place = place
        with _request_errors(place):
            self._scratch = ScratchRepository.create(directory, place.url, time_limit=_SECONDS)

    def tip(self) -> str:
        """Return the object that the ref names there. Raises NotFoundError, UsageError when it names two."""
        ref = self._place.ref
        names = [ref or "HEAD"] if not ref or ref.startswith("refs/") else _full(ref)
        with _request_errors(self._place):
            listed = self._scratch.list_refs(*names)
        found = {name: oid for name, oid in listed.items() if OBJECT_ID.fullmatch(oid)}
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
        """Fetch the commit that `oid` is or tags, without its files; return its id."""
        with _request_errors(self._place):
            self._scratch.fetch(oid, flags=("--depth=1", "--filter=blob:none"))
        return self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{oid}^{{commit}}").text

    def file(self, commit: str, limit: int) -> bytes:
        """Return the content of the file in `commit`."""
        path = self._place.path
        entry = self._git("ls-tree", "-z", "--full-tree", commit, "--", path).text.partition("\t")[0].split()
        where = f"{path!r} in {commit[:12]} of {self._place.url}"
        if not entry:
            raise NotFoundError(
                self._place.url, f"has no {path!r} in {commit[:12]}", hint="name it with #path=FILE"
            )
        mode, kind, blob = entry
        if kind != "blob" or mode == "120000":
            raise DataError(f"{where} is no file")
        if int(self._git("cat-file", "-s", blob).stdout) > limit:
            raise DataError(f"{where} has more than {limit} bytes")
        return self._git("cat-file", "blob", blob).stdout

    def _git(self, *command: str) -> GitOutput:
        with _request_errors(self._place):
            return self._scratch.runner.run(*command)


@contextmanager
def _request_errors(place: GitPlace) -> Iterator[None]:
    """Raise the RequestError that says what a GitError means for reading an index."""
    try:
        yield
    except GitError as error:
        raise _failure(place.url, error) from None


def _failure(url: str, error: GitError) -> ReconcilerError:
    what = f"git {error.verb}: {sanitize(error.output.strip().removeprefix('fatal: '))}"
    match error.failure:
        case GitFailure.NOT_INSTALLED:
            return ReconcilerError("reading this index needs git", hint=error.hint)
        case GitFailure.DENIED:
            hint = "give git what it needs to read it: a credential helper, a netrc, or an SSH key"
            return AccessDeniedError(url, f"denies access ({what})", hint=hint)
        case GitFailure.UNTRUSTED:
            return AccessDeniedError(url, error.message, hint=error.hint)
        case GitFailure.NOT_FOUND | GitFailure.NO_REPOSITORY:
            return NotFoundError(
                url, f"has no such repository or commit ({what})", hint="is the address right?"
            )
        case GitFailure.TIMED_OUT:
            return TransientError(url, error.message, timed_out=True)
    return TransientError(url, f"failed ({what})", hint="is its address right, and can it be reached?")


def _full(ref: str) -> list[str]:
    return [f"refs/heads/{ref}", f"refs/tags/{ref}"]
