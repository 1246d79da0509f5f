"""Remote indexes: at an https address, in a git repository, under a CID or under an IPNS name.

An index is cached, revalidated on every use, and never rolled back: the version and CID of every release are
remembered, and an index that changes a CID or lacks a version is refused, since it is older or a release was
changed. Files beside it are those of `beside.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from reconciler.consume import git_index, ipns
from reconciler.consume.beside import BesideRemoteIndex
from reconciler.consume.block_file import read_block_file
from reconciler.consume.host_tokens import auth_for
from reconciler.consume.seen_log import check_growth, keep_checkpoint
from reconciler.consume.sources import Source
from reconciler.errors import DataError, SafetyError, UsageError
from reconciler.fs import locked, replace_file, temporary_directory
from reconciler.index.guarded_yaml import MAX_BYTES
from reconciler.index.load import load_index
from reconciler.json_fields import JsonFields, load_json
from reconciler.net.client import HttpClient
from reconciler.redaction import hide_secrets, shown_address
from reconciler.trust.checkpoint import LogKeys

_NAME = "index.yaml"
_SEEN = "seen.json"
_ORIGIN = "origin.json"
_LOCK_SECONDS = 30.0
_HINT = "give a file, an https:// address, git+https://host/repository.git@ref, ipfs://CID or ipns://NAME"


@dataclass(frozen=True, slots=True)
class RemoteIndex:
    """The cached file of a remote index, and its commit when it is in a git repository.

    `content` is its address by CID when a name led there, "" for every other index.
    """

    file: Path
    commit: str | None = None
    content: str = ""


@dataclass(frozen=True, slots=True)
class _Download:
    """The bytes of an index, and a tag to revalidate them: the ETag, the git object or the sequence and value
    of the IPNS record; "" without one.
    """

    data: bytes
    tag: str = ""
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class _CachedOrigin:
    """Tag and commit of the cached bytes, and their SHA-256 (hex)."""

    tag: str = ""
    commit: str | None = None
    sha256: str = ""


def open_remote(
    place: str,
    cache: Path,
    *,
    offline: bool = False,
    sources: Sequence[Source] = (),
    log: LogKeys | None = None,
) -> RemoteIndex:
    """Read the index at `place`, and cache it in `cache`, or for this process where that cannot be written.

    `place` is an http(s) address, a file in a git repository (see `git_index`), or `ipfs://CID[/path]` or
    `ipns://NAME[/path]`, which is read from `sources`. With `offline`, return the cached index. Raises
    UsageError for any other place, and for one that is not cached when `offline`; RequestError when it cannot
    be read; SafetyError when it is older than the cached one; TrustError when the audit log beside it is not
    that of `log`, or did not only grow (`seen_log`); InvalidIndexError.
    """
    bare = place.partition("?")[0]
    if place.startswith(("https://", "http://")) and hide_secrets(bare) != bare:
        raise UsageError(
            f"the address {shown_address(place)!r} of the index contains a user name or password",
            hint="remove it, and name a variable with a token under `hosts` in your configuration",
        )
    home = cache / "indexes" / hashlib.sha256(place.encode()).hexdigest()[:24]
    file = home / _NAME
    known = _cached_origin(home)
    if offline:
        if not file.exists():
            raise UsageError(f"{place!r} is not cached on this machine", hint="run once without --offline")
        return RemoteIndex(file, known.commit, _content(place, known.tag))
    if place.startswith("ipfs://"):
        read = None if file.exists() else _Download(read_block_file(place, sources, MAX_BYTES))
    elif place.startswith(("https://", "http://")):
        read = _download(place, known.tag)
    elif place.startswith("ipns://"):
        read = _resolve_name(place, known.tag, sources)
    elif git_index.is_git_address(place):
        read = _read_repository(place, known.tag)
    else:
        raise UsageError(f"cannot read an index from {place!r}", hint=_HINT)
    if read is None:
        return RemoteIndex(file, known.commit, _content(place, known.tag))
    home = _writable(home)
    file = home / _NAME
    message = f"another process is reading {place!r}"
    with locked(home / "lock", message, hint="try again when it has finished", timeout=_LOCK_SECONDS):
        current = _cached_origin(home)
        if current != known:  # another process updated it meanwhile: its index is as new as ours, or newer
            return RemoteIndex(file, current.commit, _content(place, current.tag))
        content = _content(place, read.tag)
        with closing(BesideRemoteIndex(content or place, read.commit, sources)) as beside:
            checkpoint = check_growth(beside, home, log, place)
        _store(home, read, place)
        keep_checkpoint(home, checkpoint)
    return RemoteIndex(file, read.commit, content)


def _writable(home: Path) -> Path:
    """Create `home`; where that cannot be written, return a copy in a temporary directory of this process.

    What was cached before comes along, so that an older index is still refused.
    """
    with suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK):
            return home
    copy = temporary_directory("reconciler-index-")
    (copy / "log").mkdir()
    for name in (_NAME, _SEEN, _ORIGIN, "log/checkpoint"):
        with suppress(FileNotFoundError, NotADirectoryError):
            shutil.copyfile(home / name, copy / name)
    return copy


def _download(place: str, tag: str) -> _Download | None:
    """Download the file at `place`; None when it still has the ETag `tag`."""
    base, _, name = place.rpartition("/")
    http = HttpClient(base, name=place, auth=auth_for(base))
    try:
        response = http.request(
            "GET",
            name,
            headers={"If-None-Match": tag} if tag else {},
            expect=(200, 304) if tag else (200,),
            limit=MAX_BYTES,
            repeatable=True,
        )
    finally:
        http.close()
    if response.status == 304:
        return None
    etag = response.headers.get("etag", "")
    return _Download(response.body, etag if etag.isascii() and etag.isprintable() else "")


def _read_repository(place: str, tag: str) -> _Download | None:
    """Read the file in the git repository; None when the ref still names the object `tag`."""
    parsed = git_index.parse_git_address(place)
    if parsed.is_fixed and parsed.ref == tag:
        return None
    found = git_index.read_git_file(parsed, MAX_BYTES, tag)
    return None if found is None else _Download(found.data, found.oid, found.commit)


def _resolve_name(place: str, tag: str, sources: Sequence[Source]) -> _Download | None:
    """Read the file that an IPNS name resolves to; None when it still resolves to the value in `tag`."""
    text = place.removeprefix("ipns://").partition("/")[0]
    name = ipns.parse_ipns_name(text)
    record = ipns.newest_record(
        name, [each for each in sources if isinstance(each, ipns.IpnsSource)], datetime.now(UTC)
    )
    sequence, _, value = tag.partition(" ")
    if value == record.value:
        return None
    if sequence.isdigit() and record.sequence < int(sequence):
        raise SafetyError(
            f"{place}: the gateway returned record {record.sequence}, but record {sequence} was seen before",
            hint="use another gateway, or wait until it has the newer record",
        )
    if not record.value.startswith("/ipfs/"):
        raise DataError(f"{place!r} resolves to {record.value!r}, which is not a path below /ipfs/")
    tag = f"{record.sequence} {record.value}"
    return _Download(read_block_file(_content(place, tag), sources, MAX_BYTES), tag)


def _content(place: str, tag: str) -> str:
    """Return the address by CID of the index that an IPNS name resolved to; "" for every other place."""
    if not place.startswith("ipns://"):
        return ""
    value = tag.partition(" ")[2]
    path = place.removeprefix("ipns://").partition("/")[2]
    return "ipfs://" + "/".join(filter(None, (value.removeprefix("/ipfs/").strip("/"), path.strip("/"))))


def _cached_origin(home: Path) -> _CachedOrigin:
    """Return the origin of the cached bytes; an empty one when they have changed since it was written."""
    try:
        fields = JsonFields(load_json((home / _ORIGIN).read_bytes()), ValueError)
        commit = fields.text("commit") if fields.has("commit") else None
        origin = _CachedOrigin(fields.text("tag"), commit, fields.text("sha256"))
        return origin if origin.sha256 == _sha256((home / _NAME).read_bytes()) else _CachedOrigin()
    except (OSError, ValueError):
        return _CachedOrigin()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _store(home: Path, read: _Download, place: str) -> None:
    """Replace the cached index. Raises InvalidIndexError, and SafetyError for a rollback."""
    with tempfile.TemporaryDirectory(prefix=".reading-", dir=home) as scratch:
        fresh = Path(scratch, _NAME)
        fresh.write_bytes(read.data)
        index = load_index(fresh, name=place)
    found = {version.ref: str(version.cid) for version in index.versions() if version.cid is not None}
    memory = home / _SEEN
    for ref, cid in _seen_versions(memory).items():
        if ref not in found:
            raise SafetyError(
                f"{place} no longer contains {ref}: it is older than the index that was read before",
                hint=f"if versions were removed on purpose, delete {str(memory)!r}",
            )
        if found[ref] != cid:
            raise SafetyError(
                f"{place} has {found[ref]} for {ref}, but had {cid} before",
                hint="a released CID must not change; ask the maintainers of the index",
            )
    origin = _CachedOrigin(read.tag, read.commit, _sha256(read.data))
    replace_file(memory, json.dumps(found, indent=1).encode(), mode=0o644)
    replace_file(home / _NAME, read.data, mode=0o644)
    replace_file(home / _ORIGIN, json.dumps(asdict(origin)).encode(), mode=0o644)


def _seen_versions(memory: Path) -> dict[str, str]:
    """Return the CIDs that were read before, by version. Raises UsageError when the file is damaged."""
    try:
        fields = JsonFields(load_json(memory.read_bytes()), ValueError)
        return {ref: fields.text(ref) for ref in fields.mapping()}
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UsageError(
            f"{str(memory)!r} is damaged, so a rollback of the index could not be detected",
            hint="delete it if you trust the index in its current state",
        ) from None
