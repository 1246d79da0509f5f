"""Directories with a SHA256SUMS on an HTTP server as sources."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest

from reconciler.content import checksums
from reconciler.errors import SourceChangedError, UsageError
from reconciler.sources.interface import (
    SourceDefinition,
    SourceKind,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
)
from reconciler.sources.open import open_source
from reconciler.sources.verify import ContentVerifier
from tests.conformance.sources import FILES, SourceSuite
from tests.support.http_peer import Asked
from tests.support.nginx import nginx
from tests.support.scripted_server import Sent, ranged, scripted_server

TOKEN = "NeverPrintedToken"
BASE = "/released/llm/1.2.0/"


class HttpSubject:
    def __init__(self) -> None:
        self.files = dict(FILES)
        self.lie: Callable[[Asked, Sent], Sent] = lambda asked, sent: sent
        self.url = ""
        self.sums: bytes | None = None

    def answer(self, asked: Asked) -> Sent:
        return self.lie(asked, self.true(asked))

    def true(self, asked: Asked) -> Sent:
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return Sent(401)
        path = unquote(asked.target).removeprefix(BASE)
        if path == "SHA256SUMS":
            sums = [(name, hashlib.sha256(data).digest()) for name, data in self.files.items()]
            return ranged(asked, checksums.render(sums) if self.sums is None else self.sums)
        data = self.files.get(path)
        if data is None:
            return Sent(404)
        return ranged(asked, data, {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    def open(self, location: str = "llm/1.2.0"):
        url = f"{self.url}/released"
        definition = SourceDefinition("web", SourceKind.HTTP, url=url, token_env="WEB_TOKEN")
        return open_source(definition, location, root=None, environ={"WEB_TOKEN": TOKEN})

    def open_missing(self):
        return self.open("llm/absent")

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def make_unreachable(self) -> None:
        self.lie = lambda asked, sent: Sent(502)


@pytest.fixture
def subject():
    subject = HttpSubject()
    with scripted_server(subject.answer) as server:
        subject.url = server.url
        yield subject


class TestHttpList(SourceSuite):
    added: ClassVar = frozenset({"SHA256SUMS"})
    secret: ClassVar = TOKEN

    @pytest.fixture
    def subject(self, subject):
        return subject


class NginxSubject:
    """A directory that a real nginx serves."""

    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self.root = root
        for path, data in FILES.items():
            self.put(path, data)

    def open(self, location: str = "llm/1.2.0"):
        definition = SourceDefinition("web", SourceKind.HTTP, url=self.url)
        return open_source(definition, location, root=None, environ={})

    def open_missing(self):
        return self.open("llm/absent")

    def put(self, path: str, data: bytes) -> None:
        home = self.root / "llm/1.2.0"
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(data)
        files = [file for file in home.rglob("*") if file.is_file() and file.name != "SHA256SUMS"]
        sums = [(str(file.relative_to(home)), hashlib.sha256(file.read_bytes()).digest()) for file in files]
        (home / "SHA256SUMS").write_bytes(checksums.render(sums))

    def make_unreachable(self) -> None:
        (self.root / "down").touch()


@pytest.mark.nginx
class TestNginx(SourceSuite):
    added: ClassVar = frozenset({"SHA256SUMS"})

    @pytest.fixture
    def subject(self, tmp_path):
        root = tmp_path / "root"
        down = f"if (-f {root}/down) {{ return 503; }}"
        user = "user root;" if os.geteuid() == 0 else ""  # only they may enter the directory
        with nginx(tmp_path / "nginx", f"root {root}; location / {{ {down} }}", user) as url:
            yield NginxSubject(url, root)


def test_the_list_itself_is_a_file_of_the_source(subject):
    with closing(subject.open()) as source:
        listing = source.list()
        file = next(file for file in listing.files if file.path == "SHA256SUMS")
        data = b"".join(source.read(file))
    assert listing.revision == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_the_token_does_not_follow_a_redirect_to_another_port(subject):
    with scripted_server(lambda asked: ranged(asked, subject.files[unquote(asked.target[1:])])) as other:

        def lie(asked, sent):
            path = asked.target.removeprefix(BASE)
            if path == "SHA256SUMS" or sent.status not in (200, 206):
                return sent
            return Sent(302, headers={"Location": f"{other.url}/{path}"})

        subject.lie = lie
        with closing(subject.open()) as source:
            for file in source.list().files:
                data = subject.files.get(file.path)
                assert data is None or b"".join(source.read(file)) == data
        assert other.asked
        assert other.sent_headers("authorization") == set()


def test_a_list_on_another_host_is_refused(subject):
    subject.lie = lambda asked, sent: Sent(302, headers={"Location": "http://localhost:1/SHA256SUMS"})
    with closing(subject.open()) as source, pytest.raises(SourceRefusedError, match="only its own host"):
        source.list()


def test_a_server_without_head_is_asked_for_one_byte(subject):
    subject.lie = lambda asked, sent: Sent(405) if asked.method == "HEAD" else sent
    with closing(subject.open()) as source:
        assert {file.path: file.size for file in source.list().files}.items() >= {
            path: len(data) for path, data in FILES.items() if data
        }.items()


def test_a_file_that_is_replaced_after_the_listing_is_found(subject):
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.path == "config.json")
        subject.put("config.json", FILES["config.json"].replace(b"8", b"9"))
        with pytest.raises(SourceChangedError, match=r"'config\.json' has another ETag"):
            b"".join(source.read(file))


@pytest.mark.parametrize(
    ("sums", "error", "message"),
    [
        (b"0" * 64 + b"  ../outside\n", SourceProtocolError, "outside"),
        (b"0" * 64 + b"  /etc/passwd\n", SourceProtocolError, "passwd"),
        (b"0" * 64 + b"  absent.bin\n", SourceMissingError, "'absent.bin' is in SHA256SUMS"),
        (
            2 * (b"0" * 64 + b"  config.json\n"),
            SourceProtocolError,
            "listed twice",
        ),
        (b"0" * 64 + b"  config.json\nnot a sum\n", SourceProtocolError, "line 2"),
        (b"not a sum\n", SourceProtocolError, "malformed line"),
        (b"\xff\xfe", SourceProtocolError, "UTF-16"),
        (b"0" * 64 + b"  a\0b\n", SourceProtocolError, "control character"),
        (b"\\" + b"0" * 64 + b"  a\\nb\n", SourceProtocolError, "control character"),
        (b"\\" + b"0" * 64 + b"  a\\qb\n", SourceProtocolError, "malformed line"),
        (b"0" * 64 + b"  a\n" + b"1" * 64 + b" *./a\n", SourceProtocolError, "listed twice"),
        (b"0" * 64 + b"  a\n" + b"1" * 64 + b"  a/b\n", SourceProtocolError, "a file and as a directory"),
        (b"0" * 64 + b"  " + b"x" * 1024 + b"\n", SourceProtocolError, "longer than 255 bytes"),
        (b"0" * 64 + b"  " + b"d/" * 300 + b"x\n", SourceProtocolError, "directories deep"),
        (b"0" * 64 + b"  \xff\n", SourceMissingError, "is in SHA256SUMS"),
        (b"0" * 64 + b"  dir/\n", SourceProtocolError, "not a path inside"),
        (b"0" * 63 + b"  config.json\n", SourceProtocolError, "malformed line"),
        (b"0" * 128 + b"  config.json\n", SourceProtocolError, "malformed line"),
        (b"<html>not found</html>", SourceProtocolError, "malformed line"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(subject, sums, error, message):
    subject.sums = sums
    with closing(subject.open()) as source, pytest.raises(error, match=message):
        source.list()


@pytest.mark.parametrize(
    "change",
    [
        lambda sums: b"\xef\xbb\xbf" + sums,
        lambda sums: sums.replace(b"\n", b"\r\n"),
        lambda sums: sums.replace(b"  ", b" *"),
        lambda sums: sums.removesuffix(b"\n"),
        lambda sums: b"# made by hand\n\n" + sums,
        lambda sums: sums.upper().replace(b"MODEL", b"model").replace(b"SAFETENSORS", b"safetensors"),
    ],
    ids=["BOM", "CRLF", "binary", "no end", "comments", "capitals"],
)
def test_a_list_in_another_form_is_read(subject, change):
    sums = [("model.safetensors", hashlib.sha256(FILES["model.safetensors"]).digest())]
    subject.sums = change(checksums.render(sums))
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.path == "model.safetensors")
        verifier = ContentVerifier(source.name, file)
        for piece in source.read(file):
            verifier.update(piece)
        verifier.finish()


def test_an_empty_list_has_no_files_but_itself(subject):
    subject.sums = b"# nothing\n"
    with closing(subject.open()) as source:
        assert [file.path for file in source.list().files] == ["SHA256SUMS"]


@pytest.mark.parametrize("length", ["-1", "1.5", "1e3", "0x10", "", "9" * 30, "5, 6"])
def test_a_size_that_is_none_is_refused(subject, length):
    """In the answer to a request for one byte, since a HEAD with such a length breaks HTTP."""

    def lie(asked, sent):
        if asked.method == "HEAD":
            return Sent(405)
        if "range" in asked.headers and sent.status == 206:
            return sent.but(headers={"Content-Range": f"bytes 0-0/{length}"})
        return sent

    subject.lie = lie
    with (
        closing(subject.open()) as source,
        pytest.raises(SourceProtocolError, match="comes without its size"),
    ):
        source.list()


def test_a_wrong_token_is_refused(subject):
    subject.lie = lambda asked, sent: Sent(403, TOKEN.encode())
    with closing(subject.open()) as source, pytest.raises(SourceRefusedError) as caught:
        source.list()
    assert TOKEN not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize("location", ["../x", "a/../../x", "a\nb"])
def test_a_location_outside_of_the_address_is_refused(subject, location):
    with pytest.raises(UsageError, match="not a directory below it"):
        subject.open(location)
