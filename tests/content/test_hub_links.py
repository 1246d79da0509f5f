"""Snapshots in the cache of huggingface_hub, which are directories of links into `blobs/`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest

from reconciler.content.bundle import bare_bundle, make_bundle
from reconciler.content.identify import identify
from reconciler.content.scan import SourceListing, scan
from reconciler.errors import BundleError, SourceChangedError
from tests.support.plant import noise, plant

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "onnx/model.onnx": b"graph", "model.safetensors": noise(3 << 20)}


class Cache:
    """One repository of a cache, with one snapshot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = root / "models--acme--llm"
        self.snapshot = self.repository / "snapshots" / REVISION
        plant(self.repository, {"blobs": None, f"snapshots/{REVISION}": None, "refs/main": REVISION.encode()})

    def add(self, path: str, data: bytes) -> Path:
        """Add a file as the library does: named by its SHA-256, and a relative link to it."""
        blob = self.repository / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        link = self.snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        return blob


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path / "hub")
    for path, data in FILES.items():
        made.add(path, data)
    return made


def scanned(cache: Cache, boundary: Path | None = None) -> SourceListing:
    return scan(cache.snapshot, include_hidden=False, boundary=boundary)


def test_a_snapshot_has_the_identity_of_the_plain_files(cache: Cache, tmp_path: Path) -> None:
    plain = plant(tmp_path / "plain", FILES)
    linked = identify(bare_bundle(cache.snapshot), cache=None)
    assert linked.identity == identify(bare_bundle(plain), cache=None).identity
    assert [linked.read(n) for n in range(len(linked.layout))]
    assert len(huggingface_hub.scan_cache_dir(cache.root).repos) == 1


def test_a_single_file_of_a_snapshot_is_read_through_its_link(cache: Cache, tmp_path: Path) -> None:
    plain = plant(tmp_path / "plain", FILES)
    linked = identify(bare_bundle(cache.snapshot / "model.safetensors"), cache=None)
    assert linked.identity == identify(bare_bundle(plain / "model.safetensors"), cache=None).identity
    (cache.snapshot / "x").symlink_to("/etc/passwd")
    for path in ("x", "onnx/model.onnx"):
        with pytest.raises(BundleError, match="is a symbolic link"):
            bare_bundle(cache.snapshot / path)


def test_a_cache_may_be_at_the_boundary_or_below_it(cache: Cache, tmp_path: Path) -> None:
    for boundary in (tmp_path, cache.root, cache.repository, cache.repository / "blobs"):
        assert len(scanned(cache, boundary).files) == 3


@pytest.mark.parametrize("outside", ["snapshots", f"snapshots/{REVISION}", "refs"])
def test_blobs_outside_the_boundary_are_refused(cache: Cache, outside: str) -> None:
    with pytest.raises(BundleError, match="only partly inside") as caught:
        scanned(cache, cache.repository / outside)
    assert "--source-root" in (caught.value.hint or "")


LINKS: dict[str, str] = {
    "absolute": "/etc/passwd",
    "out of the cache": "../../../secret",
    "through blobs": "../../blobs/../../../secret",
    "to blobs itself": "../../blobs/",
    "to blobs without a name": "../../blobs",
    "to a directory in blobs": "../../blobs/directory/file",
    "of a deeper directory": "../../../blobs/aaa",
    "with a detour": "./../../blobs/aaa",
    "to another snapshot": "../other/file",
    "to the file beside it": "config.json",
    "to a download in progress": "../../blobs/aaa.incomplete",
    "to a hidden file": "../../blobs/.lock",
    "through another name of the same directory": f"../../snapshots/{REVISION}/../../blobs/aaa",
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS.keys())
def test_any_other_link_is_refused_even_if_its_target_exists(cache: Cache, link: str) -> None:
    plant(cache.root, {"secret": b"secret", "models--acme--llm/blobs/aaa": b"a"})
    plant(cache.repository / "blobs", {"directory/file": b"", "aaa.incomplete": b"", ".lock": b""})
    (cache.snapshot / "x").symlink_to(link)
    with pytest.raises(BundleError, match="'x' is a symbolic link"):
        scanned(cache)


def blobs_is_a_link(cache: Cache) -> None:
    (cache.repository / "blobs").rename(cache.root / "moved")
    (cache.repository / "blobs").symlink_to("../moved")


def snapshots_has_another_name(cache: Cache) -> None:
    other = cache.repository / "checkouts"
    (cache.repository / "snapshots").rename(other)
    cache.snapshot = other / REVISION


def snapshot_is_deeper(cache: Cache) -> None:
    deeper = cache.snapshot / "deeper"
    deeper.mkdir()
    (deeper / "x").symlink_to("../../blobs/aaa")
    cache.snapshot = deeper


@pytest.mark.parametrize("change", [blobs_is_a_link, snapshots_has_another_name, snapshot_is_deeper])
def test_only_the_layout_of_the_cache_is_accepted(cache: Cache, change: Callable[[Cache], None]) -> None:
    change(cache)
    with pytest.raises(BundleError, match="is a symbolic link") as caught:
        scanned(cache)
    assert "snapshots/<revision>/" in (caught.value.hint or "")


def test_a_missing_blob_is_named_with_the_way_out(cache: Cache) -> None:
    blob = cache.add("weights.bin", b"weights")
    blob.unlink()
    with pytest.raises(BundleError, match=f"'weights.bin': '{blob.name}' is missing") as caught:
        scanned(cache)
    assert "hf download" in (caught.value.hint or "")


def test_an_interrupted_download_is_told_apart_from_a_missing_blob(cache: Cache) -> None:
    blob = cache.add("weights.bin", b"weights")
    blob.rename(blob.with_name(f"{blob.name}.incomplete"))
    with pytest.raises(BundleError, match=r"'weights\.bin': the download of .* ended after 7"):
        scanned(cache)


def replace_by_link(blob: Path) -> None:
    blob.rename(blob.with_name("other"))
    blob.symlink_to("other")


def replace_by_directory(blob: Path) -> None:
    blob.unlink()
    blob.mkdir()


def replace_by_fifo(blob: Path) -> None:
    blob.unlink()
    os.mkfifo(blob)


@pytest.mark.parametrize("change", [replace_by_link, replace_by_directory, replace_by_fifo])
def test_a_blob_must_be_a_regular_file(cache: Cache, change: Callable[[Path], None]) -> None:
    change(cache.add("weights.bin", b"weights"))
    with pytest.raises(BundleError, match="is not a regular file"):
        scanned(cache)


def test_a_blob_that_is_not_what_its_name_says_is_refused(cache: Cache) -> None:
    blob = cache.add("weights.bin", b"weights")
    blob.write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"'weights.bin': its bytes do not have the SHA-256"):
        identify(make_bundle(scanned(cache), model="llm", version="1.0.0"), cache=None)


@pytest.mark.parametrize("change", [replace_by_link, replace_by_fifo, Path.unlink])
def test_a_blob_that_is_replaced_after_the_scan_is_not_read(
    cache: Cache, change: Callable[[Path], None]
) -> None:
    blob = cache.add("weights.bin", b"weights")
    listing = scanned(cache)
    change(blob)
    with pytest.raises(SourceChangedError, match=r"weights\.bin"):
        identify(make_bundle(listing, model="llm", version="1.0.0"), cache=None)
