"""Records beside a remote index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.consume.beside import fetch_record
from reconciler.content.cid import parse
from reconciler.errors import InvalidIndexError, PeerError
from reconciler.index.load import load_index
from reconciler.index.model import Record, Version
from reconciler.index.records import load_record, render_record
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer

CID = "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y"
OTHER = "bafybeihmoglmxezqm6bqoiauzrvzwg3c46fp22wrm2b2of6jwewj5j2tdq"
RECORD = Record(
    model="llm", version="1.0.0+b", cid=parse(CID), dirhash="0" * 64, profile="unixfs-v1-2025",
    size=10, files=1, blocks=2, block_bytes=20, car_size=100,
)  # fmt: skip


@pytest.fixture
def version(tmp_path: Path) -> Version:
    file = tmp_path / "index.yaml"
    file.write_text(f'schema: 1\nid: a\nmodels:\n  llm:\n    versions:\n      "1.0.0+b": {{cid: {CID}}}\n')
    return next(load_index(file).versions())


def download(said: Said, directory: Path, version: Version) -> tuple[Record | None, HttpPeer]:
    with http_peer(lambda _: said) as peer:
        fetch_record(f"{peer.url}/acme/releases/index.yaml", None, directory, version)
    return load_record(directory, "llm", "1.0.0+b"), peer


def test_a_record_is_downloaded_once_and_kept(tmp_path: Path, version: Version) -> None:
    records = tmp_path / "records"
    found, peer = download(Said(200, render_record(RECORD).encode()), records, version)
    assert found == RECORD
    assert peer.asked == [Asked("GET", "/acme/releases/records/llm/1.0.0+b.json", peer.asked[0].headers, b"")]
    found, peer = download(Said(500), records, version)
    assert found == RECORD
    assert not peer.asked


def test_a_missing_record_is_not_an_error(tmp_path: Path, version: Version) -> None:
    assert download(Said(404), tmp_path / "records", version)[0] is None
    fetch_record("ipfs://bafy/index.yaml", None, tmp_path / "records", version)
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("record", "wording"),
    [
        (replace(RECORD, version="2.0.0"), "is of llm@2.0.0"),
        (replace(RECORD, cid=parse(OTHER)), "in its record"),
    ],
)
def test_a_record_of_another_version_is_refused(
    tmp_path: Path, version: Version, record: Record, wording: str
) -> None:
    with pytest.raises(InvalidIndexError, match=wording):
        download(Said(200, render_record(record).encode()), tmp_path / "records", version)
    assert not (tmp_path / "records").exists()


def test_an_invalid_record_and_a_failing_host_are_errors(tmp_path: Path, version: Version) -> None:
    with pytest.raises(InvalidIndexError, match="not JSON"):
        download(Said(200, b"<html>"), tmp_path / "records", version)
    with pytest.raises(PeerError, match="denies access"):
        download(Said(403), tmp_path / "records", version)


def test_the_record_of_a_model_of_an_organisation_is_below_it(tmp_path: Path) -> None:
    file = tmp_path / "index.yaml"
    file.write_text(f'schema: 1\nid: a\nmodels:\n  Acme/LLM:\n    versions:\n      "1.0.0": {{cid: {CID}}}\n')
    (version,) = load_index(file).versions()
    record = replace(RECORD, model="Acme/LLM", version="1.0.0")
    with http_peer(lambda _: Said(200, render_record(record).encode())) as peer:
        fetch_record(f"{peer.url}/releases/index.yaml", None, tmp_path / "records", version)
    assert [asked.target for asked in peer.asked] == ["/releases/records/Acme/LLM/1.0.0.json"]
    assert load_record(tmp_path / "records", "Acme/LLM", "1.0.0") == record
