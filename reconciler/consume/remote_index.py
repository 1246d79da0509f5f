"""An index elsewhere: at an https address, in a git repository, under a CID or an IPNS name. It is kept here,
revalidated, and never rolled back.

What was read once is remembered as version and CID. An index that gives a version another CID, or that no
longer knows a version it once had, is refused: it is an older one, or somebody changed what was released.

The record of a version beside an index elsewhere: brought here when it is wanted, and kept for good.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from reconciler.consume import git_index, ipns
from reconciler.consume.fetch import read_tree
from reconciler.consume.peers import SourcePool, TrackedSource
from reconciler.consume.sources import Source
from reconciler.content import cid as cids
from reconciler.content.walk import NodeKind, leaf_bytes
from reconciler.errors import DataError, LockedError, SafetyError, UsageError
from reconciler.index.guarded_yaml import MAX_BYTES
from reconciler.index.load import load_index
from reconciler.index.model import Version
from reconciler.index.records import MAX_RECORD_BYTES, check_record, record_of, record_path
from reconciler.index.replace_file import replace_file
from reconciler.net.client import HttpClient
from reconciler.net.errors import NotFoundError

_NAME = "index.yaml"
_LOCK_SECONDS = 30.0
_HINT = "give a file, an https:// address, git+https://host/repository.git@ref, ipfs://CID or ipns://NAME"


@dataclass(frozen=True, slots=True)
class RemoteIndex:
    """An index as it is kept on this machine, and the commit it is from when it came from git."""

    file: Path
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read, and the tag (ETag or git object) by which it is asked for again, "" without one."""

    data: bytes
    tag: str = ""
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class _Origin:
    """Tag and commit of the kept bytes, and which bytes those are (hex)."""

    tag: str = ""
    commit: str | None = None
    sha256: str = ""


def open_remote(
    place: str, cache: Path, *, offline: bool = False, sources: Sequence[Source] = ()
) -> RemoteIndex:
    """The index at `place`, kept in `cache`.

    `place` is an http(s) address, a file in a git repository as `git_index` has it, or `ipfs://CID[/path]` or
    `ipns://NAME[/path]` read through `sources`. Raises UsageError for anything else or when it was never read
    and `offline`; Outcome when it cannot be reached; SafetyError when it is older than one seen;
    InvalidIndex.
    """
    home = cache / "indexes" / hashlib.sha256(place.encode()).hexdigest()[:24]
    kept = home / _NAME
    known = _kept(home)
    if offline:
        if not kept.exists():
            raise UsageError(f"{place!r} was never read on this machine", hint="run once without --offline")
        return RemoteIndex(kept, known.commit)
    if place.startswith("ipfs://"):
        read = None if kept.exists() else _Read(_from_blocks(place, sources))
    elif place.startswith(("https://", "http://")):
        read = _from_address(place, known.tag)
    elif place.startswith("ipns://"):
        read = _from_name(place, known.tag, sources)
    elif git_index.is_git(place):
        read = _from_git(place, known.tag)
    else:
        raise UsageError(f"cannot read an index from {place!r}", hint=_HINT)
    if read is None:
        return RemoteIndex(kept, known.commit)
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home, place):
        renewed = _kept(home)
        if renewed != known:  # by another process since we asked: theirs is as new as ours, or newer
            return RemoteIndex(kept, renewed.commit)
        _keep(home, read, place)
    return RemoteIndex(kept, read.commit)


def _from_address(place: str, tag: str) -> _Read | None:
    """What is at `place`; None when it still has this ETag."""
    base, _, name = place.rpartition("/")
    http = HttpClient(base, name=place)
    try:
        answer = http.request(
            "GET",
            name,
            headers={"If-None-Match": tag} if tag else {},
            expect=(200, 304) if tag else (200,),
            limit=MAX_BYTES,
            repeatable=True,
        )
    finally:
        http.close()
    if answer.status == 304:
        return None
    etag = answer.headers.get("etag", "")
    return _Read(answer.body, etag if etag.isascii() and etag.isprintable() else "")


def _from_git(place: str, tag: str) -> _Read | None:
    """What is in the repository; None when the ref still names this object."""
    where = git_index.parse_place(place)
    if where.is_fixed and where.ref == tag:
        return None
    found = git_index.read_file(where, MAX_BYTES, tag)
    return None if found is None else _Read(found.data, found.oid, found.commit)


def _from_blocks(place: str, sources: Sequence[Source]) -> bytes:
    """The file at `ipfs://CID[/path]`, every block verified. It never changes, so it is read once."""
    name, _, path = place.removeprefix("ipfs://").partition("/")
    root = cids.parse(name)
    if not sources:
        raise UsageError(f"no source for {place!r}", hint="name a gateway with --gateway")
    peers = SourcePool([TrackedSource(source) for source in sources])
    found = read_tree(root, peers)
    node = next(
        (node for node in found.nodes if node.kind is NodeKind.FILE and node.path == path.strip("/")), None
    )
    if node is None or node.size > MAX_BYTES:
        raise DataError(f"{place!r} is no file of an index's size")
    return b"".join(
        leaf_bytes(found.layout, leaf.position, peers.read_block(found.layout.cid(leaf.position), None))
        for leaf in found.leaves(node)
    )


def _from_name(place: str, tag: str, sources: Sequence[Source]) -> _Read | None:
    """The file that an IPNS name means now; None when its owner has signed nothing new since `tag`."""
    text, _, path = place.removeprefix("ipns://").partition("/")
    name = ipns.parse_name(text)
    record = ipns.newest(
        name, [each for each in sources if isinstance(each, ipns.KnowsNames)], datetime.now(UTC)
    )
    sequence, _, value = tag.partition(" ")
    if value == record.value:
        return None
    if sequence.isdigit() and record.sequence < int(sequence):
        raise SafetyError(
            f"{place}: record {record.sequence} of its owner, and record {sequence} was seen before",
            hint="ask another gateway, or wait until the new one is known everywhere",
        )
    if not record.value.startswith("/ipfs/"):
        raise DataError(f"{place!r} means {record.value!r}, which is no path below /ipfs/")
    target = "/".join(filter(None, (record.value.removeprefix("/ipfs/").strip("/"), path.strip("/"))))
    return _Read(_from_blocks(f"ipfs://{target}", sources), f"{record.sequence} {record.value}")


def _kept(home: Path) -> _Origin:
    """Where what is kept came from; nothing is known of it when it is not what was written down with it."""
    try:
        document = json.loads((home / "origin.json").read_text())
        origin = _Origin(str(document["tag"]), document["commit"], str(document["sha256"]))
        return origin if origin.sha256 == _sha256((home / _NAME).read_bytes()) else _Origin()
    except (OSError, ValueError, KeyError, TypeError):
        return _Origin()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _keep(home: Path, read: _Read, place: str) -> None:
    """Put a newer index in the place of the older one, if it holds and takes nothing back."""
    with tempfile.TemporaryDirectory(prefix=".reading-", dir=home) as scratch:
        fresh = Path(scratch, _NAME)
        fresh.write_bytes(read.data)
        index = load_index(fresh, name=place)
    found = {version.ref: str(version.cid) for version in index.versions() if version.cid is not None}
    memory = home / "seen.json"
    for ref, cid in _seen(memory).items():
        if ref not in found:
            raise SafetyError(
                f"{place} no longer knows {ref}: it is older than the index that was read before",
                hint=f"if versions were really taken out, delete {str(memory)!r}",
            )
        if found[ref] != cid:
            raise SafetyError(
                f"{place} says {found[ref]} for {ref}, and said {cid} before",
                hint="a released CID never changes; ask whoever keeps the index",
            )
    origin = _Origin(read.tag, read.commit, _sha256(read.data))
    replace_file(memory, json.dumps(found, indent=1).encode(), 0o644)
    replace_file(home / _NAME, read.data, 0o644)
    replace_file(home / "origin.json", json.dumps(asdict(origin)).encode(), 0o644)


def _seen(memory: Path) -> dict[str, str]:
    """What was read before, by version. Raises UsageError when it cannot be told."""
    try:
        return {str(ref): str(cid) for ref, cid in json.loads(memory.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        raise UsageError(
            f"{str(memory)!r} does not hold, so that a rollback could not be seen",
            hint="delete it if you trust the index as it is now",
        ) from None


@contextmanager
def _locked(home: Path, place: str) -> Iterator[None]:
    """One process at a time compares with what was seen, and replaces it."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(home / "lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout:
        raise LockedError(f"another process is reading {place}", hint="try again when it is done") from None


def bring_record(place: str, commit: str | None, records: Path, version: Version) -> None:
    """Put the record of `version` into the directory `records`, where the index is that of `place`, read at
    `commit` if that is a git repository. Nothing happens where it is here already, or has none there, or the
    index has neither an address nor a repository.

    Raises Outcome when it cannot be asked for, InvalidIndex for a record that does not hold or is not of
    this version.
    """
    here = record_path(records, version.model, version.version)
    if here.exists():
        return
    path = PurePosixPath("records", version.model, here.name)
    try:
        data = _at_address(place, path) if commit is None else _in_git(place, commit, path)
    except NotFoundError:
        return
    if data is None:
        return
    check_record(version, record_of(data, f"{path} beside {place}", version.model, version.version))
    here.parent.mkdir(parents=True, exist_ok=True)
    replace_file(here, data, 0o644)


def _at_address(place: str, path: PurePosixPath) -> bytes | None:
    if not place.startswith(("https://", "http://")) or "?" in place:
        return None
    http = HttpClient(place.rpartition("/")[0], name=place)
    try:
        return http.request("GET", quote(str(path), safe="/+"), limit=MAX_RECORD_BYTES, repeatable=True).body
    finally:
        http.close()


def _in_git(place: str, commit: str, path: PurePosixPath) -> bytes | None:
    index = git_index.parse_place(place)
    beside = PurePosixPath(index.path).parent / path
    found = git_index.read_file(replace(index, ref=commit, path=str(beside)), MAX_RECORD_BYTES)
    return found.data if found else None
