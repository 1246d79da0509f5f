"""An index elsewhere, at an https address or under a CID: kept here, revalidated, never rolled back.

What was read once is remembered as version and CID. An index that gives a version another CID, or that no
longer knows a version it once had, is refused: it is an older one, or somebody changed what was released.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from reconciler.consume.peers import Peer, Peers
from reconciler.consume.sources import Source
from reconciler.consume.tree import read_tree
from reconciler.content import cid as cids
from reconciler.content.walk import NodeKind, leaf_bytes
from reconciler.errors import DataError, SafetyRefusal, UsageError
from reconciler.index.guarded_yaml import MAX_BYTES
from reconciler.index.load import load_index
from reconciler.index.replace_file import replace_file
from reconciler.net.client import HttpClient

_NAME = "index.yaml"


def is_remote(place: str) -> bool:
    """Whether `place` is an address and not a path."""
    return "://" in place


def open_remote(place: str, cache: Path, *, offline: bool = False, sources: Sequence[Source] = ()) -> Path:
    """The index at `place` as a file in `cache`.

    `place` is an http(s) address, or `ipfs://CID[/path]` read through `sources`. Raises UsageError for
    anything else or when it was never read and `offline`; Outcome when it cannot be reached; SafetyRefusal
    when it is older than one seen; InvalidIndex.
    """
    kept = cache / "indexes" / hashlib.sha256(place.encode()).hexdigest()[:24] / _NAME
    if offline:
        if not kept.exists():
            raise UsageError(f"{place!r} was never read on this machine", hint="run once without --offline")
        return kept
    if place.startswith("ipfs://"):
        data: bytes | None = None if kept.exists() else _from_blocks(place, sources)
    elif place.startswith(("https://", "http://")):
        data = _from_address(place, kept)
    else:
        raise UsageError(
            f"cannot read an index from {place!r}",
            hint="give a file, an https:// address, or ipfs://CID; names of IPNS are not resolved",
        )
    if data is not None:
        _keep(kept, data, place)
    return kept


def _from_address(place: str, kept: Path) -> bytes | None:
    """The bytes at `place`; None when they are those in `kept` still."""
    base, _, name = place.rpartition("/")
    tag = kept.with_name("etag")
    headers = {"If-None-Match": tag.read_text()} if kept.exists() and tag.exists() else {}
    http = HttpClient(base, name=place)
    try:
        answer = http.request(
            "GET", name, headers=headers, expect=(200, 304), limit=MAX_BYTES, repeatable=True
        )
    finally:
        http.close()
    if answer.status == 304:
        return None
    kept.parent.mkdir(parents=True, exist_ok=True)
    etag = answer.headers.get("etag", "")
    tag.unlink(missing_ok=True)
    if etag.isascii() and etag.isprintable() and etag:
        kept.with_name("etag.new").write_text(etag)  # becomes valid with the bytes, in _keep
    return answer.body


def _from_blocks(place: str, sources: Sequence[Source]) -> bytes:
    """The file at `ipfs://CID[/path]`, every block verified. It never changes, so it is read once."""
    name, _, path = place.removeprefix("ipfs://").partition("/")
    root = cids.parse(name)
    if not sources:
        raise UsageError(f"no source for {place!r}", hint="name a gateway with --gateway")
    peers = Peers([Peer(source) for source in sources])
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


def _keep(kept: Path, data: bytes, place: str) -> None:
    """Put a newer index in the place of the older one, if it holds and takes nothing back."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_name("fresh.yaml")
    try:
        replace_file(fresh, data, 0o644)
        index = load_index(fresh, name=place)
    finally:
        fresh.unlink(missing_ok=True)
    found = {version.ref: str(version.cid) for version in index.versions() if version.cid is not None}
    memory = kept.with_name("seen.json")
    seen: dict[str, str] = json.loads(memory.read_text()) if memory.exists() else {}
    for ref, cid in seen.items():
        if ref not in found:
            raise SafetyRefusal(
                f"{place} no longer knows {ref}: it is older than the index that was read before",
                hint=f"if versions were really taken out, delete {str(memory)!r}",
            )
        if found[ref] != cid:
            raise SafetyRefusal(
                f"{place} says {found[ref]} for {ref}, and said {cid} before",
                hint="a released CID never changes; ask whoever keeps the index",
            )
    replace_file(memory, json.dumps(found, indent=1).encode(), 0o644)
    replace_file(kept, data, 0o644)
    pending, tag = kept.with_name("etag.new"), kept.with_name("etag")
    if pending.exists():
        pending.replace(tag)
