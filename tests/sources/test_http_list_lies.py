"""A web server that lies about the files of its list: each lie has one typed outcome, or changes no byte."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from urllib.parse import unquote

import pytest

from reconciler.errors import ReconcilerError, SourceChangedError
from reconciler.sources.interface import (
    SourceMismatchError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceUnavailableError,
)
from reconciler.sources.verify import ContentVerifier
from tests.conformance.sources import FILES, requested
from tests.sources.test_http_list import BASE, TOKEN, HttpSubject
from tests.support.http_peer import Asked
from tests.support.scripted_server import Sent, ranged, scripted_server

NAME = "model.safetensors"
DATA = FILES[NAME]
Lie = Callable[[Asked, Sent], Sent]


@pytest.fixture
def subject():
    subject = HttpSubject()
    with scripted_server(subject.answer) as server:
        subject.url = server.url
        yield subject


def but(**changes: object) -> Lie:
    return lambda asked, sent: sent.but(**changes)


def grown(asked: Asked, sent: Sent) -> Sent:
    return ranged(asked, DATA + b"more")


def shrunk(asked: Asked, sent: Sent) -> Sent:
    return ranged(asked, DATA[:-5])


def elsewhere(location: str) -> Lie:
    return lambda asked, sent: Sent(302, headers={"Location": location.format(target=asked.target)})


LIES: dict[str, tuple[Lie, type[ReconcilerError], str]] = {
    "other bytes": (but(body=bytes(len(DATA))), SourceMismatchError, "does not have its SHA-256"),
    "a file that grew": (grown, SourceChangedError, "bytes now instead of"),
    "a truncated file": (shrunk, SourceChangedError, "bytes now instead of"),
    "another ETag": (but(headers={"ETag": '"other"'}), SourceChangedError, "another ETag"),
    "a connection that always breaks": (but(cut=100), SourceUnavailableError, "broke"),
    "a truncated file of unknown length": (
        but(chunked=True, body=DATA[:5000], cut=5000),
        SourceUnavailableError,
        "ends at byte",
    ),
    "a range that was not asked for": (
        but(status=206, headers={"Content-Range": f"bytes 5-9/{len(DATA)}"}),
        SourceProtocolError,
        "came with bytes 5 to 9",
    ),
    "a part without a range": (but(status=206), SourceProtocolError, "without a valid Content-Range"),
    "no such range": (lambda asked, sent: Sent(416), SourceChangedError, "any more"),
    "401 meanwhile": (lambda asked, sent: Sent(401), SourceRefusedError, "HTTP 401"),
    "403 meanwhile": (lambda asked, sent: Sent(403), SourceRefusedError, "HTTP 403"),
    "withdrawn": (lambda asked, sent: Sent(404), SourceMissingError, "HTTP 404"),
    "gone for good": (lambda asked, sent: Sent(410), SourceMissingError, "HTTP 410"),
    "429": (lambda asked, sent: Sent(429), SourceUnavailableError, "requests a pause"),
    "503": (lambda asked, sent: Sent(503), SourceUnavailableError, "HTTP 503"),
    "teapot": (lambda asked, sent: Sent(418), SourceProtocolError, "HTTP 418"),
    "compressed": (but(headers={"Content-Encoding": "gzip"}), SourceProtocolError, "encoding"),
    "a redirect in a circle": (elsewhere("{target}"), SourceProtocolError, "redirects more than 5 times"),
    "a redirect to a file": (elsewhere("file:///etc/passwd"), SourceProtocolError, "which is not an address"),
    "a redirect with a password": (
        elsewhere("http://u:p@127.0.0.1/"),
        SourceProtocolError,
        "which is not an address",
    ),
}


def lying(subject: HttpSubject, lie: Lie) -> None:
    """Lie about the bytes of one file, and about nothing else."""
    subject.lie = lambda asked, sent: (
        lie(asked, sent) if asked.target == BASE + NAME and asked.method == "GET" else sent
    )


def read(subject: HttpSubject) -> bytes:
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.path == NAME)
        verifier, found = ContentVerifier(source.name, file), bytearray()
        for piece in source.read(file):
            verifier.update(piece)
            found += piece
        verifier.finish()
    return bytes(found)


def request(subject: HttpSubject) -> bytes:
    """Return the bytes of one request, verified."""
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.path == NAME)
        verifier = ContentVerifier(source.name, file)
        with closing(source.request(file, 0, file.size)) as span:
            found = requested(span, 100_000)
        verifier.update(found)
        verifier.finish()
    return found


@pytest.mark.parametrize("reader", [read, request])
@pytest.mark.parametrize(("lie", "error", "message"), LIES.values(), ids=LIES)
def test_a_lie_about_bytes_is_found(subject, lie, error, message, reader):
    lying(subject, lie)
    with pytest.raises(error, match=message) as caught:
        reader(subject)
    assert NAME in str(caught.value)
    assert TOKEN not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize(("headers", "pause"), [({}, None), ({"Retry-After": "86400"}, 86400.0)])
def test_the_requested_pause_is_known_to_the_caller(subject, headers, pause):
    lying(subject, lambda asked, sent: Sent(429, headers=headers))
    with pytest.raises(SourceUnavailableError) as caught:
        read(subject)
    assert caught.value.retry_after == pause


def once(answer: Callable[[Sent], Sent]) -> Lie:
    lied = []

    def lie(asked: Asked, sent: Sent) -> Sent:
        if lied:
            return sent
        lied.append(asked)
        return answer(sent)

    return lie


def ignored_range(asked: Asked, sent: Sent) -> Sent:
    return Sent(200, DATA)


def test_one_request_is_made_once_and_says_what_the_server_asks_for(subject):
    asked = []
    lying(subject, lambda request, sent: asked.append(request) or Sent(429, headers={"Retry-After": "7"}))
    with pytest.raises(SourceUnavailableError) as caught:
        request(subject)
    assert (caught.value.retry_after, caught.value.overloaded, len(asked)) == (7.0, True, 1)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"Content-Range": f"bytes 5-99/{len(DATA)}"}, DATA[5:100]),
        ({"Content-Range": f"bytes 5-99/{len(DATA) + 1}"}, None),
        ({"Content-Range": f"bytes 6-100/{len(DATA)}"}, None),
        ({"Content-Range": "bytes 5-99/*"}, None),
        ({}, None),
    ],
)
def test_a_part_with_the_status_200_is_taken_only_when_it_is_exactly_the_requested_one(
    subject, headers, found
):
    lying(subject, lambda asked, sent: Sent(200, DATA[5:100], headers=headers))
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.path == NAME)
        if found is None:
            with pytest.raises(SourceChangedError, match="has 95 bytes now instead of"):
                source.request(file, 5, 100)
        else:
            assert requested(source.request(file, 5, 100), 50) == found
            assert b"".join(source.read(file, 5, 95)) == found


@pytest.mark.parametrize(
    "lie",
    [
        ignored_range,
        once(lambda sent: sent.but(cut=1_500_000)),
        once(lambda sent: Sent(503)),
        once(lambda sent: Sent(429, headers={"Retry-After": "0"})),
        but(headers={"ETag": None}),
    ],
    ids=["range ignored", "one break", "503 once", "429 once", "no ETag"],
)
def test_a_peculiarity_of_a_server_changes_no_byte(subject, lie):
    lying(subject, lie)
    assert read(subject) == DATA


def test_a_signed_address_that_expires_in_the_middle_is_asked_for_again(subject):
    """Each address of the storage works once, as if it expired."""
    used: set[str] = set()

    def storage(asked: Asked) -> Sent:
        if asked.target in used:
            return Sent(403)
        used.add(asked.target)
        sent = ranged(asked, DATA)
        return sent.but(cut=700_000) if len(used) < 3 else sent

    with scripted_server(storage) as other:
        asked_for: list[Asked] = []

        def lie(asked: Asked, sent: Sent) -> Sent:
            asked_for.append(asked)
            return Sent(302, headers={"Location": f"{other.url}/{unquote(NAME)}?signed={len(asked_for)}"})

        lying(subject, lie)
        assert read(subject) == DATA
        assert [asked.headers.get("range", "") for asked in other.asked] == [
            "",
            f"bytes=700000-{len(DATA) - 1}",
            f"bytes=1400000-{len(DATA) - 1}",
        ]
        assert other.sent_headers("authorization") == set()
