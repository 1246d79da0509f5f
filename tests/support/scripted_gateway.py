"""A gateway on loopback that serves a Dag correctly, except for requests that a behaviour handles.

A behaviour is a function of the open connection and the correct response.
"""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

from reconciler.content import car, dagpb
from reconciler.content.cid import Cid, parse
from reconciler.content.dag import Dag
from reconciler.content.walk import DagMap, leaf_bytes, walk

_CAR = "application/vnd.ipld.car; version=1; order=dfs; dups=n"
Form: TypeAlias = Literal["block", "car", "file"]


@dataclass(frozen=True)
class Answer:
    """A correct response: a block, a CAR or bytes of a file, with its type."""

    cid: Cid
    body: bytes
    kind: str
    form: Form
    span: str = ""  #: the Content-Range

    @property
    def status(self) -> str:
        """The end of the status line."""
        return "206 Partial Content" if self.span else "200 OK"


Behaviour: TypeAlias = Callable[[BinaryIO, Answer], None]


def honest(connection: BinaryIO, answer: Answer) -> None:
    """Send the correct response."""
    reply(connection, answer, answer.body)


def reply(connection: BinaryIO, answer: Answer, body: bytes, length: int | None = None) -> None:
    """Send a response like `answer` with another body; `length` is its Content-Length."""
    connection.write(
        (head_of(answer, length=len(body) if length is None else length) + "\r\n").encode() + body
    )


def head_of(answer: Answer, *, length: int | None = None) -> str:
    """Return the head of `answer`, without the last line."""
    lines = [f"HTTP/1.1 {answer.status}", f"Content-Type: {answer.kind}"]
    lines += [f"Content-Length: {length}"] if length is not None else []
    lines += [f"Content-Range: {answer.span}"] if answer.span else []
    return "\r\n".join(lines) + "\r\n"


def send(connection: BinaryIO, body: bytes, *, status: str = "200 OK", kind: str = "") -> None:
    """Send another response."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n"
    connection.write((head + (f"Content-Type: {kind}\r\n" if kind else "") + "\r\n").encode() + body)


@dataclass
class ScriptedGateway:
    """The gateway: its address, its Dag, and the requests it received."""

    url: str
    asked: list[str] = field(default_factory=list)
    sent: int = 0


@contextmanager
def scripted_gateway(
    dag: Dag,
    behaviour: Behaviour = honest,
    *,
    spoils: Callable[[Answer], bool] = lambda _: True,
    forms: Collection[Form] = ("car",),
) -> Iterator[ScriptedGateway]:
    """Serve `dag`; `behaviour` handles the requests selected by `spoils`.

    Blocks are always served; CARs and bytes of files if `forms` names them.
    """
    map_ = _map(dag)

    class Handler(socketserver.StreamRequestHandler):
        timeout = 20

        def handle(self) -> None:
            try:
                while self._one():
                    self.wfile.flush()
            except (OSError, ValueError):
                pass  # the client closed the connection

        def _one(self) -> bool:
            line = self.rfile.readline(65536).decode("latin-1").split()
            if len(line) < 2:
                return False
            span = ""
            while header := self.rfile.readline(65536).decode("latin-1").strip():
                name, _, value = header.partition(": ")
                span = value if name.lower() == "range" else span
            peer.asked.append(line[1])
            answer = _answer(dag, map_, line[1], span)
            if answer is None:
                send(self.wfile, b"not found", status="404 Not Found")
            elif answer.form != "block" and answer.form not in forms:
                send(self.wfile, b"only blocks", status="406 Not Acceptable")
            else:
                peer.sent += len(answer.body)
                (behaviour if spoils(answer) else honest)(self.wfile, answer)
            return not self.wfile.closed

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that close the connection."""

    server = Server(("127.0.0.1", 0), Handler)
    peer = ScriptedGateway(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _map(dag: Dag) -> DagMap:
    def read(cid: Cid) -> bytes:
        position = dag.layout.find(cid)
        assert position is not None
        return dag.read(position)

    return walk(dag.layout.root, read, raw_size=dag.layout.block_size(0))


def _answer(dag: Dag, map_: DagMap, target: str, span: str) -> Answer | None:
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    cid = parse(parts.path.rpartition("/")[2])
    position = dag.layout.find(cid)
    if position is None:
        return None
    form = query.get("format")
    if form == "raw":
        return Answer(cid, dag.read(position), "application/vnd.ipld.raw", "block")
    if query.get("dag-scope") == "all":
        return Answer(cid, b"".join(_below(dag, map_, cid)), _CAR, "car")
    first, last = map(int, query["entity-bytes"].split(":") if form else span[len("bytes=") :].split("-"))
    node = next(node for node in map_.nodes if node.cid == cid)
    leaves = [leaf for leaf in map_.leaves(node) if leaf.offset <= last and leaf.offset + leaf.size > first]
    if form is None:
        body = b"".join(leaf_bytes(dag.layout, leaf.position, dag.read(leaf.position)) for leaf in leaves)
        body = body[first - leaves[0].offset :][: last + 1 - first]
        span = f"bytes {first}-{first + len(body) - 1}/{node.size}"
        return Answer(cid, body, "application/octet-stream", "file", span)
    tree = [position for position in _above(dag, map_, cid) if position is not None]
    positions = [*tree, *(leaf.position for leaf in leaves if leaf.position not in tree)]
    body = b"".join(car.stream_partial(dag, positions))
    return Answer(cid, body, _CAR, "car")


def _below(dag: Dag, map_: DagMap, root: Cid) -> Iterator[bytes]:
    """Return the CAR of all blocks below `root`, in the order of the whole DAG."""
    below, stack = set(), [root]
    while stack:
        cid = stack.pop()
        below.add(dag.layout.find(cid))
        if cid in map_.tree:
            stack += [link.cid for link in dagpb.decode(map_.tree[cid]).links]
    positions = [position for position in range(len(dag.layout)) if position in below]
    return car.stream_partial(dag, positions)


def _above(dag: Dag, map_: DagMap, cid: Cid) -> Iterator[int | None]:
    yield dag.layout.find(cid)
    if cid in map_.tree:
        for link in dagpb.decode(map_.tree[cid]).links:
            if link.cid in map_.tree:
                yield from _above(dag, map_, link.cid)


def drip(connection: BinaryIO, answer: Answer) -> None:
    """Send single bytes with pauses, forever."""
    connection.write((head_of(answer, length=1_000_000) + "\r\n").encode())
    for _ in range(200):
        connection.write(b"x")
        connection.flush()
        time.sleep(0.1)
