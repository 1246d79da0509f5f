from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.content.bundle import bare_bundle, make_bundle
from reconciler.content.identify import identify
from reconciler.content.identity_cache import IdentityCache
from reconciler.content.scan import scan
from tests.support.plant import MIB, TREES, noise, plant
from tests.support.unpack import map_dag


def root_of(root: Path) -> str:
    return str(identify(bare_bundle(root), cache=None).identity.root)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=TREES, order=st.randoms(use_true_random=False), data=st.data())
def test_the_root_depends_on_names_and_bytes_alone(
    tmp_path: Path, files: dict[str, bytes], order, data: st.DataObject
) -> None:
    """It does not depend on mtime, mode, umask, or the order in which the files were created."""
    for name in ("one", "two"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    plant(tmp_path / "one", files)
    shuffled = list(files.items())
    order.shuffle(shuffled)
    umask = os.umask(data.draw(st.sampled_from([0o000, 0o022, 0o077])))
    try:
        plant(tmp_path / "two", dict(shuffled))
    finally:
        os.umask(umask)
    for path in (tmp_path / "two").rglob("*"):
        os.utime(path, ns=(data.draw(st.integers(0, 2**40)),) * 2)
    assert root_of(tmp_path / "one") == root_of(tmp_path / "two")
    (tmp_path / "two" / shuffled[0][0]).write_bytes(shuffled[0][1] + b"!")
    assert root_of(tmp_path / "one") != root_of(tmp_path / "two")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=TREES)
def test_the_layout_is_the_one_that_a_reader_derives(tmp_path: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    dag = identify(bare_bundle(plant(tmp_path / "root", files)), cache=None)
    derived = map_dag(dag)
    assert list(derived.layout) == list(dag.layout)
    assert {node.path: node.size for node in derived.nodes if node.kind == "file"} == {
        path: len(data) for path, data in files.items()
    }
    assert derived.size == dag.identity.size


def test_the_numbers_of_an_identity_are_consistent(tmp_path: Path) -> None:
    files = {"a": b"", "w.bin": noise(2 * MIB + 3), "same.bin": noise(2 * MIB + 3), "d/e": None}
    dag = identify(
        make_bundle(scan(plant(tmp_path, files), include_hidden=False), model="m", version="1.0.0"),
        cache=None,
    )
    identity = dag.identity
    by_path = {file.path: file for file in identity.files}
    assert list(by_path) == ["SHA256SUMS", "a", "manifest.json", "same.bin", "w.bin"]
    assert by_path["w.bin"].sha256 == hashlib.sha256(files["w.bin"]).hexdigest()
    assert by_path["w.bin"].cid == by_path["same.bin"].cid
    assert identity.size == sum(file.size for file in identity.files)
    assert identity.blocks == len(dag.layout) == len({block.cid for block in dag.layout})
    assert identity.block_bytes == sum(block.size for block in dag.layout)
    assert identity.block_bytes < identity.size  # the same bytes twice are the same blocks
    assert dag.layout.root == identity.root


def test_equal_leaves_are_one_block(tmp_path: Path) -> None:
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(1026 * MIB)
    identity = identify(bare_bundle(tmp_path / "zeros"), cache=None).identity
    # One leaf, a node of 1,024 and a node of 2 links to it, and the root.
    assert identity.blocks == 4


def test_the_source_tree_is_not_modified(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", {"a": b"1", "d/b": b"2"})
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in [root, *root.rglob("*")]}
    identify(
        make_bundle(scan(root, include_hidden=False), model="m", version="1.0.0"),
        cache=IdentityCache(tmp_path / "c"),
    )
    assert before == {
        path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in [root, *root.rglob("*")]
    }


def test_the_version_is_part_of_the_bundle(tmp_path: Path) -> None:
    listing = scan(plant(tmp_path, {"a": b"1"}), include_hidden=False)
    roots = {
        identify(make_bundle(listing, model="m", version=version), cache=None).identity.root
        for version in ("1.0.0", "1.0.1")
    }
    assert len(roots) == 2


@pytest.mark.ipfs
def test_kubo_finds_the_same_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPFS_PATH", str(tmp_path / "repository"))
    monkeypatch.setenv("IPFS_TELEMETRY", "off")
    subprocess.run(["ipfs", "init", "--profile", "test,unixfs-v1-2025"], check=True, capture_output=True)
    files = {
        "a": b"",
        "w.bin": noise(3 * MIB),
        "d/e/f": b"x",
        "d/empty": None,
        ".hidden": b"",
        "é/ü": noise(MIB),
    }
    root = plant(tmp_path / "root", files)
    add = ["ipfs", "add", "-r", "--only-hash", "-Q"]
    for path, hidden in ((root, False), (root, True), (root / "w.bin", False)):
        extra = ["--hidden"] if hidden else []
        theirs = subprocess.run(
            [*add, *extra, str(path)], check=True, capture_output=True, text=True
        ).stdout.strip()
        assert str(identify(bare_bundle(path, include_hidden=hidden), cache=None).identity.root) == theirs


def test_the_sums_and_the_manifest_of_a_known_bundle_are_always_the_same(tmp_path: Path) -> None:
    """The bytes of the generated files are part of the format: this root must never change."""
    plant(tmp_path, {"config.json": json.dumps({"layers": 2}).encode(), "w/model.bin": noise(MIB + 1)})
    bundle = make_bundle(
        scan(tmp_path, include_hidden=False),
        model="my-llm",
        version="1.2.0",
        format="safetensors",
        created_at="2026-05-07T00:00:00Z",
    )
    identity = identify(bundle, cache=None).identity
    assert (str(identity.root), identity.dirhash) == (
        "bafybeiafkpd4iuu6gxly3stpdhora6biudrkrwm5s2fcivbqhhfvhok6yy",
        "c489e23d1e524b2f733e816b41aab713c3a8072aba967c6471967d405d328702",
    )
