"""Blocks in memory, and indexes of them: what a publisher could write who follows no rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from reconciler.content import dagpb, unixfs
from reconciler.content.cid import DAG_PB, RAW, Cid, hash_block
from reconciler.gateway.stores import MissingBlockError
from reconciler.index.load import parse_index
from reconciler.index.model import Index


class Blocks:
    """Blocks in memory, with the CIDs that were read."""

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}
        self.asked: list[Cid] = []

    def __call__(self, cid: Cid) -> bytes:
        self.asked.append(cid)
        if cid not in self.blocks:
            raise MissingBlockError(f"no block {cid}")
        return self.blocks[cid]

    def put(self, codec: int, data: bytes) -> Cid:
        cid = hash_block(codec, data)
        self.blocks[cid] = data
        return cid

    def directory(self, entries: Mapping[str, bytes | Cid], *, tsize: int | None = None) -> Cid:
        """Put a directory; bytes become one raw block. Names may be any text."""
        links = []
        for name, entry in entries.items():
            cid = self.put(RAW, entry) if isinstance(entry, bytes) else entry
            size = len(entry) if isinstance(entry, bytes) else 0
            links.append(dagpb.PbLink(name.encode(), cid, size if tsize is None else tsize))
        return self.put(DAG_PB, dagpb.encode(links, unixfs.DIRECTORY))

    def release(self, files: Mapping[str, bytes]) -> Cid:
        """Put files, which may be in folders."""
        folders: dict[str, dict[str, bytes]] = {}
        here: dict[str, bytes | Cid] = {}
        for path, data in files.items():
            folder, slash, name = path.partition("/")
            if slash:
                folders.setdefault(folder, {})[name] = data
            else:
                here[path] = data
        return self.directory(here | {name: self.release(below) for name, below in folders.items()})


def index_of(**versions: Cid) -> Index:
    """Return an index with the model acme/llm; `v1_0_0=CID` is its version 1.0.0."""
    return parse_document(
        {"acme/llm": {name.removeprefix("v").replace("_", "."): cid for name, cid in versions.items()}}
    )


def parse_document(models: Mapping[str, Mapping[str, Cid]], **about: str) -> Index:
    """Return an index of versions by model; `about` are fields of each model."""
    entries = {
        name: {"versions": {text: {"cid": str(cid)} for text, cid in versions.items()}, **about}
        for name, versions in models.items()
    }
    return parse_index(json.dumps({"schema": 1, "id": "acme", "models": entries}), Path("index.yaml"))
