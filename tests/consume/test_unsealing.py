"""A sealed version arrives as the plain files that were published, or nothing of it does."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reconciler.consume.existing import Released
from reconciler.consume.fetch import Fetched, fetch, read_tree
from reconciler.consume.local_sources import NamedSource
from reconciler.consume.reader_keys import ReaderKeys
from reconciler.consume.sources import SourcePool, TrackedSource
from reconciler.consume.unsealing import Unsealing
from reconciler.content import checksums
from reconciler.content.age.keys import AgeIdentity
from reconciler.content.age.stream import CHUNK
from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.content.identify import identify
from reconciler.content.sealing import unseal
from reconciler.content.sealing.seal_key import SealKey
from reconciler.content.sealing.sealed_dag import SealedDag
from reconciler.content.sealing.sealed_file import FileSealer
from reconciler.content.walk import DagMap
from reconciler.errors import DataError, ReconcilerError, UsageError
from reconciler.index.locations import Origin, RepositoryLayout
from reconciler.index.seal_keys import write_wrapped_key
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks
from tests.support.http_peer import Asked, Said, http_peer
from tests.support.plant import MIB, plant
from tests.support.releases import tree as files_below
from tests.support.seals import KEY, files_of, identity, sealed, weights

FILES = {
    "weights.bin": weights(2 * MIB + 5),
    "chunk.bin": weights(CHUNK),
    "empty": b"",
    "sub/deep/config.json": b"{}",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", FILES)


@pytest.fixture
def dag(root: Path) -> SealedDag:
    return sealed(root)


def keys(*identities: AgeIdentity, layout: RepositoryLayout | None = None, model: str = "") -> Unsealing:
    return Unsealing(ReaderKeys(lambda: identities, layout, model))


def run(dag: Dag, destination: Path, unsealing: Unsealing | None = None, **options: object) -> Fetched:
    source = NamedSource("memory", DagBlocks(dag))
    wanted = keys(identity()) if unsealing is None else unsealing
    return fetch(
        dag.layout.root,
        destination,
        [source],
        QUIET,
        name="m@1.0.0",
        unsealing=wanted,
        **options,  # type: ignore[arg-type]
    )


def plain(found: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in found.items() if path not in ("SHA256SUMS", "manifest.json")}


@pytest.mark.parametrize("hides_names", [False, True])
def test_plain_files_arrive_with_their_sums_and_manifest(
    root: Path, tmp_path: Path, hides_names: bool
) -> None:
    (root / "nothing/here").mkdir(parents=True)
    done = run(sealed(root, hides_names=hides_names), tmp_path / "d")
    found = files_below(tmp_path / "d")
    assert plain(found) == FILES
    sums = {each.path: each.digest for each in checksums.parse(found["SHA256SUMS"]).entries}
    assert sums == {p: hashlib.sha256(data).digest() for p, data in found.items() if p != "SHA256SUMS"}
    assert (tmp_path / "d/nothing/here").is_dir()
    assert done.sums
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "root"]


def test_complete_destination_is_recognized_by_its_bytes(dag: SealedDag, tmp_path: Path) -> None:
    run(dag, tmp_path / "d")
    assert run(dag, tmp_path / "d").already
    (tmp_path / "d/empty").write_bytes(b"!")
    with pytest.raises(UsageError, match="'empty' would be lost"):
        run(dag, tmp_path / "d")


def test_ciphertext_is_kept_on_request(dag: SealedDag, tmp_path: Path) -> None:
    run(dag, tmp_path / "d", Unsealing(keep_sealed=True))
    assert files_below(tmp_path / "d") == files_of(dag)


def test_without_a_private_key_nothing_is_written(dag: SealedDag, tmp_path: Path) -> None:
    for unsealing in (Unsealing(), keys()):
        with pytest.raises(UsageError, match=r"m@1\.0\.0 is sealed, and no private key is at hand") as caught:
            run(dag, tmp_path / "d", unsealing)
        assert "--sealed" in (caught.value.hint or "")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("hides_names", [False, True])
def test_private_key_of_somebody_else_is_refused(root: Path, tmp_path: Path, hides_names: bool) -> None:
    first = "names.age" if hides_names else "SHA256SUMS.age"
    with pytest.raises(DataError, match=f"'{first} of m@1.0.0' is sealed for other keys"):
        run(sealed(root, hides_names=hides_names), tmp_path / "d", keys(identity(2)))
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_selection_is_by_plain_names(root: Path, tmp_path: Path) -> None:
    for number, hides_names in enumerate((False, True)):
        dag = sealed(root, hides_names=hides_names)
        run(dag, tmp_path / str(number), include=["*.json"], exclude=["manifest.json"])
        assert files_below(tmp_path / str(number)) == {"sub/deep/config.json": b"{}"}


def test_key_that_is_wrapped_beside_the_index_is_found(dag: SealedDag, tmp_path: Path) -> None:
    index_file = tmp_path / "releases/index.yaml"
    write_wrapped_key(index_file, "org/m", 1, SealKey(identity(7)), [identity(3).recipient])
    write_wrapped_key(index_file, "org/m", 2, KEY, [identity(3).recipient, identity(4).recipient])
    layout = RepositoryLayout(tmp_path, index_file, index_file, tmp_path)
    for number, model in enumerate(("org/m", "")):
        run(dag, tmp_path / str(number), keys(identity(4), layout=layout, model=model))
    with pytest.raises(DataError, match="is sealed for other keys"):
        run(dag, tmp_path / "no", keys(identity(4), layout=layout, model="other"))
    with pytest.raises(DataError, match="is sealed for other keys"):
        run(dag, tmp_path / "no", keys(identity(5), layout=layout, model="org/m"))


def test_key_that_is_wrapped_beside_a_remote_index_is_found(dag: SealedDag, tmp_path: Path) -> None:
    index_file = tmp_path / "releases/index.yaml"
    write_wrapped_key(index_file, "org/m", 1, SealKey(identity(7)), [identity(3).recipient])
    write_wrapped_key(index_file, "org/m", 2, KEY, [identity(3).recipient])

    def answer(asked: Asked) -> Said:
        file = tmp_path / asked.target.lstrip("/")
        return Said(200, file.read_bytes()) if file.is_file() else Said(404)

    with http_peer(answer) as peer:
        origin = Origin(f"{peer.url}/releases/index.yaml", None)
        layout = RepositoryLayout(tmp_path, tmp_path / "cached.yaml", index_file, tmp_path, origin)
        run(dag, tmp_path / "d", keys(identity(3), layout=layout, model="org/m"))
        with pytest.raises(DataError, match="is sealed for other keys"):
            run(dag, tmp_path / "no", keys(identity(4), layout=layout, model="org/m"))
    assert plain(files_below(tmp_path / "d")) == FILES


def test_directory_with_another_version_is_brought_to_this_one(root: Path, tmp_path: Path) -> None:
    for hides_names in (False, True):
        before = sealed(root, hides_names=hides_names)
        place = tmp_path / f"d{hides_names}"
        run(before, place)
        new = plant(tmp_path / f"new{hides_names}", {**FILES, "sub/deep/config.json": b"[]", "added": b"a"})
        after = sealed(new, hides_names=hides_names)

        def tree(_: Cid, before: SealedDag = before) -> DagMap:
            pool = SourcePool([TrackedSource(NamedSource("old", DagBlocks(before)))])
            return read_tree(before.layout.root, pool)

        done = run(after, place, released=Released([before.layout.root], tree))
        assert plain(files_below(place)) == {**FILES, "sub/deep/config.json": b"[]", "added": b"a"}
        assert done.reused > 2 * MIB


# -- what must not arrive ------------------------------------------------------------------------------------


def published(tmp_path: Path, files: Mapping[str, bytes]) -> Dag:
    """Return the DAG of a directory with these age files and their sums."""
    root = plant(tmp_path / "published", dict(files))
    data = checksums.render((path, hashlib.sha256(each).digest()) for path, each in files.items())
    (root / "SHA256SUMS").write_bytes(data)
    return identify(bare_bundle(root, include_hidden=True), cache=None)


def age_file(path: str, data: bytes, key: SealKey = KEY) -> bytes:
    sealer = FileSealer(key, path, hashlib.sha256(data).digest(), len(data))
    return sealer.seal_all(data)


def altered(files: dict[str, bytes], path: str, change: Callable[[bytearray], None]) -> dict[str, bytes]:
    data = bytearray(files[path])
    change(data)
    return {**files, path: bytes(data)}


def flip(at: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


def cases() -> dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]]:
    def swap(files: dict[str, bytes]) -> dict[str, bytes]:
        return {**files, "chunk.bin.age": files["weights.bin.age"], "weights.bin.age": files["chunk.bin.age"]}

    def drop(path: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
        return lambda files: {name: data for name, data in files.items() if name != path}

    big = "weights.bin.age"
    return {
        "flipped header": (lambda f: altered(f, big, flip(30)), "'weights.bin' "),
        "flipped mac": (lambda f: altered(f, big, flip(150)), "'weights.bin' has a header that was altered"),
        "flipped byte": (lambda f: altered(f, big, flip(MIB)), "'weights.bin' was altered in chunk 15"),
        "flipped tag": (lambda f: altered(f, big, flip(-1)), "'weights.bin' was altered in chunk 32"),
        "cut": (lambda f: {**f, big: f[big][: 184 + 65552]}, "'weights.bin' was altered in chunk 0"),
        "empty": (lambda f: {**f, big: b""}, "'weights.bin' is not an age file"),
        "another key": (
            lambda f: {**f, big: age_file("weights.bin", b"x", SealKey(identity(2)))},
            "'weights.bin' is sealed for other keys",
        ),
        "swapped": (swap, "does not match its sum in the sealed SHA256SUMS"),
        "an older file": (
            lambda f: {**f, big: age_file("weights.bin", b"old")},
            "'weights.bin' does not match its sum in the sealed SHA256SUMS",
        ),
        "one more": (
            lambda f: {**f, "more.age": age_file("more", b"x")},
            "the sealed SHA256SUMS does not list the files of the version: 'more' differs",
        ),
        "one less": (drop("empty.age"), "does not list the files of the version: 'empty' differs"),
        "sums flipped": (lambda f: altered(f, "SHA256SUMS.age", flip(-1)), "'SHA256SUMS.age of m@1.0.0' was"),
        "no name": (lambda f: {**f, "sub/.age": age_file("sub/", b"x")}, "has a path that leads out"),
        "file and directory": (
            lambda f: {**f, "sub.age": age_file("sub", b"x")},
            "has files that are not in directories, or in files",
        ),
    }


@pytest.mark.parametrize("case", cases())
def test_altered_version_leaves_no_plain_byte(root: Path, tmp_path: Path, case: str) -> None:
    change, message = cases()[case]
    files = {path: data for path, data in files_of(sealed(root)).items() if path != "SHA256SUMS"}
    dag = published(tmp_path, change(files))
    with pytest.raises(ReconcilerError) as caught:
        run(dag, tmp_path / "out/d")
    assert message in caught.value.message
    assert not (tmp_path / "out/d").exists()
    left = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    parts = [FILES[path][at : at + 32] for path in ("weights.bin", "chunk.bin") for at in (1000, 40_000)]
    assert all(any(part) and part not in left for part in parts)


@pytest.mark.slow
def test_none_of_many_mutations_reaches_the_destination(tmp_path: Path) -> None:
    files = dict(files_of(sealed(plant(tmp_path / "r", {"a": b"12", "b": b"3"}))))
    del files["SHA256SUMS"]
    places = [(path, at) for path, data in files.items() for at in range(len(data))]
    chosen = random.Random(5).sample(places, 520)
    for number, (path, at) in enumerate(chosen):
        place = tmp_path / str(number)
        dag = published(place, altered(files, path, flip(at)))
        with pytest.raises(ReconcilerError) as caught:
            run(dag, place / "out/d")
        assert path.removesuffix(".age") in caught.value.message
        assert not (place / "out/d").exists()


@pytest.mark.parametrize(
    "names",
    [
        b"",
        b"{}",
        b'{"files": {}, "directories": []}',
        b'{"files": {"NAME": "../up"}, "directories": [".."]}',
        b'{"files": {"NAME": "/etc/passwd"}, "directories": []}',
        b'{"files": {"NAME": "a/b"}, "directories": []}',
        b'{"files": {"NAME": "a"}, "directories": ["a"]}',
        b'{"files": {"NAME": "a"}, "directories": []}',
        b'{"files": {"NAME": "a"}, "directories": ["b", "b"]}',
        b'{"files": {"NAME": "a/b/c"}, "directories": ["a/b"]}',
        b'{"files": {"NAME": "' + b"a/" * 50_000 + b'a"}, "directories": []}',
        b'{"files": {"NAME": "a", "NAME": "b"}, "directories": []}',
        b'{"files": {"NAME": 1}, "directories": []}',
        b'{"files": {"NAME": "a", "other.age": "b"}, "directories": []}',
    ],
)
def test_malformed_list_of_names_is_refused(tmp_path: Path, names: bytes) -> None:
    name = "0" * 32 + ".age"
    files = {name: age_file("a", b"x"), "names.age": age_file("", names.replace(b"NAME", name.encode()))}
    with pytest.raises(DataError, match=r"names\.age of m@1\.0\.0"):
        run(published(tmp_path, files), tmp_path / "d")


# -- interruptions -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child only fetches
@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4, 5, 6])
def test_fetch_that_is_killed_while_it_decrypts_is_completed_by_the_next(
    dag: SealedDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    child = os.fork()
    if not child:
        write_at, left = unseal.write_at, [writes]

        def kill_later(*arguments: object) -> None:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            write_at(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(unseal, "write_at", kill_later)
        run(dag, tmp_path / "d")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "d").exists()
    done = run(dag, tmp_path / "d")
    assert plain(files_below(tmp_path / "d")) == FILES
    assert [path.name for path in tmp_path.iterdir()] in (["d", "root"], ["root", "d"])
    assert done.resumed


def test_files_that_were_decrypted_before_an_interruption_are_not_fetched_again(
    dag: SealedDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("reconciler.consume.staging.Staging.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            run(dag, tmp_path / "d")
    done = run(dag, tmp_path / "d")
    assert plain(files_below(tmp_path / "d")) == FILES
    assert done.resumed == done.size
