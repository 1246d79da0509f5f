"""A hub that lies: each lie has one typed outcome, no wrong byte is accepted, and no token leaves the hub."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import closing
from itertools import count

import pytest

from reconciler.errors import SourceChangedError, UsageError
from reconciler.net.address import parse_address
from reconciler.sources import huggingface
from reconciler.sources.http_reader import HttpReader
from reconciler.sources.interface import (
    HUGGING_FACE,
    SourceMismatchError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceUnavailableError,
)
from reconciler.sources.open import open_source
from reconciler.sources.verify import ContentVerifier
from tests.conformance.sources import FILES
from tests.support.hub_server import Hub, HubRepository, hub_server
from tests.support.scripted_server import Sent

TOKEN = "hf_NeverPrintedAnywhere"
LARGE, SMALL = "model.safetensors", "config.json"


@pytest.fixture
def hub():
    with hub_server() as hub:
        hub.token = TOKEN
        hub.page = 3
        yield hub


def open_hub(hub: Hub):
    repository = hub.add(HubRepository.make("acme/llm", FILES))
    environ = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    return open_source(HUGGING_FACE, f"acme/llm@{repository.commit}", root=None, environ=environ)


def read(source, path: str, start: int = 0) -> bytes:
    file = next(file for file in source.list().files if file.path == path)
    verifier = ContentVerifier(source.name, file)
    pieces = []
    for piece in source.read(file, start):
        pieces.append(piece)
        if not start:
            verifier.update(piece)
    if not start:
        verifier.finish()
    return b"".join(pieces)


def test_a_link_to_an_earlier_page_is_none_to_the_next(hub):
    hub.lie = lambda kind, asked, sent: sent.but(
        headers={"Link": f'<{hub.url}/x>; rel="prev", {sent.headers.get("Link", "<y>; rel=last")}'}
    )
    with closing(open_hub(hub)) as source:
        assert len(source.list().files) == len(FILES)


def assert_no_leak(hub: Hub, error: BaseException | None = None) -> None:
    assert hub.storage.sent_headers("authorization") == set()
    assert error is None or TOKEN not in f"{error!r} {error} {getattr(error, 'hint', '')}"


# --- listings


def tree(change: Callable[[list], object]):
    """A lie about the first page of the tree."""

    def lie(kind, asked, sent):
        if kind != "tree" or "cursor" in asked.target:
            return sent
        entries = json.loads(sent.body)
        changed = change(entries)
        return sent.but(body=json.dumps(entries if changed is None else changed).encode())

    return lie


def first_file(**changes):
    return tree(lambda entries: next(e for e in entries if e["type"] == "file").update(changes))


def large_file(**changes):
    def change(entries):
        for entry in entries:
            if "lfs" in entry:
                entry["lfs"].update(changes)

    def lie(kind, asked, sent):
        if kind != "tree":
            return sent
        entries = json.loads(sent.body)
        change(entries)
        return sent.but(body=json.dumps(entries).encode())

    return lie


def in_tree(**changes):
    return lambda kind, asked, sent: sent.but(**changes) if kind == "tree" else sent


def next_page(target: str):
    def lie(kind, asked, sent):
        if kind != "tree":
            return sent
        place = target.format(target=asked.target)
        return sent.but(headers={"Link": f'<{place}>; rel="next"'})

    return lie


def in_a_circle(kind, asked, sent):
    """Two pages that lead to each other, and list nothing but directories."""
    if kind != "tree":
        return sent
    target = asked.target.removesuffix("&b") if asked.target.endswith("&b") else f"{asked.target}&b"
    folder = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "a"}]
    return sent.but(body=json.dumps(folder).encode(), headers={"Link": f'<{target}>; rel="next"'})


def endless():
    numbers = count()

    def lie(kind, asked, sent):
        if kind != "tree":
            return sent
        target = f"{asked.target.partition('&n=')[0]}&n={next(numbers)}"
        return sent.but(headers={"Link": f'<{target}>; rel="next"'})

    return lie


def another_commit(kind, asked, sent):
    return sent.but(headers={"X-Repo-Commit": "f" * 40}) if "cursor" in asked.target else sent


LISTING_LIES = {
    "next page on another host": (
        next_page("http://localhost:1/steal"),
        SourceRefusedError,
        "another host",
    ),
    "next page is not an address": (next_page("gopher://x/"), SourceRefusedError, "another host"),
    "next page again and again": (next_page("{target}"), SourceProtocolError, "repeats a page"),
    "next page on a host of the same scheme": (
        next_page("//localhost:1/steal"),
        SourceRefusedError,
        "another host",
    ),
    "next page in a file": (next_page("file:///etc/passwd"), SourceRefusedError, "another host"),
    "next page in itself": (next_page("data:application/json,[]"), SourceRefusedError, "another host"),
    "next page with a user": (next_page("http://user@localhost:1/"), SourceRefusedError, "another host"),
    "next page with an invalid port": (
        next_page("http://127.0.0.1:99999/"),
        SourceProtocolError,
        "which is not an address",
    ),
    "next page with half a host": (next_page("http://[::1/"), SourceProtocolError, "which is not an address"),
    "pages in a circle": (in_a_circle, SourceProtocolError, "repeats a page"),
    "the same files on every page": (endless(), SourceProtocolError, "listed twice"),
    "another commit on a page": (
        another_commit,
        SourceProtocolError,
        "answers with the commit 'ffff",
    ),
    "a file twice": (tree(lambda entries: entries + entries), SourceProtocolError, "listed twice"),
    "traversal": (
        first_file(path="../../.ssh/authorized_keys"),
        SourceProtocolError,
        "no bundle may",
    ),
    "absolute path": (first_file(path="/etc/passwd"), SourceProtocolError, "no bundle may"),
    "control characters": (first_file(path="a\x1b[2Jb"), SourceProtocolError, "no bundle may"),
    "NUL": (first_file(path="a\0b"), SourceProtocolError, "no bundle may"),
    "empty path": (first_file(path=""), SourceProtocolError, "no bundle may"),
    "empty name": (first_file(path="a//b"), SourceProtocolError, "no bundle may"),
    "a dot": (first_file(path="a/./b"), SourceProtocolError, "no bundle may"),
    "trailing slash": (first_file(path="a/"), SourceProtocolError, "no bundle may"),
    "long name": (first_file(path="x" * 1024), SourceProtocolError, "longer than 255 bytes"),
    "deep path": (first_file(path="d/" * 300 + "x"), SourceProtocolError, "directories deep"),
    "a file below a file": (
        tree(lambda entries: [*entries, {**entries[-1], "path": f"{entries[-1]['path']}/x"}]),
        SourceProtocolError,
        "as a file and as a directory",
    ),
    "lone surrogate": (first_file(path="\ud800"), SourceProtocolError, "no bundle may"),
    "no path": (first_file(path=None), SourceProtocolError, "is not a string"),
    "negative size": (first_file(size=-1), SourceProtocolError, "is listed with -1 bytes"),
    "size with a fraction": (first_file(size=1.5), SourceProtocolError, "is not a whole number"),
    "size as text": (first_file(size="5"), SourceProtocolError, "is not a whole number"),
    "size that is true": (first_file(size=True), SourceProtocolError, "is not a whole number"),
    "infinite size": (first_file(size=float("inf")), SourceProtocolError, "is not a whole number"),
    "size of 10^5000": (
        in_tree(body=b'[{"type": "file", "path": "a", "oid": "x", "size": ' + b"9" * 5000 + b"}]"),
        SourceUnavailableError,
        "invalid or truncated JSON",
    ),
    "impossible size": (first_file(size=1 << 60), SourceProtocolError, "is listed with"),
    "no object id": (first_file(oid="main"), SourceProtocolError, "is not a git object id"),
    "object id in capitals": (first_file(oid="A" * 40), SourceProtocolError, "is not a git object id"),
    "a list in place of LFS": (first_file(lfs=["x"]), SourceProtocolError, "is not a string"),
    "no type": (first_file(type="commit"), SourceProtocolError, "'commit', which is not a file"),
    "two sizes": (large_file(size=5), SourceProtocolError, "listed with two sizes"),
    "a size in LFS that is text": (large_file(size="5"), SourceProtocolError, "is not a whole number"),
    "a digest in capitals": (large_file(oid="A" * 64), SourceProtocolError, "is not a SHA-256"),
    "no digest": (large_file(oid="md5:00"), SourceProtocolError, "is not a SHA-256"),
    "an object": (tree(lambda entries: {"files": entries}), SourceProtocolError, "is not a list"),
    "a list of text": (tree(lambda entries: ["config.json"]), SourceProtocolError, "is not a string"),
    "cut off": (in_tree(cut=50), SourceUnavailableError, "the connection broke"),
    "half a document": (in_tree(body=b'[{"type": "fi'), SourceUnavailableError, "truncated JSON"),
    "nested too deeply": (in_tree(body=b"[" * 200_000), SourceUnavailableError, "invalid or truncated JSON"),
    "a login page": (in_tree(body=b"<!doctype html>"), SourceProtocolError, "a web page"),
    "compressed": (
        in_tree(body=gzip.compress(b"[]"), headers={"Content-Encoding": "gzip"}),
        SourceProtocolError,
        "encoding that was not requested",
    ),
    "redirect to another host": (
        in_tree(status=307, headers={"Location": "http://localhost:1/steal"}),
        SourceRefusedError,
        "only its own host and port",
    ),
    "redirect in a circle": (
        in_tree(status=307, headers={"Location": "?again"}),
        SourceProtocolError,
        "redirects more than 5 times",
    ),
    "redirect without an address": (in_tree(status=302), SourceProtocolError, "redirects without an address"),
    "no tree": (in_tree(status=404), SourceMissingError, "does not exist"),
    "429 without a time": (in_tree(status=429), SourceUnavailableError, "requests a pause"),
    "503": (in_tree(status=503), SourceUnavailableError, "failed \\(HTTP 503\\)"),
    "teapot": (in_tree(status=418), SourceProtocolError, "HTTP 418"),
}


@pytest.mark.parametrize(("lie", "error", "message"), LISTING_LIES.values(), ids=LISTING_LIES)
def test_a_lie_in_a_listing_is_refused(hub, lie, error, message):
    hub.lie = lie
    with closing(open_hub(hub)) as source, pytest.raises(error, match=message) as caught:
        source.list()
    assert str(caught.value).isprintable()
    assert_no_leak(hub, caught.value)


def test_a_next_page_on_the_storage_gets_no_request_at_all(hub):
    hub.lie = next_page(hub.storage.url)
    with closing(open_hub(hub)) as source, pytest.raises(SourceRefusedError):
        source.list()
    assert hub.storage.asked == []


def test_a_page_has_a_limit(hub, monkeypatch):
    monkeypatch.setattr(huggingface, "_PAGE_LIMIT", 100)
    with closing(open_hub(hub)) as source, pytest.raises(SourceProtocolError, match="more than 100 bytes"):
        source.list()


def test_the_requested_pause_is_known_to_the_caller(hub):
    hub.lie = in_tree(status=429, headers={"Retry-After": "7200"})
    with closing(open_hub(hub)) as source, pytest.raises(SourceUnavailableError) as caught:
        source.list()
    assert caught.value.retry_after == 7200


# --- bytes


def of(part: str, **changes):
    return lambda kind, asked, sent: sent.but(**changes) if kind == part else sent


IN_BYTES = ("storage", "resolve")


def other_bytes(kind, asked, sent):
    return (
        sent.but(body=bytes(len(sent.body)))
        if kind in ("storage", "resolve") and sent.body != b"Found"
        else sent
    )


def grown(kind, asked, sent):
    return sent.but(body=sent.body + b"more") if kind in IN_BYTES and sent.status == 200 else sent


def shrunk(kind, asked, sent):
    return sent.but(body=sent.body[:-1]) if kind in IN_BYTES and sent.status == 200 else sent


def always_cut(kind, asked, sent):
    return sent.but(cut=0) if kind == "storage" else sent


READING_LIES = {
    "other bytes in storage": (LARGE, other_bytes, SourceMismatchError, "does not have its SHA-256"),
    "other bytes in git": (SMALL, other_bytes, SourceMismatchError, "does not have its git blob id"),
    "a file in storage that grew": (LARGE, grown, SourceChangedError, "bytes now instead of"),
    "a file in git that grew": (SMALL, grown, SourceChangedError, "bytes now instead of"),
    "a truncated file in storage": (LARGE, shrunk, SourceChangedError, "bytes now instead of"),
    "a truncated file in git": (SMALL, shrunk, SourceChangedError, "bytes now instead of"),
    "a truncated file of unknown length": (
        LARGE,
        of("storage", chunked=True, cut=5000),
        SourceUnavailableError,
        "again and again",
    ),
    "a connection that always breaks": (LARGE, always_cut, SourceUnavailableError, "the connection broke"),
    "another digest in storage": (
        LARGE,
        of("resolve", headers={"X-Linked-Etag": '"' + "0" * 64 + '"'}),
        SourceMismatchError,
        "has the SHA-256 0000",
    ),
    "another size in storage": (
        LARGE,
        of("resolve", headers={"X-Linked-Size": "7"}),
        SourceMismatchError,
        "has 7 bytes in storage",
    ),
    "another commit": (
        SMALL,
        of("resolve", headers={"X-Repo-Commit": "e" * 40}),
        SourceProtocolError,
        "answers with the commit",
    ),
    "withdrawn": (
        LARGE,
        of("resolve", status=404, headers={"X-Error-Code": "EntryNotFound"}),
        SourceMissingError,
        "'model.safetensors' was withdrawn",
    ),
    "gated meanwhile": (
        LARGE,
        of("resolve", status=403, headers={"X-Error-Code": "GatedRepo"}),
        SourceRefusedError,
        "is gated",
    ),
    "bare 404": (LARGE, of("resolve", status=404), SourceMissingError, "does not exist"),
    "storage that always denies": (
        LARGE,
        of("storage", status=403),
        SourceRefusedError,
        "at a new address",
    ),
    "storage without the object": (
        LARGE,
        of("storage", status=404),
        SourceMissingError,
        "at a new address",
    ),
    "a redirect in a circle": (
        LARGE,
        of("resolve", headers={"Location": "?again"}),
        SourceProtocolError,
        "redirects more than 5 times",
    ),
    "a redirect without an address": (
        LARGE,
        of("resolve", headers={"Location": None}),
        SourceProtocolError,
        "redirects without an address",
    ),
    "a redirect to a file": (
        LARGE,
        of("resolve", headers={"Location": "file:///etc/passwd"}),
        SourceProtocolError,
        "which is not an address",
    ),
    "a redirect to half a host": (
        LARGE,
        of("resolve", headers={"Location": "http://[::1/"}),
        SourceProtocolError,
        "leads to 'http://.::1/', which is not an address",
    ),
    "a redirect to an invalid port": (
        LARGE,
        of("resolve", headers={"Location": "//127.0.0.1:99999/"}),
        SourceProtocolError,
        "which is not an address",
    ),
    "a redirect to data": (
        LARGE,
        of("resolve", headers={"Location": "data:,evil"}),
        SourceProtocolError,
        "which is not an address",
    ),
    "a redirect with a password": (
        LARGE,
        of("resolve", headers={"Location": "http://user:pass@127.0.0.1/"}),
        SourceProtocolError,
        "which is not an address",
    ),
    "a compressed body": (
        SMALL,
        of("resolve", headers={"Content-Encoding": "gzip"}),
        SourceProtocolError,
        "encoding that was not requested",
    ),
    "429": (LARGE, of("storage", status=429), SourceUnavailableError, "requests a pause"),
    "500": (SMALL, of("resolve", status=500), SourceUnavailableError, "HTTP 500"),
}


@pytest.mark.parametrize(("path", "lie", "error", "message"), READING_LIES.values(), ids=READING_LIES)
def test_a_lie_about_bytes_is_found(hub, path, lie, error, message):
    with closing(open_hub(hub)) as source:
        source.list()
        hub.lie = lie
        with pytest.raises(error, match=message) as caught:
            read(source, path)
    assert str(caught.value).isprintable()
    assert "pass@" not in str(caught.value)
    assert_no_leak(hub, caught.value)


RANGE_LIES = {
    "another range": ({"Content-Range": "bytes 0-9/{size}"}, SourceProtocolError, "came with bytes 0 to 9"),
    "a longer range": (
        {"Content-Range": "bytes 5-{size}/{size}"},
        SourceProtocolError,
        "came with bytes 5",
    ),
    "no range": ({"Content-Range": None}, SourceProtocolError, "without a valid"),
    "an invalid range": (
        {"Content-Range": "bytes */*"},
        SourceProtocolError,
        "without a valid",
    ),
    "several parts": (
        {"Content-Range": None, "Content-Type": "multipart/byteranges; boundary=x"},
        SourceProtocolError,
        "without a valid",
    ),
    "a larger file": ({"Content-Range": "bytes 5-99/2000000000"}, SourceChangedError, "2000000000 bytes now"),
}


@pytest.mark.parametrize(("headers", "error", "message"), RANGE_LIES.values(), ids=RANGE_LIES)
def test_a_lie_about_a_range_is_refused(hub, headers, error, message):
    size = len(FILES[LARGE])
    stated = {name: value and value.format(size=size) for name, value in headers.items()}
    hub.lie = of("storage", headers=stated)
    with closing(open_hub(hub)) as source, pytest.raises(error, match=message):
        read(source, LARGE, 5)


def test_an_unsatisfiable_range_is_refused(hub):
    hub.lie = lambda kind, asked, sent: Sent(416) if kind == "storage" else sent
    with closing(open_hub(hub)) as source, pytest.raises(SourceProtocolError, match="HTTP 416"):
        read(source, LARGE, 5)


# --- peculiarities that are not lies


def ignored_range(kind, asked, sent):
    body = FILES[LARGE]
    return sent.but(status=200, body=body, headers={"Content-Range": None}) if kind == "storage" else sent


def shorter_ranges():
    """Storage that gives at most 700,000 bytes for each request, as RFC 9110 allows."""

    def lie(kind, asked, sent):
        if kind != "storage" or sent.status != 206:
            return sent
        body = sent.body[:700_000]
        first = int(sent.headers["Content-Range"].split()[1].split("-")[0])
        stated = f"bytes {first}-{first + len(body) - 1}/{len(FILES[LARGE])}"
        return sent.but(body=body, headers={"Content-Range": stated})

    return lie


def breaking():
    """Storage that breaks off after 400,000 bytes, each time."""
    return lambda kind, asked, sent: (
        sent.but(cut=400_000) if kind == "storage" and len(sent.body) > 400_000 else sent
    )


def once(part: str, answer: Sent):
    left = [answer]
    return lambda kind, asked, sent: left.pop() if kind == part and left else sent


PECULIARITIES = {
    "range ignored": ignored_range,
    "shorter ranges": shorter_ranges(),
    "connections that break": breaking(),
    "total unknown": lambda kind, asked, sent: (
        sent.but(headers={"Content-Range": sent.headers["Content-Range"].rpartition("/")[0] + "/*"})
        if sent.status == 206
        else sent
    ),
    "length unknown": of("storage", chunked=True),
    "no commit header": of("resolve", headers={"X-Repo-Commit": None}),
    "no ETag": of("resolve", headers={"ETag": None, "X-Linked-Etag": None, "X-Linked-Size": None}),
    "equal ETags": of("resolve", headers={"ETag": '"one"'}),
    "Xet headers": of(
        "resolve", headers={"X-Xet-Hash": "0" * 64, "Link": '<http://localhost:1/xet>; rel="xet-auth"'}
    ),
    "429 once, with a time": once("resolve", Sent(429, headers={"Retry-After": "0"})),
    "503 once": once("storage", Sent(503)),
    "an expired address": once("storage", Sent(403, b"<Error><Code>AccessDenied</Code></Error>")),
}


@pytest.mark.parametrize("lie", PECULIARITIES.values(), ids=PECULIARITIES)
def test_a_peculiarity_of_a_server_changes_no_byte(hub, lie):
    with closing(open_hub(hub)) as source:
        source.list()
        hub.lie = lie
        assert read(source, LARGE, 5) == FILES[LARGE][5:]
        assert read(source, LARGE) == FILES[LARGE]
    assert_no_leak(hub)


def test_a_relative_hop_that_ends_elsewhere_does_not_take_the_token_along(hub):
    """resolve -> relative 307 on the hub -> storage on another port."""

    def lie(kind, asked, sent):
        if kind == "resolve" and sent.status == 302 and "hop" not in asked.target:
            return Sent(307, headers={"Location": f"{asked.target}?hop"})
        return sent

    hub.lie = lie
    with closing(open_hub(hub)) as source:
        assert read(source, LARGE) == FILES[LARGE]
    assert hub.server.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"
    assert hub.storage.asked
    assert_no_leak(hub)


def test_another_name_of_the_same_machine_is_another_host(hub):
    hub.lie = lambda kind, asked, sent: (
        sent.but(headers={"Location": sent.headers["Location"].replace("127.0.0.1", "localhost")})
        if sent.status == 302
        else sent
    )
    with closing(open_hub(hub)) as source:
        assert read(source, LARGE) == FILES[LARGE]
    assert_no_leak(hub)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://hub.example/x", "not encrypted"),
        ("https://localhost/x", "of this machine or of a private network"),
        ("https://127.0.0.1:8080/x", "of this machine or of a private network"),
        ("https://169.254.169.254/latest/meta-data", "of this machine or of a private network"),
        ("https://10.1.2.3/x", "of this machine or of a private network"),
        ("https://[::1]/x", "of this machine or of a private network"),
        ("https://[fd00::1]/x", "of this machine or of a private network"),
        ("https://[::ffff:127.0.0.1]/x", "of this machine or of a private network"),
        ("https://cdn.example:0/x", "not an address"),
        ("https://cdn.example:99999/x", "not an address"),
        ("https:///x", "not an address"),
        ("https://cdn.example/\u202ex", "not an address"),
    ],
)
def test_a_public_hub_cannot_lead_into_a_private_network(target, message, monkeypatch):
    monkeypatch.setattr("reconciler.sources.http_reader.public_address", lambda host, port: "192.0.2.1")
    reader = HttpReader("hf:a/b", parse_address("https://hub.example"))
    with pytest.raises((SourceRefusedError, SourceProtocolError), match=message):
        reader.check_target(target, "w.bin")


def test_a_host_that_a_public_hub_names_is_dialled_at_public_addresses_only(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "reconciler.sources.http_reader.HttpClient", lambda *args, **options: asked.append(options)
    )
    monkeypatch.setattr("reconciler.sources.http_reader.public_address", lambda host, port: "192.0.2.1")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    reader = HttpReader("hf:a/b", parse_address("https://hub.example"))
    reader._client("https://cdn.example/x")
    reader._client("https://hub.example/x")
    assert [options["public_only"] for options in asked] == [True, False]


@pytest.mark.parametrize("url", ["ftp://hub.example", "https://user:pass@hub.example", "hub.example"])
def test_an_endpoint_that_is_no_address_is_refused(url):
    with pytest.raises(UsageError) as caught:
        open_source(HUGGING_FACE, f"acme/llm@{'0' * 40}", root=None, environ={"HF_ENDPOINT": url})
    assert "pass" not in str(caught.value).replace("password", "")
