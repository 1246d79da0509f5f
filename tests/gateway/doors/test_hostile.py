"""What somebody sends, publishes or leaves on the disk who wants a door to break."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content import dagpb, unixfs
from reconciler.content.cid import DAG_PB, RAW, Cid, hash_block
from reconciler.errors import BlockUnavailableError, DataError
from reconciler.gateway import background_digests, door_app, release_files
from reconciler.gateway.background_digests import BackgroundDigests, UnhashedContent
from reconciler.gateway.doors.huggingface import HuggingFaceDoor
from reconciler.gateway.doors.image import image_layers
from reconciler.gateway.doors.interface import (
    AccessRule,
    Door,
    DoorAccess,
    DoorContent,
    DoorRequest,
    split_path,
)
from reconciler.gateway.doors.modelpack import Blob
from reconciler.gateway.doors.oci import OciDoor
from reconciler.gateway.doors.ollama import OllamaDoor
from reconciler.gateway.doors.referrers import SignatureFile
from reconciler.gateway.doors.registry import BlobBook
from reconciler.gateway.paths import open_node
from reconciler.gateway.release_files import FileTables, ReleaseFile, read_files
from reconciler.gateway.releases import ReleaseMissingError, ReleaseView, ServedRelease
from reconciler.gateway.request import RequestRefusedError, Span
from reconciler.gateway.written_cid import WrittenCid
from reconciler.index.load import parse_index
from reconciler.index.model import Index
from reconciler.net.auth import Secret
from tests.support.dags import memory_dag
from tests.support.doors import sha256
from tests.support.gguf import llama
from tests.support.memory_blocks import Blocks, index_of

AGENT = "ollama/0.0.0"


def offer(read: Blocks, index: Index | Callable[[], Index]) -> DoorContent:
    load = index if callable(index) else lambda: index
    view = ReleaseView(load, seconds=0, log=lambda _: None)
    return DoorContent(view, FileTables(lambda: read), lambda: read)


def ask(path: str, method: str = "GET", body: bytes = b"", **headers: str) -> DoorRequest:
    bare, _, query = path.partition("?")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return DoorRequest(method, bare, split_path(bare), names, query, body, address="http://127.0.0.1:1")


def body_of(door: Door, path: str, **headers: str) -> bytes:
    return b"".join(map(bytes, door.answer(ask(path, **headers)).response.body))


def refusal_of(door: Door, request: DoorRequest) -> RequestRefusedError:
    with pytest.raises(RequestRefusedError) as caught:
        door.answer(request)
    return caught.value


def sums(files: Mapping[str, bytes], **claimed: str) -> bytes:
    """Return a SHA256SUMS of `files`, where `claimed` has other digests by name with `_` for a dot."""
    lies = {name.replace("_", "."): digest for name, digest in claimed.items()}
    return "".join(f"{lies.get(name, sha256(data))}  {name}\n" for name, data in files.items()).encode()


# --- requests


PLAIN = Blocks()
OFFERED = offer(PLAIN, index_of(v1_0_0=PLAIN.release({"a": b"1"})))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.text("._+/-^~<>=* v1230x", max_size=40))
def test_a_revision_is_a_release_or_a_404(text: str) -> None:
    try:
        assert isinstance(OFFERED.view.release(OFFERED.view.model("acme/llm"), text), ServedRelease)
    except ReleaseMissingError as error:
        assert error.status == 404


@pytest.mark.parametrize("text", ["_" * 8000, "refs/heads/" * 700, "1." * 4000, "^" * 400, "-Q4" * 2500])
def test_a_very_long_revision_is_a_404_at_once(text: str) -> None:
    started = time.process_time()
    for door, path in (
        (HuggingFaceDoor(OFFERED), f"/api/models/acme/llm/revision/{text.replace('/', '%2F')}"),
        (OciDoor(OFFERED), f"/v2/acme/llm/manifests/{text.replace('/', '%2F')}"),
        (OllamaDoor(OFFERED), f"/v2/acme/llm/manifests/{text.replace('/', '%2F')}"),
    ):
        try:
            request = ask(path)
        except RequestRefusedError as refusal:
            assert refusal.status == 414
            continue
        found = refusal_of(door, request)
        assert found.status == 404
        shown = door.refuse(found, request)
        assert all(len(value) < 1000 for value in shown.headers.values())
    assert time.process_time() - started < 1


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_headers_of_refusals_are_one_line_of_latin_1(first: str, second: str) -> None:
    door = HuggingFaceDoor(OFFERED)
    request = DoorRequest("GET", "/x", ("acme", "llm", "resolve", first or "x", second or "x"))
    for name, value in door.refuse(refusal_of(door, request), request).headers.items():
        assert value.isprintable(), name
        assert value == value.strip()
        value.encode("latin-1")


@pytest.mark.parametrize(
    "query",
    ["signature=%C3%A9&expires=99999999999", "signature=x&expires=%D9%A3", "signature&expires", "expires=-1"],
)
def test_a_forged_address_of_a_blob_gives_no_access(query: str) -> None:
    read = Blocks()
    plain = offer(read, index_of(v1_0_0=read.release({"a.gguf": b"1"})))
    access = DoorAccess([AccessRule(("acme/*",), Secret("token"))])
    door = OllamaDoor(DoorContent(plain.view, plain.tables, plain.reader, access))
    request = ask(f"/v2/acme/llm/blobs/sha256:{sha256(b'1')}?{query}", user_agent=AGENT)
    assert refusal_of(door, request).status == 401


@pytest.mark.parametrize(
    "authorization",
    [
        "", "Bearer", "Bearer ", "Bearer\ttoken", "bearer  TOKEN", "Bearer token, Bearer token", "Basic",
        "Basic !!!", "Basic dG9rZW4=", "Basic dG9rZW46", "Basic Ont0b2tlbn0=", "Token token", "token",
        "Bearer t\xf8ken", "Basic /////w==",
    ],
)  # fmt: skip
def test_a_wrong_authorization_is_a_401(authorization: str) -> None:
    read = Blocks()
    plain = offer(read, index_of(v1_0_0=read.release({"a": b"1"})))
    access = DoorAccess([AccessRule(("acme/*",), Secret("token"))])
    content = DoorContent(plain.view, plain.tables, plain.reader, access)
    for door, path in (
        (HuggingFaceDoor(content), "/acme/llm/resolve/main/a"),
        (OciDoor(content), "/v2/ACME/LLM/manifests/latest"),
        (OciDoor(content), "/v2/image/acme/llm/tags/list"),
        (OllamaDoor(content), "/v2/acme/llm/manifests/latest"),
    ):
        refusal = refusal_of(door, ask(path, authorization=authorization))
        assert refusal.status == 401
        assert "WWW-Authenticate" in refusal.headers


def test_very_many_paths_are_answered_without_a_search_for_each() -> None:
    read = Blocks()
    root = read.directory({f"f{n}": b"" for n in range(3000)} | {"d": read.directory({"x": b"1"})})
    door = HuggingFaceDoor(offer(read, index_of(v1_0_0=root)))
    path = "/api/models/acme/llm/paths-info/main"
    names = [f"no/{n}" for n in range(9000)] + ["d", "d/", "f1", "/f1"]
    started = time.process_time()
    request = ask(path, "POST", json.dumps({"paths": names}).encode(), content_type="application/json")
    found = json.loads(b"".join(map(bytes, door.answer(request).response.body)))
    assert [(each["type"], each["path"]) for each in found] == [("directory", "d"), ("file", "f1")]
    assert time.process_time() - started < 1
    request = ask(path, "POST", json.dumps({"paths": ["a"] * 10_001}).encode(), content_type="json")
    assert refusal_of(door, request).status == 400


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"paths": {}}', b"\xff", b'{"paths": [1]}', b"null"])
def test_a_malformed_body_is_a_400(body: bytes) -> None:
    read = Blocks()
    door = HuggingFaceDoor(offer(read, index_of(v1_0_0=read.release({"a": b"1"}))))
    request = ask("/api/models/acme/llm/paths-info/main", "POST", body, content_type="application/json")
    assert refusal_of(door, request).status == 400


# --- what is published


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../up", "a/b", "/etc/passwd", "a\0b", "a\nb", "a\rX-Header: 1", "n" * 300]
)
def test_a_name_that_no_bundle_may_have_reaches_no_client(name: str) -> None:
    read = Blocks()
    root = read.directory({"good": b"1", name: b"2"})
    nested = read.directory({"folder": root})
    offered = offer(read, index_of(v1_0_0=root, v1_1_0=nested))
    for path in ("/acme/llm/resolve/1.0.0/good", "/api/models/acme/llm/tree/1.1.0"):
        with pytest.raises(DataError):
            HuggingFaceDoor(offered).answer(ask(path))
    for path in ("/v2/acme/llm/manifests/1.0.0", "/v2/image/acme/llm/manifests/1.1.0"):
        with pytest.raises(DataError):
            OciDoor(offered).answer(ask(path))


def test_a_directory_with_two_entries_of_one_name_is_refused() -> None:
    read = Blocks()
    links = [dagpb.PbLink(b"a", read.put(RAW, data), 1) for data in (b"1", b"2")]
    root = read.put(DAG_PB, dagpb.encode(links, unixfs.DIRECTORY))
    with pytest.raises(DataError, match="two entries"):
        read_files(root, read)


def test_a_directory_that_multiplies_is_refused_early_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_files, "_MAX_ENTRIES", 2000)
    read = Blocks()
    root = read.directory({"x": b"1"})
    for _ in range(20):
        root = read.directory({f"d{n}": root for n in range(8)})
    tables = FileTables(lambda: read)
    for _ in range(2):
        with pytest.raises(DataError, match="more than"):
            tables.files(root)
    assert len(read.asked) < 2500


def test_directories_are_read_one_after_the_other() -> None:
    """The blocks of many large directories are never in memory together."""
    read = Blocks()
    root = read.directory({f"d{n}": read.directory({f"f{n}": b"1"}) for n in range(24)})
    read.asked.clear()
    for number, _ in enumerate(_walked(root, read), start=1):
        assert len(read.asked) == 1 + number


def _walked(root: Cid, read: Blocks) -> Iterator[object]:
    return release_files._walk(open_node(WrittenCid(root), read), read)


def test_a_raw_link_that_lies_about_its_size_sends_nothing() -> None:
    read = Blocks()
    root = read.directory({"a": b"1234"}, tsize=1 << 60)
    door = HuggingFaceDoor(offer(read, index_of(v1_0_0=root)))
    with pytest.raises(DataError):
        door.answer(ask("/acme/llm/resolve/main/a"))


FILES = {"a.bin": b"first", "b.bin": b"second", "c.bin": b"third"}
LIES: list[tuple[str, bytes]] = [
    ("a missing line", sums({"a.bin": b"first"})),
    ("no list", b"\xff\xfe"),
    ("two digests for one path", sums(FILES) + f"{'0' * 64}  b.bin\n".encode()),
    ("two forms of one path", sums(FILES) + f"{'0' * 64}  ./b.bin\n".encode()),
    ("one digest for two contents", sums(FILES, b_bin=sha256(b"first"))),
    ("paths outside", sums(FILES) + f"{'0' * 64}  ../b.bin\n".encode()),
]


@pytest.mark.parametrize("listed", [listed for _, listed in LIES], ids=[name for name, _ in LIES])
def test_a_list_that_contradicts_itself_is_not_believed(listed: bytes) -> None:
    read = Blocks()
    files = read_files(read.directory(FILES | {"SHA256SUMS": listed}), read)
    assert {path: files.by_path[path].hex for path in FILES} == {p: sha256(d) for p, d in FILES.items()}


def test_a_lying_version_does_not_take_over_the_digest_of_another_one() -> None:
    """Version 1.1.0 claims the digest of a file in 1.0.0 for other bytes of the same size."""
    read = Blocks()
    good, bad = {"w.bin": b"good weights"}, {"w.bin": b"evil weights"}
    lying = read.directory(bad | {"SHA256SUMS": sums(good)})
    door = OciDoor(offer(read, index_of(v1_1_0=lying, v1_0_0=read.release(good))))
    blob = f"/v2/acme/llm/blobs/sha256:{sha256(good['w.bin'])}"
    for version in ("1.0.0", "1.1.0", "1.0.0", "1.1.0"):
        door.answer(ask(f"/v2/acme/llm/manifests/{version}"))
        assert body_of(door, blob) == good["w.bin"]


def test_what_leaves_the_index_is_not_served_any_more() -> None:
    read = Blocks()
    first, second = read.release({"w.bin": b"1"}), read.release({"w.bin": b"2"})
    current = [index_of(v1_0_0=first, v1_1_0=second)]
    offered = offer(read, lambda: current[0])
    doors: list[tuple[Door, str]] = [
        (OciDoor(offered), f"/v2/acme/llm/blobs/sha256:{sha256(b'1')}"),
        (HuggingFaceDoor(offered), f"/acme/llm/resolve/{first.digest[:20].hex()}/w.bin"),
    ]
    manifest = doors[0][0].answer(ask("/v2/acme/llm/manifests/1.0.0")).response
    doors.append((doors[0][0], f"/v2/acme/llm/manifests/{manifest.headers['Docker-Content-Digest']}"))
    for door, path in doors:
        assert door.answer(ask(path)).response.status == 200
    current[0] = index_of(v1_1_0=second)
    offered.view.refresh()
    for door, path in doors:
        assert refusal_of(door, ask(path)).status == 404


def test_a_manifest_does_not_depend_on_what_can_be_edited() -> None:
    read = Blocks()
    root = read.release({"w.bin": b"1"})

    def digest(**about: str) -> str:
        model = {"versions": {"1.0.0": {"cid": str(root)}}, **about}
        index = parse_index(
            json.dumps({"schema": 1, "id": "a", "models": {"llm": model}}), Path("index.yaml")
        )
        answer = OciDoor(offer(read, index)).answer(ask("/v2/llm/manifests/1.0.0"))
        return answer.response.headers["Docker-Content-Digest"]

    assert digest() == digest(license="MIT") == digest(format="gguf")


def gguf(pairs: bytes, number: int = 1, tensors: bytes = b"", count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, count, number) + pairs + tensors


def text(data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(data) if length is None else length) + data


HEADERS = {
    "empty": b"",
    "magic only": b"GGUF",
    "endless string": gguf(text(b"key", 1 << 62)),
    "endless array": gguf(text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 62)),
    "nested arrays": gguf(text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 200),
    "many pairs": gguf(b"", 1 << 63),
    "many tensors": gguf(b"", 0, b"", 1 << 63),
    "huge tensor": gguf(b"", 0, text(b"t") + struct.pack("<I", 8) + b"\xff" * 64 + bytes(12), 1),
    "odd architecture": gguf(text(b"general.architecture") + struct.pack("<I", 8) + text(b'"\xff\0\r\n{')),
    "alignment": gguf(text(b"general.alignment") + struct.pack("<II", 4, 0)),
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_a_hostile_gguf_header_is_read_once_and_does_no_harm(data: bytes) -> None:
    read = Blocks()
    root = read.release({"m-Q4_K_M.gguf": data})
    door = OllamaDoor(offer(read, index_of(v1_0_0=root)))
    manifest = json.loads(body_of(door, "/v2/acme/llm/manifests/latest"))
    config = json.loads(body_of(door, f"/v2/acme/llm/blobs/{manifest['config']['digest']}"))
    assert config["model_format"] == "gguf"
    before = len(read.asked)
    door.answer(ask("/v2/acme/llm/manifests/latest"))
    assert len(read.asked) == before


def test_the_manifest_of_a_gguf_version_reads_no_more_than_the_header() -> None:
    read = Blocks()
    files = {"m-Q4_K_M.gguf": llama(15, 1) + random.Random(1).randbytes(5 << 20)}
    dag = memory_dag(files | {"SHA256SUMS": sums(files)})
    read.blocks |= dag.blocks
    OllamaDoor(offer(read, index_of(v1_0_0=dag.layout.root))).answer(ask("/v2/acme/llm/manifests/latest"))
    leaves = {cid for cid in read.asked if cid.codec == RAW}
    assert len(leaves) == 2, "the list and the first leaf"
    assert len([cid for cid in dag.blocks if cid.codec == RAW]) > 5


def test_unknown_digests_make_up_the_blobs_of_each_version_once() -> None:
    read = Blocks()
    index = index_of(v1_0_0=read.release({"w": b"1"}), v1_1_0=read.release({"w": b"2"}))
    offered = offer(read, index)
    made: list[str] = []

    def contents(release: ServedRelease) -> list[tuple[str, Blob]]:
        made.append(release.version.version)
        blob = Blob("text/plain", release.version.version.encode())
        return [(blob.digest, blob)]

    book = BlobBook(offered, contents)
    model = offered.view.model("acme/llm")
    for number in range(5):
        with pytest.raises(RequestRefusedError):
            book.find(model, f"sha256:{number:064x}")
    assert sorted(made) == ["1.0.0", "1.1.0"]
    assert book.find(model, f"sha256:{sha256(b'1.1.0')}") == Blob("text/plain", b"1.1.0")
    assert sorted(made) == ["1.0.0", "1.1.0", "1.1.0"]


def test_concurrent_first_requests_read_a_release_once() -> None:
    class Slow(Blocks):
        def __call__(self, cid: Cid) -> bytes:
            time.sleep(0.005)
            return super().__call__(cid)

    read = Slow()
    tables = FileTables(lambda: read)
    root = read.release({f"d{n}/x": b"%d" % n for n in range(8)})
    threads = [threading.Thread(target=tables.files, args=(root,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(read.asked) == len(set(read.asked))


def test_a_version_that_is_not_here_does_not_delay_the_others() -> None:
    """An unknown digest tries each version once, and no request waits for the reading of another one."""
    read = Blocks()
    root = read.release({"w.bin": b"1"})
    absent = hash_block(DAG_PB, b"absent")
    door = OciDoor(offer(read, index_of(v1_0_0=absent, v1_1_0=root)))
    for number in range(3):
        assert refusal_of(door, ask(f"/v2/acme/llm/blobs/sha256:{number:064x}")).status == 404
    assert read.asked.count(absent) == 1
    blocked, go = threading.Event(), threading.Event()

    class Stuck(Blocks):
        def __call__(self, cid: Cid) -> bytes:
            if cid == absent:
                blocked.set()
                assert go.wait(60)
            return super().__call__(cid)

    stuck = Stuck()
    stuck.blocks = read.blocks
    door = OciDoor(offer(stuck, index_of(v1_0_0=absent, v1_1_0=root)))
    unknown = ask(f"/v2/acme/llm/blobs/sha256:{'0' * 64}")
    waiting = threading.Thread(target=refusal_of, args=(door, unknown))
    waiting.start()
    assert blocked.wait(60)
    door.answer(ask("/v2/acme/llm/manifests/1.1.0"))
    assert body_of(door, f"/v2/acme/llm/blobs/sha256:{sha256(b'1')}") == b"1"
    go.set()
    waiting.join(60)


# --- images and digests


def release_file(path: str, size: int) -> ReleaseFile:
    return ReleaseFile(path, size, hashlib.sha256(path.encode()).digest(), WrittenCid(hash_block(RAW, b"")))


@pytest.mark.parametrize("size", [(8 << 30) - 1, 8 << 30, 3 << 40])
@pytest.mark.parametrize("path", ["w.bin", "d/" * 60 + "w.bin", "n" * 101, "é" * 120 + "/" + "ü" * 90])
def test_large_files_and_long_names_are_written_as_other_programs_read_them(path: str, size: int) -> None:
    (layer,) = image_layers([release_file(path, size)])
    parts = [part for part in layer.parts if isinstance(part, bytes)]
    headers = io.BytesIO(b"".join(parts[:-1] if size % 512 == 0 else parts[:-2]) + bytes(1024))
    entries = []
    with tarfile.open(fileobj=headers) as tar:
        while True:
            try:
                entry = tar.next()
            except tarfile.ReadError:
                break  # the content of the file is not there
            if entry is None:
                break
            entries.append((entry.name, entry.size))
    assert entries[-1] == (f"models/{path}", size)
    assert layer.size % 512 == 0
    assert layer.size - size < 512 + sum(map(len, parts))


def test_a_digest_that_takes_long_is_a_503_and_the_next_request_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_digests, "_WAIT_SECONDS", 0.05)
    go = threading.Event()

    class Slow(Blocks):
        def __call__(self, cid: Cid) -> bytes:
            if cid.codec == RAW and len(self.blocks[cid]) == 4:
                assert go.wait(60)
            return super().__call__(cid)

    read = Slow()
    files = {"w.bin": b"1234"}
    plain = offer(read, index_of(v1_0_0=read.release(files | {"SHA256SUMS": sums(files)})))
    digests = BackgroundDigests(tmp_path)
    door = OciDoor(DoorContent(plain.view, plain.tables, plain.reader, digests=digests))
    request = ask("/v2/image/acme/llm/manifests/latest")
    refusal = refusal_of(door, request)
    assert (refusal.status, refusal.headers["Retry-After"]) == (503, "10")
    go.set()
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert door.answer(request).response.status == 200
    (file,) = tmp_path.iterdir()
    for poison in (b"", b"x" * 64, b"0" * 63 + b"\n", b"0" * (1 << 20), b"\xff" * 64):
        file.write_bytes(poison)
        again = BackgroundDigests(tmp_path)
        layer = image_layers(list(plain.files(plain.view.release(plain.view.model("acme/llm"), "main"))))[0]
        assert again.known([layer.content]) is None
        again.close()
    digests.close()


def test_hashing_ends_with_the_server() -> None:
    reached = threading.Event()

    def endless(_: object) -> Iterator[bytes]:
        while True:
            reached.set()
            yield b"x"

    digests = BackgroundDigests(None)
    failed: list[type[BaseException]] = []

    def ask_for_it() -> None:
        try:
            digests.digests([UnhashedContent(b"key", endless)], Blocks, "things")
        except BlockUnavailableError as error:
            failed.append(type(error))

    waiting = threading.Thread(target=ask_for_it)
    waiting.start()
    assert reached.wait(60)
    digests.close()
    waiting.join(60)
    assert failed == [BlockUnavailableError]


def test_a_large_file_without_a_line_is_hashed_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_files, "_HASHED_AT_ONCE", 10)
    read = Blocks()
    asked: list[int] = []

    def hash_files(contents: Sequence[UnhashedContent]) -> list[bytes]:
        asked.append(len(contents))
        return [hashlib.sha256(b"".join(map(bytes, each.read(read)))).digest() for each in contents]

    files = read_files(read.directory({"a": b"1" * 8, "b": b"2" * 8, "c": b"3"}), read, hash_files)
    assert asked == [1]
    assert {path: file.hex for path, file in files.by_path.items()} == {
        "a": sha256(b"1" * 8), "b": sha256(b"2" * 8), "c": sha256(b"3"),
    }  # fmt: skip


# --- the application


def test_spans_of_layers_are_those_of_the_whole() -> None:
    read = Blocks()
    plain = offer(read, index_of(v1_0_0=read.release({"a": b"12345", "d/e": b"", "f": b"x" * 600})))
    (layer,) = image_layers(list(plain.files(plain.view.release(plain.view.model("acme/llm"), "main"))))
    whole = b"".join(map(bytes, layer.read(Span(0, layer.size), read)))
    for start in range(0, layer.size, 97):
        span = Span(start, min(start + 333, layer.size))
        assert b"".join(map(bytes, layer.read(span, read))) == whole[start : span.stop]


def test_a_slow_body_of_a_request_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_app, "_BODY_SECONDS", 0.05)

    async def receive() -> dict[str, object]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(RequestRefusedError) as caught:
        asyncio.run(door_app._read_body_in_time(receive))  # type: ignore[arg-type]
    assert caught.value.status == 408


# --- trust and signatures


def test_a_refused_version_is_a_403_that_says_why() -> None:
    read = Blocks()
    root = read.release({"w.gguf": b"1"})
    refused = {"acme/llm@1.1.0": "acme/llm@1.1.0 is not signed, and a trust rule demands a signature"}
    index = index_of(v1_0_0=root)
    view = ReleaseView(lambda: index, seconds=0, log=lambda _: None, refused=lambda: refused)
    offered = DoorContent(view, FileTables(lambda: read), lambda: read)
    for revision in ("1.1.0", "v1.1.0", "refs/tags/1.1.0"):
        quoted = revision.replace("/", "%2F")
        for door, path in (
            (HuggingFaceDoor(offered), f"/acme/llm/resolve/{quoted}/w.gguf"),
            (OciDoor(offered), f"/v2/acme/llm/manifests/{quoted}"),
            (OllamaDoor(offered), f"/v2/acme/llm/manifests/{quoted}"),
        ):
            request = ask(path)
            refusal = refusal_of(door, request)
            assert refusal.status == 403
            shown = door.refuse(refusal, request)
            assert b"is not signed" in b"".join(map(bytes, shown.body))
    assert refusal_of(HuggingFaceDoor(offered), ask("/acme/llm/resolve/1.2.0/w.gguf")).status == 404


def test_signatures_refer_to_the_manifest_of_their_version() -> None:
    read = Blocks()
    index = index_of(v1_0_0=read.release({"w": b"1"}), v1_1_0=read.release({"w": b"2"}))
    files: dict[str, list[SignatureFile]] = {"1.0.0": [], "1.1.0": []}

    def door() -> OciDoor:
        return OciDoor(offer(read, index), lambda version: files[version.version])

    first = door()
    subject = first.answer(ask("/v2/acme/llm/manifests/1.0.0")).response.headers["Docker-Content-Digest"]
    path = f"/v2/acme/llm/referrers/{subject}"
    assert json.loads(body_of(first, path))["manifests"] == []
    files["1.0.0"].append(SignatureFile("ab" * 8, "release.sigstore.json", b'{"signed": 1}'))
    files["1.1.0"].append(SignatureFile("ab" * 8, "release.sigstore.json", b'{"signed": 2}'))
    for asked in (first, door()):  # the second one was just started
        (entry,) = json.loads(body_of(asked, path))["manifests"]
        assert entry["artifactType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
        manifest = json.loads(body_of(door(), f"/v2/acme/llm/manifests/{entry['digest']}"))
        assert manifest["subject"]["digest"] == subject
        blobs = [
            body_of(door(), f"/v2/acme/llm/blobs/{each['digest']}")
            for each in (manifest["config"], *manifest["layers"])
        ]
        assert blobs == [b"{}", b'{"signed": 1}']
    other = f"{path}?artifactType=application%2Fother"
    response = first.answer(ask(other)).response
    assert response.headers["OCI-Filters-Applied"] == "artifactType"
    assert json.loads(b"".join(map(bytes, response.body)))["manifests"] == []
    assert json.loads(body_of(first, f"/v2/acme/llm/referrers/sha256:{'0' * 64}"))["manifests"] == []
