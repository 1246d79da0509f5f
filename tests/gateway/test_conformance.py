"""The conformance tests of the IPFS project (ipfs/gateway-conformance), run against `reconcile serve`."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.store_commands import import_car
from reconciler.content import car, dagpb, layout_file, varint
from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import DataError
from reconciler.targets.store.directory import StoreDirectory
from reconciler.targets.store.labels import LabelFile
from tests.support.gateway import Served, served

pytestmark = [pytest.mark.gateway_conformance, pytest.mark.timeout(600)]

#: specification: the minimum number of tests that must pass
SPECS = {
    "trustless-block-gateway": 38,
    "trustless-car-gateway": 340,
    "trustless-car-gateway-optional": 38,
    "path-unixfs-gateway,path-range-gateway": 90,
    "path-raw-gateway": 31,
}

#: tests of these groups for content that a store cannot contain; docs/gateway.md gives the reasons
LEFT_OUT = "TestTrustlessCar.*/.*DAG-CBOR"

#: fixtures that are not UnixFS with sha2-256, or have names that leave their directory; the one called
#: "fixtures" belongs to the subdomain gateway
REFUSED = {
    "dag-cbor-traversal", "dag-json-traversal", "plain-cbor", "plain-cbor-that-can-be-dag-cbor",
    "plain-cbor-that-can-be-dag-json", "plain-json", "dir-with-dag-cbor-with-links", "inside-root",
    "outside-root", "fixtures",
}  # fmt: skip
MISSING_BLOCK = "file-3k-and-3-blocks-missing-block"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("conformance")
    subprocess.run(
        ["gateway-conformance", "extract-fixtures", "--directory", home / "fixtures"],
        check=True, capture_output=True,
    )  # fmt: skip
    refused = set()
    for file in sorted((home / "fixtures").rglob("*.car")):
        name = file.stem.rpartition("_")[0]  # the tool numbers them
        try:
            if name == MISSING_BLOCK:
                keep_damaged(home / "store", file)
            else:
                import_car(file, home / "store", as_json=True)
        except DataError:
            refused.add(name)
    assert refused == REFUSED
    with served(home, home / "store") as running:
        yield running


def test_the_conformance_tests_pass(gateway: Served, tmp_path: Path) -> None:
    """All specifications in one run: starting the tool takes longer than its tests."""
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            "gateway-conformance", "test", "--gateway-url", gateway.url, "--json", report,
            "--specs", ",".join(SPECS), "--", "-timeout", "5m", "-skip", LEFT_OUT,
        ],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    results = [json.loads(line) for line in report.read_text().splitlines() if line.startswith("{")]
    ended = [result for result in results if result.get("Test")]
    failed = [result["Test"] for result in ended if result["Action"] == "fail"]
    assert not failed, "\n".join(failed)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    counted = Counter(result["Action"] for result in ended)
    assert counted["pass"] >= sum(SPECS.values()), counted


def keep_damaged(directory: Path, file: Path) -> None:
    """Write a CAR that lacks a block to a store, with zeros in its place, like a damaged CAR."""
    blocks = dict(_sections(file.read_bytes()))
    root = next(iter(blocks))
    links = dagpb.decode(blocks[root]).links
    layout = DagLayout(root)
    layout.add(root, len(blocks[root]))
    for link in links:
        layout.add(link.cid, len(blocks[link.cid]) if link.cid in blocks else link.tsize)
    assert len(layout) == len(blocks) + 1
    parts = [car.header(root)]
    for block in layout:
        data = blocks.get(block.cid, bytes(block.size))
        parts += (varint.encode(36 + block.size), bytes(block.cid), data)
    place = StoreDirectory(directory)
    place.create()
    index = layout_file.layout_to_bytes(layout)
    place.car(root).write_bytes(b"".join(parts))
    place.index(root).write_bytes(index)
    entry = LabelFile(root, layout.car_size, len(index), ("reconciler/acme/damaged@1.0.0",))
    place.label_file(root).write_bytes(entry.to_bytes())


def _sections(data: bytes) -> Iterator[tuple[Cid, bytes]]:
    length, offset = varint.decode(data)
    offset += length
    while offset < len(data):
        length, offset = varint.decode(data, offset)
        cid, start = cids.decode_at(data, offset)
        offset += length
        yield cid, data[start:offset]
