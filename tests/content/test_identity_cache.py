from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.content import identify as identify_module
from reconciler.content.bundle import Bundle, bare_bundle, make_bundle
from reconciler.content.hashing import FileDigests
from reconciler.content.identify import identify
from reconciler.content.identity_cache import MIN_SIZE, RACY_NS, IdentityCache
from reconciler.content.scan import SourceListing, scan
from tests.support.plant import MIB, noise, plant


def settled(listing: SourceListing) -> SourceListing:
    """Return the same listing as if it had been scanned long after the files were written."""
    return dataclasses.replace(listing, scanned_at_ns=listing.scanned_at_ns + 10 * RACY_NS)


def bundle_of(root: Path) -> Bundle:
    return make_bundle(settled(scan(root, include_hidden=False)), model="m", version="1.0.0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", {"weights.bin": noise(3 * MIB + 5), "config.json": b"{}"})


@pytest.fixture
def cache(tmp_path: Path) -> IdentityCache:
    return IdentityCache(tmp_path / "cache")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were hashed."""
    paths: list[str] = []
    real = identify_module.hashing.hash_files

    def spy(listing, files, **rest):
        paths.extend(file.path for file in files)
        real(listing, files, **rest)

    monkeypatch.setattr(identify_module.hashing, "hash_files", spy)
    return paths


def test_an_unchanged_file_is_not_hashed_again(root: Path, cache: IdentityCache, hashed: list[str]) -> None:
    first = identify(bundle_of(root), cache=cache).identity
    hashed.clear()
    assert identify(bundle_of(root), cache=cache).identity == first
    assert hashed == ["config.json"]  # too small to be worth an entry


def test_without_a_cache_everything_is_hashed(root: Path, hashed: list[str]) -> None:
    for _ in range(2):
        identify(bundle_of(root), cache=None)
    assert sorted(hashed) == ["config.json"] * 2 + ["weights.bin"] * 2


@pytest.mark.parametrize("change", ["write", "touch", "chmod", "copy", "move"])
def test_any_change_of_the_stamp_causes_a_new_hash(
    root: Path, cache: IdentityCache, hashed: list[str], change: str
) -> None:
    identify(bundle_of(root), cache=cache)
    path = root / "weights.bin"
    if change == "write":
        path.write_bytes(noise(3 * MIB + 5, seed=1))
    elif change == "touch":
        os.utime(path, ns=(1, 1))
    elif change == "chmod":  # only the ctime tells
        path.chmod(0o600)
    elif change == "copy":
        (root / "new").write_bytes(path.read_bytes())
        os.utime(root / "new", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        (root / "new").replace(path)
    else:
        path.rename(root / "renamed.bin")
    hashed.clear()
    again = identify(bundle_of(root), cache=cache).identity
    assert any(name.endswith(".bin") for name in hashed)
    assert again == identify(bundle_of(root), cache=None).identity


def test_a_file_written_just_before_its_scan_is_not_cached(root: Path, tmp_path: Path) -> None:
    cache = IdentityCache(tmp_path / "cache")
    fresh = scan(root, include_hidden=False)
    identify(make_bundle(fresh, model="m", version="1.0.0"), cache=cache)
    assert not (tmp_path / "cache").exists()
    stamp = next(file.stamp for file in fresh.files if file.path == "weights.bin")
    edge = max(stamp.mtime_ns, stamp.ctime_ns) + RACY_NS
    for scanned_at, entries in ((edge - 1, 0), (edge, 1)):
        listing = dataclasses.replace(fresh, scanned_at_ns=scanned_at)
        identify(make_bundle(listing, model="m", version="1.0.0"), cache=cache)
        assert len(list((tmp_path / "cache").glob("*"))) == entries


def test_digests_without_a_sum_are_not_used_when_a_sum_is_needed(root: Path, cache: IdentityCache) -> None:
    bare = bare_bundle(root)
    identify(dataclasses.replace(bare, listing=settled(bare.listing)), cache=cache)
    assert identify(bundle_of(root), cache=cache).identity == identify(bundle_of(root), cache=None).identity


def test_digests_with_a_sum_are_used_when_none_is_needed(
    root: Path, cache: IdentityCache, hashed: list[str]
) -> None:
    identify(bundle_of(root), cache=cache)
    hashed.clear()
    identify(bare_bundle(root), cache=cache)
    assert hashed == ["config.json"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_entry_counts_as_missing(root: Path, tmp_path: Path, data: st.DataObject) -> None:
    cache = IdentityCache(tmp_path / "cache")
    right = identify(bundle_of(root), cache=cache).identity
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    kind = data.draw(st.sampled_from(["flip", "cut", "extend", "replace"]))
    if kind == "flip":
        at = data.draw(st.integers(0, len(whole) - 1))
        entry.write_bytes(whole[:at] + bytes((whole[at] ^ data.draw(st.integers(1, 255)),)) + whole[at + 1 :])
    elif kind == "cut":
        entry.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    elif kind == "extend":
        entry.write_bytes(whole + data.draw(st.binary(min_size=1, max_size=64)))
    else:
        entry.write_bytes(data.draw(st.binary(max_size=300)))
    listing = settled(scan(root, include_hidden=False))
    file = next(file for file in listing.files if file.path == "weights.bin")
    assert cache.get(listing, file, with_sum=True) is None
    assert identify(bundle_of(root), cache=cache).identity == right
    assert cache.get(listing, file, with_sum=True) is not None


def test_an_entry_of_another_file_is_not_used(root: Path, tmp_path: Path, cache: IdentityCache) -> None:
    plant(root, {"other.bin": noise(3 * MIB + 5, seed=7)})
    right = identify(bundle_of(root), cache=cache).identity
    one, two = (tmp_path / "cache").iterdir()
    one_bytes = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(one_bytes)
    assert identify(bundle_of(root), cache=cache).identity == right


def test_an_unusable_cache_is_not_an_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    cache = IdentityCache(tmp_path / "cache")
    assert identify(bundle_of(root), cache=cache).identity == identify(bundle_of(root), cache=None).identity


def test_many_writers_leave_one_whole_entry(root: Path, tmp_path: Path) -> None:
    listing = settled(scan(root, include_hidden=False))
    file = next(file for file in listing.files if file.path == "weights.bin")
    variants = [FileDigests(bytes((number,)) * 32, bytes((number,)) * 128) for number in range(8)]
    IdentityCache(tmp_path / "cache").put(listing, file, variants[0])  # put does nothing beside another put
    seen: list[FileDigests | None] = []

    def write(digests: FileDigests) -> None:
        cache = IdentityCache(tmp_path / "cache")
        for _ in range(30):
            cache.put(listing, file, digests)
            seen.append(cache.get(listing, file, with_sum=True))

    threads = [threading.Thread(target=write, args=(digests,)) for digests in variants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(digests in variants for digests in seen)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_cache_is_readable_by_its_owner_only(root: Path, tmp_path: Path, cache: IdentityCache) -> None:
    identify(bundle_of(root), cache=cache)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_small_files_have_no_entry(tmp_path: Path, cache: IdentityCache) -> None:
    root = plant(tmp_path / "small", {"a": bytes(MIN_SIZE - 1), "b": bytes(MIN_SIZE)})
    identify(bundle_of(root), cache=cache)
    assert len(list((tmp_path / "cache").iterdir())) == 1
