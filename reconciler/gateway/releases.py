"""The releases of an index as the doors show them: names, revisions, and which versions are listed.

A revision names one version of a model, in every form that a door has for it:

| revision                       | means                                                       |
|--------------------------------|-------------------------------------------------------------|
| `main`, `latest`               | the channel of that name; without one, the highest version  |
| `1.2.0`, `v1.2.0`, a channel, a range | what `model@…` means, see `index/resolve.py`         |
| `1.2.0_cu118`                  | `1.2.0+cu118`, since a tag of OCI has no `+`                |
| `refs/heads/…`, `refs/tags/…`  | the branch or the tag of that name                          |
| 40 hex digits                  | the version with this commit                                |

The commit of a version is the first 20 bytes of the digest in its root CID, so it changes exactly with the
bytes. Yanked and retired versions resolve when they are named exactly, and are not listed. Versions that the
trust rules of this machine refuse are not in the index here; a request that names one exactly gets the
reason.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from reconciler.content.cid import Cid
from reconciler.errors import ReconcilerError
from reconciler.gateway.request import RequestRefusedError
from reconciler.index.load import load_index
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Index, Model, Version
from reconciler.index.resolve import Exact, parse_ref, resolve
from reconciler.index.versions import newest_first

DEFAULT_REVISIONS = ("main", "latest")
_COMMIT_BYTES = 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFS = ("refs/heads/", "refs/tags/")


class Missing(StrEnum):
    """What a request names that is not there."""

    MODEL = "model"
    REVISION = "revision"
    FILE = "file"


class ReleaseMissingError(RequestRefusedError):
    """A 404 of a door; `what` is missing."""

    def __init__(self, what: Missing, message: str) -> None:
        super().__init__(404, message)
        self.what = what


class ReleaseRefusedError(RequestRefusedError):
    """A 403 of a door: the trust rules of this machine refuse a version."""

    def __init__(self, message: str) -> None:
        super().__init__(403, message)


@dataclass(frozen=True, slots=True)
class ServedRelease:
    """A version with a CID, as a door serves it."""

    version: Version
    root: Cid

    @property
    def commit(self) -> str:
        """40 hex digits that are a function of the root alone."""
        return commit_of(self.root)


def commit_of(root: Cid) -> str:
    """Return the commit of a root: the first 20 bytes of its digest, in hex."""
    return root.digest[:_COMMIT_BYTES].hex()


def index_reader() -> Callable[[RepositoryLayout], Index]:
    """Return a function that reads the index of a layout, and parses it only when its file changed."""
    known: list[tuple[tuple[object, ...], Index]] = []

    def read(layout: RepositoryLayout) -> Index:
        try:
            status = layout.index_file.stat()
        except OSError:
            return load_index(layout.index_file)  # raises the error for people
        seen = (layout.index_file, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if not known or known[0][0] != seen:
            known[:] = [(seen, load_index(layout.index_file))]
        return known[0][1]

    return read


class ReleaseView:
    """The releases of one index, which is read again from time to time. Usable from several threads.

    `load` returns the index; it is called again `seconds` after the last time. When it fails later on, the
    last good index stays in use, and `log` gets a line. `refused` returns why
    versions that were left out of it are not served, by `model@version`.
    """

    def __init__(
        self,
        load: Callable[[], Index],
        *,
        seconds: float,
        log: Callable[[str], None],
        refused: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._load = load
        self._refused = refused
        self._seconds = seconds
        self._log = log
        self._lock = threading.Lock()
        self._index = load()
        self._roots = _roots_of(self._index)
        self._loaded = time.monotonic()

    def refresh(self) -> None:
        """Read the index again when its time has come; one thread does it, the others go on."""
        if time.monotonic() - self._loaded < self._seconds or not self._lock.acquire(blocking=False):
            return
        try:
            self._index = self._load()
        except ReconcilerError as error:
            self._log(f"the index cannot be read again, the last one stays in use: {error.message}")
        finally:
            self._loaded = time.monotonic()
            self._lock.release()

    def models(self) -> Iterator[Model]:
        """Iterate over the models that have a listed version, by name."""
        models = self._index.models
        for name in sorted(models):
            if self.listed(models[name]):
                yield models[name]

    def model(self, name: str) -> Model:
        """Return the model `name`, in any case: no index has two names that differ only in case.

        Raises ReleaseMissingError.
        """
        found = self._index.models.get(name)
        if found is None:
            folded = name.casefold()
            found = next((m for n, m in self._index.models.items() if n.casefold() == folded), None)
        if found is None:
            raise ReleaseMissingError(Missing.MODEL, f"no model {name[:96]!r} in the index of this server")
        return found

    def release(self, model: Model, revision: str) -> ServedRelease:
        """Return the release of `model` that `revision` means.

        Raises ReleaseMissingError, and ReleaseRefusedError when a trust rule refuses it.
        """
        for prefix in _REFS:
            revision = revision.removeprefix(prefix)
        if _COMMIT.fullmatch(revision):
            return self._by_commit(model, revision)
        if self._is_default(model, revision):
            texts = [model.name]
        else:
            texts = [f"{model.name}@{each}" for each in dict.fromkeys((revision, revision.replace("_", "+")))]
        refusal: ReconcilerError | None = None
        for text in texts:
            try:
                return self._resolved(text)
            except ReconcilerError as error:
                refusal = refusal or error
                self._raise_refused(text)
        hint = f"; {refusal.hint}" if refusal and refusal.hint else ""
        raise ReleaseMissingError(Missing.REVISION, f"{refusal.message if refusal else ''}{hint}")

    def listed(self, model: Model) -> Mapping[str, ServedRelease]:
        """Return the versions to list by their SemVer text, the newest first."""
        return {
            text: ServedRelease(version, version.cid)
            for text in newest_first(model.versions)
            if (version := model.versions[text]).cid is not None
            and version.yanked is None
            and not version.retired
        }

    def has_root(self, root: Cid) -> bool:
        """Return whether a version of the index has this root."""
        index = self._index
        if self._roots[0] is not index:
            self._roots = _roots_of(index)
        return root in self._roots[1]

    def branches(self, model: Model) -> Mapping[str, ServedRelease]:
        """Return what moves, by name: `main` and the channels."""
        found: dict[str, ServedRelease] = {}
        for name in (DEFAULT_REVISIONS[0], *model.channels):
            try:
                found[name] = self.release(model, name)
            except ReleaseMissingError:  # such as a channel of a version that has no CID yet
                continue
        return found

    def _raise_refused(self, text: str) -> None:
        """Raise ReleaseRefusedError when a reference names a version that a trust rule refuses."""
        refused = self._refused()
        if not refused:
            return
        with suppress(ReconcilerError):
            ref = parse_ref(text)
            if isinstance(ref.selector, Exact) and (
                reason := refused.get(f"{ref.model}@{ref.selector.version}")
            ):
                raise ReleaseRefusedError(reason)

    def _is_default(self, model: Model, revision: str) -> bool:
        return revision in DEFAULT_REVISIONS and revision not in model.channels

    def _by_commit(self, model: Model, commit: str) -> ServedRelease:
        for version in model.versions.values():
            if version.cid is not None and commit_of(version.cid) == commit:
                return ServedRelease(version, version.cid)
        raise ReleaseMissingError(Missing.REVISION, f"no version of {model.name} has the commit {commit}")

    def _resolved(self, text: str) -> ServedRelease:
        found = resolve(self._index, parse_ref(text))
        assert found.version is not None  # noqa: S101  the reference names a model
        return ServedRelease(found.version, found.cid)


def _roots_of(index: Index) -> tuple[Index, frozenset[Cid | None]]:
    return index, frozenset(version.cid for version in index.versions())
