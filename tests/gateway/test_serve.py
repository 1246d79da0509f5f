"""`reconcile serve` as a process, tested over HTTP."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.content import car
from reconciler.content.cid import RAW, hash_block
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget
from tests.support.command_line import RUN
from tests.support.dags import Blocks, MemoryDag, memory_dag
from tests.support.gateway import Served, keep, served
from tests.support.shapes import Builder
from tests.support.store_files import car_path, harm
from tests.support.waiting import wait_until

MIB = 1 << 20
BIG = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(3 * MIB // 32)) + b"tail"
SOURCE = {
    "config.json": b'{"a": 1}\n',
    "weights.bin": BIG,
    "notes": {"read me.txt": "grüße\n".encode(), "ą.bin": b"\x00\xff" * 8},
    "site": {"index.html": b"<p>hello</p>"},
}


@pytest.fixture(scope="module")
def dag() -> MemoryDag:
    return memory_dag(SOURCE)


@pytest.fixture(scope="module")
def gateway(dag: MemoryDag, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("gateway")
    keep(home / "store", dag)
    with served(home, home / "store") as running:
        yield running


def test_every_block_is_served(gateway: Served, dag: MemoryDag) -> None:
    for block in dag.layout:
        got = gateway.get(f"/ipfs/{block.cid}?format=raw")
        assert (got.status, got.body) == (200, dag.blocks[block.cid])
        assert got.headers["content-type"] == "application/vnd.ipld.raw"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["content-disposition"] == f'attachment; filename="{block.cid}.bin"'
        assert got.headers["etag"] == f'"{block.cid}.raw"'
        assert got.headers["cache-control"] == "public, max-age=29030400, immutable"


def test_the_car_of_a_root_is_the_one_in_the_store(gateway: Served, dag: MemoryDag) -> None:
    got = gateway.get(f"/ipfs/{dag.layout.root}", Accept="application/vnd.ipld.car")
    assert got.whole
    assert got.body == b"".join(car.stream(dag))
    assert got.headers["content-type"] == "application/vnd.ipld.car; version=1; order=dfs; dups=n"
    assert got.headers["content-location"] == f"/ipfs/{dag.layout.root}?format=car"
    assert got.headers["accept-ranges"] == "none"


def test_files_are_served_whole_and_in_ranges(gateway: Served, dag: MemoryDag) -> None:
    path = f"/ipfs/{dag.layout.root}/weights.bin"
    assert gateway.get(path).body == BIG
    assert gateway.get(path).headers["content-length"] == str(len(BIG))
    for text, start, stop in (
        ("0-0", 0, 1),
        (f"{MIB - 1}-{MIB}", MIB - 1, MIB + 1),
        ("-5", len(BIG) - 5, len(BIG)),
        ("100-", 100, len(BIG)),
        (f"5-{10 * len(BIG)}", 5, len(BIG)),
    ):
        got = gateway.get(path, Range=f"bytes={text}")
        assert (got.status, got.body) == (206, BIG[start:stop]), text
        assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(BIG)}"
    got = gateway.get(path, Range="bytes=0-1,5-9")
    assert got.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert got.body.count(b"Content-Range: bytes ") == 2
    assert BIG[5:10] in got.body
    assert len(got.body) == int(got.headers["content-length"])
    etag = gateway.get(path).headers["etag"]
    assert gateway.get(path, Range="bytes=0-0", If_Range=etag).status == 206
    assert gateway.get(path, Range="bytes=0-0", If_Range='"older"').status == 200
    got = gateway.get(path, Range=f"bytes={len(BIG)}-")
    assert (got.status, got.headers["content-range"]) == (416, f"bytes */{len(BIG)}")


def test_names_and_types_come_from_the_path(gateway: Served, dag: MemoryDag) -> None:
    root = f"/ipfs/{dag.layout.root}"
    assert gateway.get(f"{root}/config.json").headers["content-type"] == "application/json"
    got = gateway.get(f"{root}/notes/read%20me.txt")
    assert (got.body, got.headers["content-type"]) == ("grüße\n".encode(), "text/plain; charset=utf-8")
    assert gateway.get(f"{root}/notes/%C4%85.bin").body == b"\x00\xff" * 8
    assert gateway.get(f"{root}/site/").body == b"<p>hello</p>"
    got = gateway.get(f"{root}/notes")
    assert (got.status, got.headers["location"]) == (301, f"{root}/notes/")
    page = gateway.get(f"{root}/notes/")
    assert "read me.txt" in page.body.decode()
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    got = gateway.get(f"{root}/config.json?download=true&filename=%22x%C4%85.json")
    assert got.headers["content-disposition"] == (
        "attachment; filename=\"_x_.json\"; filename*=UTF-8''%22x%C4%85.json"
    )


def test_head_has_the_same_headers_without_a_body(gateway: Served, dag: MemoryDag) -> None:
    for path in ("/weights.bin", "/notes/", "?format=car", "/config.json?format=raw"):
        url = f"/ipfs/{dag.layout.root}{path}"
        head, get = gateway.get(url, method="HEAD"), gateway.get(url)
        assert (head.status, head.body) == (200, b"")
        ignored = ("date", "transfer-encoding")
        assert {k: v for k, v in head.headers.items() if k not in ignored} == {
            k: v for k, v in get.headers.items() if k not in ignored
        }


def test_unmodified_content_is_not_sent_again(gateway: Served, dag: MemoryDag) -> None:
    for path in ("/weights.bin", "/notes/", "/site/", "?format=car", "/config.json?format=raw"):
        url = f"/ipfs/{dag.layout.root}{path}"
        etag = gateway.get(url).headers["etag"]
        for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            got = gateway.get(url, If_None_Match=given)
            assert (got.status, got.body) == (304, b"")
        assert gateway.get(url, If_None_Match='"other"').status == 200


ABSENT = hash_block(RAW, b"in no store")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/ipfs/{ABSENT}", 404),
        (f"/ipfs/{ABSENT}?format=car", 404),
        ("/ipfs/ROOT/nothing", 404),
        ("/ipfs/ROOT/config.json/below", 404),
        ("/ipfs/ROOT?format=tar", 406),
        ("/ipfs/ROOT?format=dag-json", 406),
        ("/ipfs/ROOT?format=car&car-version=2", 406),
        ("/ipfs/ROOT?format=car&dag-scope=some", 400),
        ("/ipfs/ROOT?format=car&entity-bytes=a:b", 400),
        ("/ipfs/ROOT/config.json?format=car&entity-bytes=100:200", 400),
        ("/ipfs/ROOT?format=nonsense", 400),
        ("/ipfs/ROOT/..%2f..%2fetc%2fpasswd", 400),
        ("/ipfs/ROOT/%2e%2e/x", 400),
        ("/ipfs/ROOT?" + "&".join(f"a{number}=1" for number in range(40)), 400),
        ("/ipfs/ROOT?" + "a" * 5000, 414),
        ("/ipfs/not-a-cid", 400),
        ("/ipfs/bafyreihyrpefhacm6kkp4ql6j6udakdit7g3dmkzfriqfykhjw6cad5lrm", 400),
        ("/ipfs/bafkqaa", 400),
        ("/ipfs/ROOT/" + "a" * 9000, 414),
        ("/ipns/example.org", 404),
        ("/elsewhere", 404),
    ],
)
def test_invalid_requests_have_a_status(gateway: Served, dag: MemoryDag, path: str, status: int) -> None:
    got = gateway.get(path.replace("ROOT", str(dag.layout.root)))
    assert got.status == status
    assert "immutable" not in got.headers.get("cache-control", "")


def test_only_if_cached_reports_whether_a_block_is_stored(gateway: Served, dag: MemoryDag) -> None:
    cached = {"Cache_Control": "only-if-cached"}
    assert gateway.get(f"/ipfs/{ABSENT}?format=raw", method="HEAD", **cached).status == 412
    assert gateway.get(f"/ipfs/{dag.layout.root}?format=raw", method="HEAD", **cached).status == 200


def test_other_methods_are_refused(gateway: Served, dag: MemoryDag) -> None:
    got = gateway.get(f"/ipfs/{dag.layout.root}", method="POST")
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert gateway.get(f"/ipfs/{dag.layout.root}", method="OPTIONS").status == 204


def test_a_service_worker_is_not_registered_for_a_root(gateway: Served, dag: MemoryDag) -> None:
    assert gateway.get(f"/ipfs/{dag.layout.root}", Service_Worker="script").status == 400


def test_the_probe_paths_of_a_trustless_gateway_are_served(gateway: Served) -> None:
    assert gateway.get("/ipfs/bafkqaaa?format=raw").body == b""
    body = gateway.get("/ipfs/bafkqaaa?format=car").body
    assert body == b"\x19\xa2eroots\x81\xd8\x2a\x45\0\x01\x55\0\0gversion\x01"
    assert gateway.get("/ipfs/bafkqabtimvwgy3yk").body == b"hello\n"


def test_delegated_routing_lists_this_gateway_for_stored_blocks(gateway: Served, dag: MemoryDag) -> None:
    leaf = next(block.cid for block in dag.layout if block.cid.codec == RAW)
    address = f"/ip4/127.0.0.1/tcp/{gateway.port}/http"
    for cid in (dag.layout.root, leaf):
        (record,) = json.loads(gateway.get(f"/routing/v1/providers/{cid}").body)["Providers"]
        assert record["Addrs"] == [address]
        assert record["Protocols"] == ["transport-ipfs-gateway-http"]
    assert json.loads(gateway.get(f"/routing/v1/providers/{ABSENT}").body) == {"Providers": []}
    lines = gateway.get(f"/routing/v1/providers/{leaf}", Accept="application/x-ndjson")
    assert json.loads(lines.body) == record
    assert gateway.get(f"/routing/v1/providers/{leaf}?filter-addrs=!http").body == b'{"Providers": []}'
    assert gateway.get("/routing/v1/providers/x").status == 422


def test_health_and_metrics_count(gateway: Served, dag: MemoryDag) -> None:
    assert gateway.get("/health").body == b"ok: 1 roots\n"
    before = gateway.get("/metrics").body.decode()
    gateway.get(f"/ipfs/{dag.layout.root}?format=raw")
    after = gateway.get("/metrics").body.decode()
    assert before != after
    assert f"reconciler_gateway_blocks {len(dag.layout)}\n" in after


def test_many_requests_on_one_connection_do_not_wait_for_each_other(gateway: Served, dag: MemoryDag) -> None:
    """Head and body go out without waiting for an acknowledgement, which clients delay by 40 ms."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    quick = 0
    try:
        for _ in range(40):
            started = time.monotonic()
            connection.request("GET", f"/ipfs/{dag.layout.root}?format=raw")
            assert connection.getresponse().read()
            quick += time.monotonic() - started < 0.03
    finally:
        connection.close()
    assert quick > 3, "more than the kernel acknowledges at once"


def test_two_hundred_concurrent_clients_get_the_bytes(gateway: Served, dag: MemoryDag) -> None:
    path = f"/ipfs/{dag.layout.root}/weights.bin"
    with ThreadPoolExecutor(200) as pool:
        responses = list(pool.map(lambda _: gateway.get(path), range(200)))
    assert all(got.status == 200 and got.body == BIG for got in responses)
    text = gateway.get("/metrics").body.decode()
    assert "reconciler_gateway_requests_active 0\n" in text


# --- stores that are damaged, or change


def test_a_damaged_block_is_an_error_and_never_wrong_bytes(tmp_path: Path) -> None:
    dag = memory_dag({"a.bin": BIG, "b.txt": b"sound"})
    keep(tmp_path / "store", dag)
    leaf = max(position for position in range(len(dag.layout)) if dag.layout.block_size(position) == MIB)
    with served(tmp_path, tmp_path / "store") as gateway:
        for _ in range(2):  # the second time the CAR counts as verified, until it changes
            assert gateway.get(f"/ipfs/{dag.layout.root}?format=car").whole
        harm(car_path(tmp_path / "store", dag), dag.layout.data_start(leaf) + 5, b"xx")
        for path in (f"{dag.layout.root}?format=car", f"{dag.layout.root}/a.bin"):
            got = gateway.get(f"/ipfs/{path}")
            assert got.status == 200
            assert not got.whole
        assert BIG.startswith(gateway.get(f"/ipfs/{dag.layout.root}/a.bin").body)
        got = gateway.get(f"/ipfs/{dag.layout.cid(leaf)}?format=raw")
        assert got.status == 500
        assert gateway.get(f"/ipfs/{dag.layout.root}/b.txt").body == b"sound"
        assert "reconciler_gateway_cut_off_total 3\n" in gateway.get("/metrics").body.decode()
        assert f"{dag.layout.cid(leaf)} is damaged" in gateway.log.read_text()


def test_a_short_file_of_several_blocks_is_whole_or_a_500(tmp_path: Path) -> None:
    builder = Builder("short")
    dag = builder.dag(builder.file("short", 5))
    keep(tmp_path / "store", dag)
    with served(tmp_path, tmp_path / "store") as gateway:
        url = f"/ipfs/{dag.layout.root}"
        assert len(gateway.get(url).body) == 5 * 64
        harm(car_path(tmp_path / "store", dag), dag.layout.data_start(3), b"xx")
        got = gateway.get(url)
        assert (got.status, got.headers["cache-control"]) == (500, "no-store")
        assert gateway.get(f"{url}?format=car").whole is False
        assert gateway.get(url, Range="bytes=0-63").status == 206


def test_a_block_damaged_in_one_store_comes_from_the_other(tmp_path: Path) -> None:
    dag = memory_dag({"a.bin": BIG})
    stores = (tmp_path / "one", tmp_path / "two")
    for store in stores:
        keep(store, dag)
    harm(car_path(stores[0], dag), dag.layout.data_start(2) + 5, b"xx")
    with served(tmp_path, *stores) as gateway:
        assert gateway.get(f"/ipfs/{dag.layout.root}/a.bin").body == BIG


def test_publishing_and_unpinning_take_effect_while_it_runs(tmp_path: Path) -> None:
    first, second = memory_dag({"a": b"first"}), memory_dag({"a": b"second"})
    keep(tmp_path / "store", first)
    with served(tmp_path, tmp_path / "store") as gateway:
        url = f"/ipfs/{second.layout.root}/a"
        assert gateway.get(url).status == 404
        store = StoreTarget("store", tmp_path / "store")
        store.publish(second, Label("reconciler/acme/new@1.0.0"), QUIET)
        wait_until("the new root is served", lambda: gateway.get(url).body == b"second")
        store.unpin(second.layout.root, Label("reconciler/acme/new@1.0.0"))
        wait_until("the root is gone", lambda: gateway.get(url).status == 404)
        assert gateway.get(f"/ipfs/{first.layout.root}/a").body == b"first"


# --- the process


def test_sigterm_lets_responses_in_progress_finish(tmp_path: Path) -> None:
    blocks = Blocks()
    data = os.urandom(24 * MIB)
    root = blocks.pack(data).cid
    keep(tmp_path / "store", MemoryDag(root, blocks.blocks))
    with served(tmp_path, tmp_path / "store") as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        connection.request("GET", f"/ipfs/{root}")
        response = connection.getresponse()
        head = response.read(MIB)
        gateway.process.send_signal(signal.SIGTERM)
        assert head + response.read() == data
        connection.close()
        assert gateway.process.wait(60) == 0
        assert gateway.log.read_text() == ""
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", gateway.port), timeout=1)


def test_a_disconnected_client_uses_no_more_resources(tmp_path: Path) -> None:
    blocks = Blocks()
    root = blocks.pack(os.urandom(64 * MIB)).cid
    keep(tmp_path / "store", MemoryDag(root, blocks.blocks))
    with served(tmp_path, tmp_path / "store") as gateway:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", gateway.port)) as client:
                client.sendall(f"GET /ipfs/{root} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                client.recv(1000)
        idle = "reconciler_gateway_requests_active 0\n"
        wait_until("the bodies ended", lambda: idle in gateway.get("/metrics").body.decode())
        sent = next(
            int(line.split()[1])
            for line in gateway.get("/metrics").body.decode().splitlines()
            if line.startswith("reconciler_gateway_sent_bytes_total")
        )
        assert sent < 60 * MIB  # of 192 MiB


def test_the_error_names_the_missing_extra(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    code = "import sys; sys.modules['uvicorn'] = None; from reconciler.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--store", "store"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: serving needs starlette and uvicorn",
        "hint: pip install 'model-reconciler[serve]'",
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--listen", "8080"], "'8080' is not HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "'127.0.0.1:99999' is not HOST:PORT"),
        (["--store", "nowhere"], "no store at 'nowhere'"),
        (["--announce", "ftp://x"], "'ftp://x' is not the address of a gateway"),
    ],
)
def test_wrong_usage_is_one_error(tmp_path: Path, arguments: list[str], reason: str) -> None:
    (tmp_path / "store").mkdir()
    given = arguments if "--store" in arguments else ["--store", "store", *arguments]
    done = subprocess.run(
        [*RUN, "serve", "--listen", "127.0.0.1:0", *given],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*RUN, "serve", "--store", "store", "--listen", f"127.0.0.1:{port}"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
