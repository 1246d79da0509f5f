"""A small server with the protocol of Amazon S3, as far as reading needs it: lists, ranges, versions.

It checks the access key id, not signatures: `rclone serve s3` does. `S3Server.fault` may replace any
response.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

KEY_ID = "AKIAEXAMPLEKEY123456"
SECRET = "secret/hunter2secret/of/the/bucket"
BUCKET = "weights"


@dataclass(frozen=True)
class Stored:
    """One version of one object."""

    data: bytes
    version: str
    etag: str


@dataclass(frozen=True)
class Request:
    """One received request."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def is_list(self) -> bool:
        return "list-type" in self.query


@dataclass(frozen=True)
class Answer:
    """One response; only `sent` bytes of the body arrive, if given."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


@dataclass
class S3Server:
    """The objects of one bucket by key, oldest version first, and how they are served.

    `public`: anonymous requests are allowed. `page` is the number of objects of one list.
    """

    objects: dict[str, list[Stored]] = field(default_factory=dict)
    versioned: bool = False
    public: bool = False
    page: int = 1000
    requests: list[Request] = field(default_factory=list)
    fault: Callable[[Request, Answer], Answer] = lambda request, answer: answer
    url: str = ""

    def put(self, key: str, data: bytes, *, parts: int = 1) -> None:
        """Store an object as an upload of this many parts does, which determines its ETag."""
        etag = hashlib.md5(data).hexdigest()
        if parts > 1:
            etag = hashlib.md5(bytes.fromhex(etag)).hexdigest() + f"-{parts}"
        there = self.objects.setdefault(key, [])
        stored = Stored(data, f"v{len(there)}.{etag[:6]}", etag)
        self.objects[key] = [*there, stored] if self.versioned else [stored]

    def answer(self, request: Request) -> Answer:
        """Return the honest response."""
        signed = request.headers.get("authorization", "")
        if not signed and not self.public:
            return _error(403, "AccessDenied")
        if signed and f"Credential={KEY_ID}/" not in signed:
            return _error(403, "InvalidAccessKeyId")
        if request.is_list:
            return self._list(request)
        there = self.objects.get(request.key, [])
        wanted = request.query.get("versionId")
        found = [each for each in there if wanted in (None, each.version)]
        if not found:
            return _error(404, "NoSuchVersion" if wanted else "NoSuchKey")
        return self._object(request, found[-1])

    def _object(self, request: Request, found: Stored) -> Answer:
        headers = {
            "ETag": f'"{found.etag}"',
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            "Accept-Ranges": "bytes",
        }
        if self.versioned:
            headers["x-amz-version-id"] = found.version
        matching = request.headers.get("if-match")
        if matching is not None and matching != headers["ETag"]:
            return _error(412, "PreconditionFailed")
        given = request.headers.get("range")
        if given is None:
            return Answer(200, found.data, headers)
        first, _, last = given.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) if last else len(found.data) - 1, len(found.data) - 1)
        if start >= len(found.data):
            return _error(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{end}/{len(found.data)}"
        return Answer(206, found.data[start : end + 1], headers)

    def _list(self, request: Request) -> Answer:
        prefix = request.query.get("prefix", "")
        after = request.query.get("continuation-token", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page, more = keys[: self.page], len(keys) > self.page
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"{self.objects[key][-1].etag}"</ETag><Size>{len(self.objects[key][-1].data)}</Size>'
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        )
        next_page = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>{BUCKET}</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount><MaxKeys>{self.page}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{next_page}{contents}</ListBucketResult>"
        )
        return Answer(200, body.encode(), {"Content-Type": "application/xml"})


def _error(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Resource>{SECRET}</Resource></Error>".encode())


@contextmanager
def s3_server(**options: object) -> Iterator[S3Server]:
    """Run a server on loopback; `options` are fields of S3Server."""
    state = S3Server(**options)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _any(self) -> None:
            parts = urlsplit(self.path)
            bucket, _, key = unquote(parts.path.lstrip("/")).partition("/")
            query = {
                name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()
            }
            request = Request(self.command, key, query, {k.lower(): v for k, v in self.headers.items()})
            state.requests.append(request)
            answer = state.answer(request) if bucket == BUCKET else _error(404, "NoSuchBucket")
            answer = state.fault(request, answer)
            self.send_response(answer.status)
            for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(answer.body[: answer.sent])
            if answer.sent is not None:
                self.close_connection = True

        do_GET = do_HEAD = _any

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def changed(answer: Answer, **fields: object) -> Answer:
    """Return `answer` with other `fields`."""
    return replace(answer, **fields)  # type: ignore[arg-type]
