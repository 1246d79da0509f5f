from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from time import sleep

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content import checksums
from reconciler.content.age import message
from reconciler.content.age.stream import CHUNK
from reconciler.content.dag import HasDiskFiles, ReadsUnverified
from reconciler.content.sealing import seal_pass
from reconciler.content.sealing.seal_key import SealKey
from reconciler.content.sealing.sealed_dag import SealedDag
from reconciler.content.sealing.sealed_file import HEAD_SIZE, FileSealer
from reconciler.content.sealing.sealed_names import is_sealed
from reconciler.errors import BundleError, SourceChangedError
from tests.support.plant import MIB, plant
from tests.support.seals import KEY, files_of, identity, sealed, weights

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * MIB + 7)
FILES = {f"f{size}": weights(size) for size in SIZES} | {"sub/x": b"x", "sub/twin": b"x"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", FILES)


def opened(data: bytes) -> bytes:
    return message.decrypt(data, [identity()])


def test_sealed_bundle_has_each_file_its_sums_and_its_manifest_as_age_files(root: Path) -> None:
    dag = sealed(root)
    found = files_of(dag)
    assert is_sealed(found.keys())
    plain = {path.removesuffix(".age"): opened(data) for path, data in found.items() if path != "SHA256SUMS"}
    assert {path: data for path, data in plain.items() if path in FILES} == FILES
    assert plain.keys() == FILES.keys() | {"SHA256SUMS", "manifest.json"}
    assert json.loads(plain["manifest.json"])["model"] == "m"
    sums = {entry.path: entry.digest for entry in checksums.parse(plain["SHA256SUMS"]).entries}
    assert sums == {p: hashlib.sha256(data).digest() for p, data in plain.items() if p != "SHA256SUMS"}


def test_sums_beside_the_age_files_are_theirs(root: Path) -> None:
    dag = sealed(root)
    found = dict(files_of(dag))
    sums = found.pop("SHA256SUMS")
    assert sums == checksums.render((p, hashlib.sha256(data).digest()) for p, data in found.items())
    assert dag.identity.dirhash == hashlib.sha256(sums).hexdigest()
    assert {file.path: file.size for file in dag.identity.files} == {
        path: len(data) for path, data in files_of(dag).items()
    }


def test_sealed_bundle_is_the_same_each_time(root: Path, tmp_path: Path) -> None:
    again = plant(tmp_path / "another", FILES)
    assert sealed(root).identity == sealed(again).identity


def test_root_is_the_same_on_every_machine(tmp_path: Path) -> None:
    # pinned: the bytes that the key 0x01 × 32 gives on any machine
    root = plant(tmp_path / "root", {"config.json": b"{}", "weights.bin": bytes(range(256)) * 5000})
    assert KEY.id == "b9d2d2a8fe047a28"
    hidden = sealed(root, hides_names=True)
    assert str(sealed(root).identity.root) == "bafybeiep7wqndete2gmrxs6wunipe3tzo6lv5kcywnvp5tg3kkqy52o4ua"
    assert str(hidden.identity.root) == "bafybeiexlbjqwnc2sbgx2p2glwnww6xxeee5xcpj3xgoq4jiwafsf66uoq"


def test_another_key_gives_other_bytes_in_every_age_file(root: Path) -> None:
    one, other = files_of(sealed(root)), files_of(sealed(root, SealKey(identity(2))))
    assert one.keys() == other.keys()
    assert not any(one[path][:HEAD_SIZE] == other[path][:HEAD_SIZE] for path in one if path.endswith(".age"))


def test_twins_in_a_bundle_are_not_recognizable(root: Path) -> None:
    found = files_of(sealed(root))
    assert found["sub/x.age"] != found["sub/twin.age"]


def test_unchanged_file_of_another_version_has_the_same_bytes(root: Path, tmp_path: Path) -> None:
    before = files_of(sealed(root))
    after = files_of(sealed(plant(tmp_path / "next", FILES | {"f1": b"?", "new": b"n"})))
    assert {path for path in before if before[path] != after.get(path)} == {
        "f1.age",
        "SHA256SUMS",
        "SHA256SUMS.age",
        "manifest.json.age",
    }


def test_hidden_names_are_listed_in_an_age_file_only(root: Path) -> None:
    (root / "empty").mkdir()
    found = files_of(sealed(root, hides_names=True))
    assert is_sealed(found.keys())
    assert all(len(path) == 36 for path in found.keys() - {"SHA256SUMS", "names.age"})
    listed = json.loads(opened(found["names.age"]))
    assert listed["directories"] == ["empty", "sub"]
    assert {plain: opened(found[name]) for name, plain in listed["files"].items() if plain in FILES} == FILES
    assert listed["files"].keys() == found.keys() - {"SHA256SUMS", "names.age"}


def test_hidden_names_do_not_change_the_age_files(root: Path) -> None:
    shown, hidden = files_of(sealed(root)), files_of(sealed(root, hides_names=True))
    assert {data for path, data in shown.items() if path != "SHA256SUMS"} < set(hidden.values())


@settings(max_examples=60)
@given(
    size=st.sampled_from(SIZES) | st.integers(0, 3 * CHUNK),
    span=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_span_is_computed_on_its_own(size: int, span: tuple[float, float]) -> None:
    data = weights(size)
    sealer = FileSealer(KEY, "a/path", hashlib.sha256(data).digest(), size)
    whole = sealer.seal_all(data)
    assert len(whole) == sealer.size
    start, end = sorted(int(each * sealer.size) for each in span)
    read: list[int] = []

    def read_plain(first: int, out: memoryview) -> None:
        read.append(len(out))
        out[:] = data[first : first + len(out)]

    assert sealer.read(start, end - start, read_plain) == whole[start:end]
    assert sum(read) <= end - start + 2 * CHUNK


def test_blocks_cannot_be_read_without_their_check(root: Path) -> None:
    assert not isinstance(sealed(root), ReadsUnverified)
    assert not isinstance(sealed(root), HasDiskFiles)


def leaf_of(dag: SealedDag, path: str, number: int) -> int:
    """Return the position of a leaf of a sealed file."""
    node = next(file for file in dag.contents.files if file.path == path)
    assert node.size > MIB
    return next(p for p in range(len(dag.layout)) if dag.layout.is_leaf(p) and dag._dag._leaf_of[p] == number)


def test_changed_file_gives_no_block_after_it_was_identified(root: Path) -> None:
    dag = sealed(root)
    path = root / f"f{SIZES[-1]}"
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[MIB + 100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(SourceChangedError, match=f"'{path.name}' changed after it was scanned"):
        dag.read(leaf_of(dag, f"{path.name}.age", 1))
    assert dag.changed


def test_file_that_changes_between_the_two_passes_is_never_sealed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # both byte strings under one key stream would give the difference between them
    path = root / f"f{SIZES[-1]}"
    sum_files = seal_pass.sum_files

    def edit_afterwards(*arguments: object) -> object:
        done = sum_files(*arguments)  # type: ignore[arg-type]
        with path.open("r+b") as file:
            os.utime(path, ns=(0, path.stat().st_mtime_ns))
            file.seek(MIB + 5)
            file.write(b"!")
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
        return done

    monkeypatch.setattr("reconciler.content.sealing.sealed_dag.sum_files", edit_afterwards)
    made: list[int] = []
    seal = FileSealer.seal
    monkeypatch.setattr(
        FileSealer, "seal", lambda self, first, *rest: (made.append(first), seal(self, first, *rest))[1]
    )
    monkeypatch.setattr(
        seal_pass.source_file, "_compare", lambda *_: None
    )  # as a memory map leaves the times
    with pytest.raises(SourceChangedError, match=f"'{path.name}' changed .* .at byte {MIB}"):
        sealed(root)
    assert 16 not in made


def test_file_is_not_read_any_more_after_sealing_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a descriptor that is closed too early may be another file by then
    root = plant(tmp_path / "root", {"f": bytes(6 * MIB)})
    outcomes: list[object] = []
    read_into = seal_pass.read_into

    def read(descriptor: int, out: memoryview, start: int) -> int:
        sleep(0.01)
        try:
            outcomes.append(read_into(descriptor, out, start))
        except OSError as error:
            outcomes.append(error)
            raise
        return len(out)

    def fail(*_: object) -> bytes:
        raise RuntimeError("no")

    monkeypatch.setattr(seal_pass, "read_into", read)
    monkeypatch.setattr(seal_pass, "_digest", fail)
    monkeypatch.setattr(FileSealer, "seal", lambda *_: fail())
    with pytest.raises(RuntimeError, match=r"^no$"):
        sealed(root)
    assert outcomes
    assert set(outcomes) == {MIB}


def test_digests_from_the_cache_are_confirmed(root: Path, tmp_path: Path) -> None:
    first = sealed(root, cache=tmp_path / "cache")
    assert not first.cached
    again = sealed(root, cache=tmp_path / "cache")
    assert again.identity == first.identity
    assert again.cached == {f"f{size}.age" for size in SIZES if size >= CHUNK - 184}
    again.confirm()
    other = sealed(root, SealKey(identity(2)), cache=tmp_path / "cache")
    assert not other.cached


def test_cache_that_is_out_of_date_is_found(root: Path, tmp_path: Path) -> None:
    sealed(root, cache=tmp_path / "cache")
    path = root / f"f{CHUNK + 1}"
    stamp = path.stat()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    dag = sealed(root, cache=tmp_path / "cache")
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(SourceChangedError, match=f"'{path.name}' changed"):
        dag.confirm()
    assert dag.changed
    dag.forget()
    assert f"{path.name}.age" not in sealed(root, cache=tmp_path / "cache").cached


def test_cache_of_a_directory_is_not_used_for_one_inside_of_it(tmp_path: Path) -> None:
    outer = plant(tmp_path / "outer", {"inner/weights.bin": weights(2 * CHUNK)})
    sealed(outer, cache=tmp_path / "cache")
    dag = sealed(outer / "inner", cache=tmp_path / "cache")
    assert not dag.cached
    assert dag.identity == sealed(outer / "inner").identity


def test_cache_has_neither_key_nor_plain_bytes(root: Path, tmp_path: Path) -> None:
    sealed(root, cache=tmp_path / "cache")
    data = b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir())
    assert data
    assert identity().scalar not in data
    assert not any(
        part in data for each in FILES.values() if len(each) > 64 for part in (each[:32], each[-32:])
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": b"1", "a.age/b": b"2"}, "'a' cannot be sealed as 'a.age', which is a directory"),
        ({"d/" + "n" * 252: b"1"}, "the name is longer than 255 bytes"),
        ({"SHA256SUMS/x": b"1"}, "takes the name 'SHA256SUMS'"),
        ({"sha256sums": b"1"}, "takes the name 'SHA256SUMS'"),
    ],
)
def test_what_cannot_be_sealed_under_its_names_is_refused(
    tmp_path: Path, entries: dict[str, bytes], message: str
) -> None:
    root = plant(tmp_path / "root", entries)
    with pytest.raises(BundleError, match=message) as caught:
        sealed(root)
    if "names: sealed" in (caught.value.hint or ""):
        sealed(root, hides_names=True)


def test_wrong_sums_in_the_directory_are_refused(root: Path) -> None:
    (root / "SHA256SUMS").write_bytes(
        checksums.render((path, hashlib.sha256(data + b"!").digest()) for path, data in FILES.items())
    )
    with pytest.raises(BundleError, match="wrong sum for"):
        sealed(root)


@pytest.mark.age_cli
@pytest.mark.parametrize("hides_names", [False, True])
def test_age_opens_every_file_of_a_sealed_bundle(root: Path, tmp_path: Path, hides_names: bool) -> None:
    key = tmp_path / "key"
    key.write_text(identity().text)
    found = files_of(sealed(root, hides_names=hides_names))
    for path, data in found.items():
        if path != "SHA256SUMS":
            done = subprocess.run(["age", "-d", "-i", key], input=data, check=True, capture_output=True)
            assert done.stdout == opened(data)


def test_rage_opens_every_file_of_a_sealed_bundle(root: Path) -> None:
    pyrage = pytest.importorskip("pyrage")
    theirs = pyrage.x25519.Identity.from_str(identity().text)
    for path, data in files_of(sealed(root)).items():
        if path != "SHA256SUMS":
            assert pyrage.decrypt(data, [theirs]) == opened(data)
