"""What the doors read: digests come from SHA256SUMS, and what is missing or damaged ends an answer."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.content.cid import RAW, Cid
from reconciler.gateway.doors.huggingface import HuggingFaceDoor
from reconciler.gateway.doors.interface import DoorContent, DoorRequest, split_path
from reconciler.gateway.doors.oci import OciDoor
from reconciler.gateway.doors.ollama import OllamaDoor
from reconciler.gateway.release_files import FileTables, read_files
from reconciler.gateway.releases import ReleaseView
from reconciler.gateway.request import RequestRefusedError
from reconciler.index.load import parse_index
from reconciler.index.model import Index
from reconciler.targets.check import Check
from reconciler.targets.store.stored_blocks import StoredBlocks
from tests.support.doors import BIG, FILES, GGUF, QUANTISED, DoorServer, door_server, make_releases, sha256
from tests.support.releases import Releases
from tests.support.store_files import harm

MIB = 1 << 20


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    return make_releases(tmp_path_factory.mktemp("content"))


class Counting:
    """Reads of a store, counted by CID."""

    def __init__(self, directory: Path) -> None:
        self.blocks = StoredBlocks(directory)
        self.blocks.refresh()
        self.read_cids: list[Cid] = []

    def __call__(self, cid: Cid) -> bytes:
        self.read_cids.append(cid)
        block = self.blocks.read(cid)
        assert block is not None
        return block


def test_the_digests_of_a_version_are_known_without_reading_its_weights(releases: Releases) -> None:
    read = Counting(releases.root / ".reconcile" / "store")
    files = read_files(releases.cid(f"{BIG}@1.2.0"), read)
    assert {file.path: file.hex for file in files if file.path in FILES} == {
        path: sha256(data) for path, data in FILES.items()
    }
    leaves = [cid for cid in read.read_cids if cid.codec == RAW]
    assert set(leaves) == {files.by_path["SHA256SUMS"].address.cid}


def content(index: Callable[[], Index], read: Callable[[Cid], bytes]) -> DoorContent:
    view = ReleaseView(index, seconds=0, log=lambda _: None)
    return DoorContent(view, FileTables(lambda: read), lambda: read)


def ask(path: str, **headers: str) -> DoorRequest:
    bare, _, query = path.partition("?")
    return DoorRequest("GET", bare, split_path(bare), headers, query, address="http://127.0.0.1:1")


def test_manifests_read_no_weights_but_the_header_of_a_gguf_file(releases: Releases) -> None:
    read = Counting(releases.root / ".reconcile" / "store")
    offered = content(lambda: releases.index, read)
    weights = {file.address.cid for file in read_files(releases.cid(f"{BIG}@1.2.0"), read) if file.size > MIB}
    read.read_cids.clear()
    HuggingFaceDoor(offered).answer(ask(f"/api/models/{BIG}/tree/1.2.0?recursive=true"))
    OciDoor(offered).answer(ask(f"/v2/{BIG.lower()}/manifests/1.2.0"))
    leaves = [cid for cid in read.read_cids if cid.codec == RAW]
    assert len(set(leaves)) == 1, "SHA256SUMS"
    assert len(read.read_cids) < 12, "read once for both"
    assert weights <= set(read.read_cids), "the root of a large file says how large it is"
    read.read_cids.clear()
    OllamaDoor(offered).answer(ask(f"/v2/{GGUF}/manifests/1.0.0"))
    assert len({cid for cid in read.read_cids if cid.codec == RAW}) == 2, "SHA256SUMS and the header"


def many_versions(number: int, cid: Cid) -> Index:
    versions = {f"1.0.{n}": {"cid": str(cid)} for n in range(number)}
    document = {"schema": 1, "id": "acme", "models": {"llm": {"versions": versions}}}
    return parse_index(json.dumps(document), Path("index.yaml"))


@pytest.mark.slow
def test_ten_thousand_tags_are_listed_in_pages(releases: Releases) -> None:
    index = many_versions(10_000, releases.cid(f"{BIG}@1.2.0"))
    read = Counting(releases.root / ".reconcile" / "store")
    offered = content(lambda: index, read)
    door = OciDoor(offered)
    found: list[str] = []
    path = "/v2/llm/tags/list"
    while path:
        response = door.answer(ask(path)).response
        tags = json.loads(b"".join(response.body))["tags"]
        assert len(tags) <= 1000
        found += tags
        path = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert found == sorted({f"1.0.{n}" for n in range(10_000)} | {"latest"})
    refs = json.loads(b"".join(HuggingFaceDoor(offered).answer(ask("/api/models/llm/refs")).response.body))
    assert len(refs["tags"]) == 10_000
    assert read.read_cids == []


def test_an_unknown_digest_reads_each_version_once(releases: Releases) -> None:
    index = many_versions(500, releases.cid(f"{BIG}@1.2.0"))
    read = Counting(releases.root / ".reconcile" / "store")
    door = OciDoor(content(lambda: index, read))
    for number in range(3):
        with pytest.raises(RequestRefusedError) as caught:
            door.answer(ask(f"/v2/llm/blobs/sha256:{number:064x}"))
        assert caught.value.status == 404
    assert len(read.read_cids) < 12


def test_an_index_that_cannot_be_read_again_leaves_the_last_one_in_use(releases: Releases) -> None:
    lines: list[str] = []
    texts = iter([releases.index_file.read_text(), "models: ["])
    view = ReleaseView(lambda: parse_index(next(texts), releases.index_file), seconds=0, log=lines.append)
    before = [model.name for model in view.models()]
    view.refresh()
    assert [model.name for model in view.models()] == before
    assert len(lines) == 1
    assert "the last one stays in use" in lines[0]


# --- a store that changes while it is served


@pytest.fixture
def private(tmp_path: Path) -> Iterator[DoorServer]:
    """A server of its own, whose store may be damaged."""
    with door_server(tmp_path) as running:
        yield running


def paths(server: DoorServer) -> dict[str, tuple[str, dict[str, str]]]:
    """Return a request for the large file through every way, with its headers."""
    digest = f"sha256:{sha256(FILES['model.safetensors'])}"
    return {
        "hf": (f"/{BIG}/resolve/main/model.safetensors", {}),
        "oci": (f"/v2/{BIG.lower()}/blobs/{digest}", {}),
        "gateway": (f"/ipfs/{server.releases.cid(f'{BIG}@1.2.0')}/model.safetensors", {}),
    }


def test_a_block_that_is_damaged_breaks_the_connection(private: DoorServer) -> None:
    data = FILES["model.safetensors"]
    for car in (private.releases.root / ".reconcile/store/cars").glob("*.car"):
        content_of = car.read_bytes()
        place = content_of.find(data[2 * MIB + 100 : 2 * MIB + 200])
        if place >= 0:
            harm(car, place, b"\xff" * 50)
    for name, (path, headers) in paths(private).items():
        got = private.served.get(path, **headers)
        assert not got.whole or got.status == 500, name
        assert len(got.body) < len(data), name
        assert data.startswith(got.body) or got.status == 500, name
        part = private.served.get(path, Range="bytes=0-1023", **headers)
        assert (part.status, part.body) == (206, data[:1024]), "what is whole is served"


@pytest.mark.slow
def test_no_door_sends_a_wrong_byte_while_the_store_is_damaged_and_repaired(private: DoorServer) -> None:
    """Clients of every door read while blocks are overwritten and put back."""
    weights, gguf = FILES["model.safetensors"], QUANTISED["tiny-Q4_K_M.gguf"]
    asked = {name: (path, weights, {}) for name, (path, _) in paths(private).items()}
    asked["ollama"] = (f"/v2/{GGUF}/blobs/sha256:{sha256(gguf)}", gguf, {"User_Agent": "ollama/0.0.0"})
    for (
        path,
        data,
        headers,
    ) in asked.values():  # once before: a version that cannot be read is not tried at once
        assert private.served.get(path, **headers).body == data
    wrong: list[str] = []
    whole = dict.fromkeys(asked, 0)
    stop = threading.Event()

    def read(name: str, path: str, data: bytes, headers: dict[str, str]) -> None:
        while not stop.is_set():
            try:
                got = private.served.get(path, **headers)
            except (http.client.HTTPException, OSError):  # a broken connection is an error for the client
                continue
            if got.status == 200 and not data.startswith(got.body):
                wrong.append(f"{name}: wrong bytes")
            if got.status == 200 and got.whole and got.body != data:
                wrong.append(f"{name}: incomplete, but ended cleanly")
            whole[name] += got.status == 200 and got.whole

    readers = [threading.Thread(target=read, args=(name, *each)) for name, each in asked.items()]
    for reader in readers:
        reader.start()
    harmed = 0
    for number in range(12):
        for car in (private.releases.root / ".reconcile/store/cars").glob("*.car"):
            for piece in (weights[MIB + 100 : MIB + 200], gguf[-200:]):
                if (place := car.read_bytes().find(piece)) >= 0:
                    harm(car, place, hashlib.sha256(b"%d" % number).digest() * 3)
                    harmed += 1
        private.releases.apply(check=Check.FULL)
    stop.set()
    for reader in readers:
        reader.join(30)
    assert harmed >= 24, "both files were damaged in every round"
    assert wrong == []
    assert all(whole.values()), whole
    for name, (path, data, headers) in asked.items():
        assert private.served.get(path, **headers).body == data, name
    assert private.served.process.poll() is None
