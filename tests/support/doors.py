"""A server with doors, over a repository with releases of every state."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.gateway import Served, served
from tests.support.gguf import llama
from tests.support.releases import Releases
from tests.support.safetensors import safetensors

BIG = "acme/Tiny-LLM"
MIB = 1 << 20
FILES = {
    "model.safetensors": safetensors(random.Random(1).randbytes(3_000_000), dtype="F32", size=4),
    "config.json": b'{"model_type": "bert", "hidden_size": 8}\n',
    "notes/read me+1%.txt": "grüße\n".encode(),
    "notes/é.txt": b"beyond ASCII\n",
    "notes/deep/er/x.txt": b"x\n",
    "empty.bin": b"",
    "same-a.bin": b"same bytes",
    "same-b.bin": b"same bytes",
}
ABSENT = "bafybeidskjjd4zmr7oh6ku6wp72vvbxyibcli2r6if3ocdcy7jjjusvl2u"


@dataclass(frozen=True)
class DoorServer:
    """A running server, and the repository behind it."""

    served: Served
    releases: Releases

    @property
    def url(self) -> str:
        return self.served.url

    def commit(self, ref: str) -> str:
        return self.releases.cid(ref).digest[:20].hex()


GGUF = "acme/Tiny-GGUF"
QUANTISED = {
    "tiny-Q4_K_M.gguf": llama(15, 1),
    "tiny-Q8_0.gguf": llama(7, 2),
    "template": b"{{ .Prompt }}",
    "params": b'{"stop": ["<end>"]}',
    "LICENSE": b"Apache License\n",
}
SPLIT = {f"big-Q8_0-0000{part}-of-00002.gguf": llama(7, part) for part in (1, 2)}


def make_releases(root: Path) -> Releases:
    """Publish the releases that the tests of doors expect into `root`/.reconcile/store."""
    releases = Releases(root)
    releases.about = {
        BIG: {"channels": {"stable": "1.1.0"}, "license": "Apache-2.0", "format": "safetensors"},
        "plain": {"channels": {"next": "3.0.0-rc.1"}},
        "acme/data": {"kind": "dataset"},
    }
    releases.add(f"{BIG}@1.0.0", FILES | {"config.json": b"{}\n"})
    releases.add(f"{BIG}@1.1.0", FILES | {"config.json": b'{"older": 1}\n'})
    releases.add(f"{BIG}@1.2.0", FILES)
    releases.add(f"{BIG}@1.3.0", FILES | {"config.json": b'{"broken": 1}\n'}, yanked="wrong tokenizer")
    releases.add("plain@1.0.0+cu118", {"a.bin": b"cu118"})
    releases.add("plain@3.0.0-rc.1", {"a.bin": b"candidate"})
    releases.add("acme/data@1.0.0", {"data/train.jsonl": b'{"text": "a"}\n{"text": "b"}\n'})
    releases.about[GGUF] = {"format": "gguf"}
    releases.add(f"{GGUF}@1.0.0", QUANTISED)
    releases.add(f"{GGUF}@2.0.0-rc.1", SPLIT)
    releases.apply()
    releases.add("plain@0.9.0", cid=ABSENT)
    releases.write()
    return releases


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def door_server(
    home: Path,
    doors: str = "hf,oci,ollama",
    *,
    releases: Releases | None = None,
    arguments: tuple[str, ...] = (),
) -> Iterator[DoorServer]:
    """Run `reconcile serve --doors` over the releases of `make_releases`, or over `releases`."""
    made = releases or make_releases(home / "repository")
    named = ("--doors", doors, "--index", str(made.index_file), *arguments)
    with served(home, made.root / ".reconcile" / "store", arguments=named) as running:
        yield DoorServer(running, made)


@dataclass(frozen=True)
class ListedDoorFile:
    """What a door says of one file."""

    size: int
    sha256: str


Listing = Mapping[str, ListedDoorFile]
