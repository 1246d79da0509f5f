"""A bucket gives exactly what was listed, or one error of ours that shows neither a secret nor an address."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("obstore")

from reconciler.errors import ReconcilerError, SourceChangedError, UsageError
from reconciler.sources import object_store
from reconciler.sources.interface import (
    SourceDefinition,
    SourceError,
    SourceKind,
    SourceMismatchError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceSpan,
    SourceUnavailableError,
)
from reconciler.sources.object_store import ObjectStoreSource
from reconciler.sources.open import open_source
from reconciler.sources.verify import ContentVerifier
from tests.support.s3_server import BUCKET, KEY_ID, SECRET, Answer, Request, S3Server, changed, s3_server

FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 20_000,
    "sub/deep/w +%é.bin": b"odd",
    "empty.txt": b"",
}
ENVIRON = {"KEY_ID": KEY_ID, "SECRET": SECRET}


def definition(url: str, **options: str) -> SourceDefinition:
    fields = {"key_id_env": "KEY_ID", "secret_env": "SECRET"} | options
    return SourceDefinition("w", SourceKind.OBJECT_STORE, f"s3://{BUCKET}/released", endpoint=url, **fields)


def opened(server: S3Server, location: str = "llm/1.0.0/", **options: str) -> ObjectStoreSource:
    found = open_source(definition(server.url, **options), location, root=Path(), environ=ENVIRON)
    assert isinstance(found, ObjectStoreSource)
    found._sleep = lambda seconds: None
    return found


@pytest.fixture
def server() -> Iterator[S3Server]:
    with s3_server() as found:
        for path, data in FILES.items():
            found.put(f"released/llm/1.0.0/{path}", data)
        found.put("released/llm/1.0.0-other/x", b"a prefix of letters is not a prefix of segments")
        found.put("elsewhere/x", b"not listed")
        yield found


def contents(source: ObjectStoreSource) -> dict[str, bytes]:
    return {file.path: b"".join(source.read(file)) for file in source.list().files}


def failure(source: ObjectStoreSource) -> ReconcilerError:
    """Return the error of listing and reading everything; it shows no secret and no address."""
    with pytest.raises(ReconcilerError) as caught:
        contents(source)
    text = f"{caught.value} {caught.value.hint}"
    assert SECRET not in text
    assert "127.0.0.1" not in text
    assert "\n" not in text
    assert "hunter2" not in text
    return caught.value


# -- honest servers ------------------------------------------------------------------------------------------


def test_the_objects_below_the_prefix_are_the_files(server: S3Server) -> None:
    source = opened(server)
    listing = source.list()
    assert {file.path: file.size for file in listing.files} == {k: len(v) for k, v in FILES.items()}
    assert [file.digests.md5 for file in listing.files if file.path == "config.json"] == [
        hashlib.md5(b"{}").digest()
    ]
    assert contents(source) == FILES
    assert (listing.source, listing.location, listing.immutable) == ("w:llm/1.0.0/", "llm/1.0.0/", False)
    assert opened(server).list().revision == listing.revision
    server.put("released/llm/1.0.0/config.json", b"[]")
    assert opened(server).list().revision != listing.revision


def test_any_range_is_exact(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "WINDOW", 1_000_000)
    source = opened(server)
    (file,) = (file for file in source.list().files if file.path == "model.safetensors")
    data = FILES[file.path]
    for start, length in (
        (0, 1),
        (1, 2_500_000),
        (999_999, 2),
        (len(data) - 1, 1),
        (len(data), 0),
        (5, None),
    ):
        end = len(data) if length is None else start + length
        assert b"".join(source.read(file, start, length)) == data[start:end]
    with pytest.raises(ValueError):
        list(source.read(file, 0, len(data) + 1))


def test_lists_are_followed_page_by_page(server: S3Server) -> None:
    for number in range(25):
        server.put(f"released/many/{number:03}", b"x")
    server.page = 10
    assert len(opened(server, "many").list().files) == 25
    assert sum(request.is_list for request in server.requests) == 3
    assert sum(request.method == "HEAD" for request in server.requests) == 1


def test_a_bucket_with_versions_keeps_what_was_listed_readable() -> None:
    with s3_server(versioned=True) as server:
        server.put("released/a/x", b"first")
        server.put("released/a/y", b"second")
        source = opened(server, "a")
        listing = source.list()
        assert [file.version_id for file in listing.files] == [
            server.objects[f"released/a/{name}"][0].version for name in "xy"
        ]
        assert listing.immutable
        server.put("released/a/x", b"other")
        assert contents(source) == {"x": b"first", "y": b"second"}


def test_an_etag_of_an_upload_in_parts_is_no_digest(server: S3Server) -> None:
    server.put("released/parts/x", b"data", parts=3)
    (file,) = opened(server, "parts").list().files
    assert file.digests.md5 is None
    assert file.etag.endswith("-3")


def test_an_opaque_etag_is_no_digest(server: S3Server) -> None:
    assert all(file.digests.md5 is None for file in opened(server, etag="opaque").list().files)


def test_markers_of_directories_are_no_files(server: S3Server) -> None:
    for key in ("released/m/", "released/m/sub/", "released/m/sub/x"):
        server.put(key, b"x" if key.endswith("x") else b"")
    assert [file.path for file in opened(server, "m").list().files] == ["sub/x"]


def test_an_empty_location_is_the_whole_prefix(server: S3Server) -> None:
    whole = SourceDefinition("w", SourceKind.OBJECT_STORE, f"s3://{BUCKET}", endpoint=server.url)
    server.public = True
    paths = [f.path for f in open_source(whole, "", root=Path(), environ={}).list().files]
    assert "elsewhere/x" in paths
    assert len(paths) == len(server.objects)


# -- credentials ---------------------------------------------------------------------------------------------


def test_only_the_named_variables_are_used(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAWRONGWRONGWRONG1",
        "AWS_SECRET_ACCESS_KEY": "wrong",
        "AWS_SESSION_TOKEN": "wrong",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT": "http://127.0.0.1:1",
        "AWS_REGION": "wrong-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    assert contents(opened(server)) == FILES
    signed = {request.headers["authorization"].partition("Credential=")[2] for request in server.requests}
    assert all(text.startswith(f"{KEY_ID}/") and "/us-east-1/s3/" in text for text in signed)
    assert not any("x-amz-security-token" in request.headers for request in server.requests)
    server.public, before = True, len(server.requests)
    assert contents(opened(server, key_id_env="", secret_env="")) == FILES
    assert not any("authorization" in request.headers for request in server.requests[before:])


def test_temporary_credentials_have_a_session_token(server: S3Server) -> None:
    environ = ENVIRON | {"SESSION": "token-of-the-session"}
    source = open_source(
        definition(server.url, session_token_env="SESSION"), "llm/1.0.0", root=Path(), environ=environ
    )
    source.list()
    assert {request.headers.get("x-amz-security-token") for request in server.requests} == {
        "token-of-the-session"
    }


def test_a_variable_that_is_not_set_is_an_error_before_any_request(server: S3Server) -> None:
    with pytest.raises(UsageError, match="'SECRET' is not set"):
        open_source(definition(server.url), "x", root=Path(), environ={"KEY_ID": "x"})
    assert server.requests == []


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match="needs the extra `cloud`") as caught:
        open_source(definition("http://127.0.0.1:1"), "x", root=Path(), environ=ENVIRON)
    assert "model-reconciler[cloud]" in (caught.value.hint or "")


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_malformed_secret_is_not_shown(scheme: str) -> None:
    given = SourceDefinition(
        "w", SourceKind.OBJECT_STORE, f"{scheme}://bucket", secret_env="SECRET", account="acme"
    )
    with pytest.raises(UsageError, match="cannot be opened") as caught:
        open_source(given, "x", root=Path(), environ={"SECRET": '{"hunter2": "!"}'})
    assert "hunter2" not in f"{caught.value}{caught.value.hint}{caught.value.__cause__}"
    assert caught.value.hint == "check the form of the secret in SECRET"


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_clouds_open_without_a_connection(scheme: str) -> None:
    given = SourceDefinition("w", SourceKind.OBJECT_STORE, f"{scheme}://bucket/x", account="acme")
    assert open_source(given, "y", root=Path(), environ={}).name == "w:y"


def test_a_refusal_names_the_variables(server: S3Server) -> None:
    environ = ENVIRON | {"KEY_ID": "AKIAWRONGWRONGWRONG1"}
    source = open_source(definition(server.url), "llm/1.0.0", root=Path(), environ=environ)
    error = failure(source)  # type: ignore[arg-type]
    assert isinstance(error, SourceRefusedError)
    assert "403 (InvalidAccessKeyId)" in error.message
    assert error.hint == "the request was made with KEY_ID and SECRET"
    server.fault = always(400)  # as rclone refuses
    assert "KEY_ID" in (failure(opened(server)).hint or "")
    server.fault = lambda request, answer: answer
    anonymous = failure(opened(server, key_id_env="", secret_env=""))
    assert isinstance(anonymous, SourceRefusedError)
    assert "no credential" in (anonymous.hint or "")


# -- servers that fail or lie --------------------------------------------------------------------------------

Fault = Callable[[Request, Answer], Answer]


def is_read(request: Request) -> bool:
    return request.method == "GET" and not request.is_list


def always(status: int, body: bytes = b"") -> Fault:
    return lambda request, answer: Answer(status, body)


def on_read(**fields: object) -> Fault:
    return lambda request, answer: changed(answer, **fields) if is_read(request) else answer


def replaced_list(body: str) -> Fault:
    return lambda request, answer: changed(answer, body=body.encode()) if request.is_list else answer


def listing_of(key: str, size: str = "2") -> str:
    return (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>"
        f"<Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag>"
        f"<Size>{size}</Size></Contents></ListBucketResult>"
    )


def shifted(request: Request, answer: Answer) -> Answer:
    if answer.status != 206:
        return answer
    first, _, rest = answer.headers["Content-Range"].removeprefix("bytes ").partition("-")
    return changed(answer, headers=answer.headers | {"Content-Range": f"bytes {int(first) + 1}-{rest}"})


def other_size(request: Request, answer: Answer) -> Answer:
    if request.method != "HEAD":
        return answer
    return changed(answer, headers=answer.headers | {"Content-Length": str(len(answer.body) + 1)})


def other_etag(request: Request, answer: Answer) -> Answer:
    return changed(answer, headers=answer.headers | {"ETag": '"other"'}) if is_read(request) else answer


def grown(request: Request, answer: Answer) -> Answer:
    if answer.status != 206:
        return answer
    size = int(answer.headers["Content-Range"].rpartition("/")[2])
    given = answer.headers["Content-Range"].rpartition("/")[0]
    return changed(answer, headers=answer.headers | {"Content-Range": f"{given}/{size + 9}"})


def doubled(listing: bytes) -> bytes:
    """Return a list in which the first object comes twice."""
    start, end = listing.index(b"<Contents>"), listing.index(b"</Contents>") + len(b"</Contents>")
    return listing[:end] + listing[start:]


LIES: dict[str, tuple[Fault, type[ReconcilerError], str]] = {
    "server error": (
        always(500, b"<Error><Code>InternalError</Code></Error>"),
        SourceUnavailableError,
        "500",
    ),
    "slow down": (always(503, b"<Error><Code>SlowDown</Code></Error>"), SourceUnavailableError, "SlowDown"),
    "too many requests": (always(429), SourceUnavailableError, "429"),
    "unauthorized": (always(401), SourceRefusedError, "401"),
    "forbidden": (always(403), SourceRefusedError, "403"),
    "no bucket": (
        always(404, b"<Error><Code>NoSuchBucket</Code></Error>"),
        SourceMissingError,
        "NoSuchBucket",
    ),
    "not implemented": (always(501), SourceProtocolError, "501"),
    "teapot": (always(418), SourceProtocolError, "418"),
    "bad request": (
        always(400, b"<Error><Code>UnsupportedAlgorithm</Code></Error>"),
        SourceProtocolError,
        "400",
    ),
    "other region": (always(301), SourceRefusedError, "another region"),
    "no XML": (replaced_list("hunter2 <no xml"), SourceProtocolError, "its protocol does not have"),
    "size is not a number": (
        replaced_list(listing_of("released/llm/1.0.0/x", "many")),
        SourceProtocolError,
        "",
    ),
    "outside of the prefix": (
        replaced_list(listing_of("other/x")),
        SourceProtocolError,
        "outside of the prefix",
    ),
    "traversal": (replaced_list(listing_of("released/llm/1.0.0/../../x")), SourceProtocolError, ""),
    "a key twice": (
        lambda request, answer: changed(answer, body=doubled(answer.body)) if request.is_list else answer,
        SourceProtocolError,
        "listed twice",
    ),
    "key with an empty name": (
        replaced_list(listing_of("released/llm/1.0.0/a//b")),
        SourceProtocolError,
        "lists the key 'released/llm/1.0.0/a//b', which is not a path",
    ),
    "key with a control character": (
        replaced_list(listing_of("released/llm/1.0.0/a&#27;b")),
        SourceProtocolError,
        "lists the key 'released/llm/1.0.0/a b', which is not a path",
    ),
    "key with a NUL": (replaced_list(listing_of("released/llm/1.0.0/a&#0;b")), SourceProtocolError, ""),
    "key that is long": (
        replaced_list(listing_of("released/llm/1.0.0/" + "x" * 1024)),
        SourceProtocolError,
        "longer than 255 bytes",
    ),
    "key that is deep": (
        replaced_list(listing_of("released/llm/1.0.0/" + "d/" * 300 + "x")),
        SourceProtocolError,
        "directories deep",
    ),
    "directory that has bytes": (
        replaced_list(listing_of("released/llm/1.0.0/a/")),
        SourceMissingError,
        "'a' is not in the bucket",
    ),
    "no key": (replaced_list(listing_of("")), SourceProtocolError, "outside of the prefix"),
    "negative size": (replaced_list(listing_of("released/llm/1.0.0/x", "-1")), SourceProtocolError, ""),
    "size with a fraction": (
        replaced_list(listing_of("released/llm/1.0.0/x", "1.5")),
        SourceProtocolError,
        "",
    ),
    "impossible size": (
        replaced_list(listing_of("released/llm/1.0.0/x", str(1 << 62))),
        SourceProtocolError,
        "is listed with",
    ),
    "entity of a file": (
        replaced_list('<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + listing_of("&x;")),
        SourceProtocolError,
        "",
    ),
    "entities that grow": (
        replaced_list('<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>' + listing_of("&b;")),
        SourceProtocolError,
        "",
    ),
    "delete marker": (
        lambda request, answer: (
            Answer(404, b"", {"x-amz-delete-marker": "true"}) if not request.is_list else answer
        ),
        SourceMissingError,
        "is not in the bucket",
    ),
    "empty list": (replaced_list("<ListBucketResult></ListBucketResult>"), SourceMissingError, "no objects"),
    "listed, not there": (
        replaced_list(listing_of("released/llm/1.0.0/ghost")),
        SourceMissingError,
        "is not in the bucket",
    ),
    "other size": (other_size, SourceChangedError, "changed after it was listed"),
    "other object": (other_etag, SourceChangedError, "changed after it was listed"),
    "grown": (grown, SourceChangedError, "changed after it was listed"),
    "another range": (shifted, SourceProtocolError, ""),
    "precondition": (on_read(status=412), SourceChangedError, "changed after it was listed"),
    "shrunk": (on_read(status=416), SourceChangedError, "changed after it was listed"),
    "withdrawn": (on_read(status=404), SourceMissingError, "is not in the bucket"),
    "refused in the middle": (on_read(status=403), SourceRefusedError, "403"),
    "cut off every time": (on_read(sent=0), SourceUnavailableError, ""),
}


@pytest.mark.parametrize(("fault", "kind", "text"), LIES.values(), ids=list(LIES))
def test_a_server_that_fails_or_lies_gives_one_error(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, fault: Fault, kind: type[ReconcilerError], text: str
) -> None:
    monkeypatch.setattr("reconciler.sources.bucket._RETRIES", 1)
    monkeypatch.setattr(object_store, "WINDOW", 1_000_000)  # so that parts are read
    server.fault = fault
    error = failure(opened(server))
    assert isinstance(error, kind)
    assert text in error.message
    assert error.message.startswith("w:llm/1.0.0/: ")


def test_a_redirect_to_another_host_gets_no_credentials(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.sources.bucket._RETRIES", 0)
    with s3_server() as other:
        server.fault = lambda request, answer: (
            Answer(307, b"", {"Location": f"{other.url}/{request.key}"}) if is_read(request) else answer
        )
        error = failure(opened(server))
        assert isinstance(error, SourceError), error
        assert all("authorization" not in request.headers for request in other.requests)


def test_an_unreachable_server_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.sources.bucket._RETRIES", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    source = open_source(definition(url), "x", root=Path(), environ=ENVIRON)
    error = failure(source)  # type: ignore[arg-type]
    assert isinstance(error, SourceUnavailableError)
    assert "cannot be reached" in error.message


def test_a_read_continues_at_the_byte_where_it_broke_off(server: S3Server) -> None:
    broken = Counter[str]()

    def cut(request: Request, answer: Answer) -> Answer:
        if is_read(request) and len(answer.body) > 3_000_000 and not broken[request.key]:
            broken[request.key] += 1
            return changed(answer, sent=2_500_000)
        return answer

    server.fault = cut
    assert contents(opened(server)) == FILES
    assert broken.total() == 1
    starts = [
        r.headers.get("range", "") for r in server.requests if is_read(r) and r.key.endswith("safetensors")
    ]
    assert len(starts) == 2
    assert int(starts[1].removeprefix("bytes=").partition("-")[0]) >= 1_000_000


def test_a_server_that_ignores_ranges_still_gives_exact_bytes(server: S3Server) -> None:
    def whole(request: Request, answer: Answer) -> Answer:
        if answer.status != 206:
            return answer
        return server.answer(replace(request, headers=request.headers | {"range": "bytes=0-"}))

    def ignored(request: Request, answer: Answer) -> Answer:
        if answer.status != 206:
            return answer
        plain = {k: v for k, v in request.headers.items() if k != "range"}
        return server.answer(replace(request, headers=plain))

    server.fault = ignored
    source = opened(server)
    assert contents(source) == FILES
    (file,) = (file for file in source.list().files if file.path == "model.safetensors")
    assert b"".join(source.read(file, 1_234_567, 7)) == FILES[file.path][1_234_567:1_234_574]
    server.fault = whole
    other = opened(server)
    (file,) = (file for file in other.list().files if file.path == "model.safetensors")
    with pytest.raises(SourceProtocolError):
        list(other.read(file, 5, 10))


def taken(span: SourceSpan, size: int) -> bytes:
    memory = bytearray(size)
    done = 0
    while count := span.read_into(memoryview(memory)[done:]):
        done += count
    assert done == size
    span.close()
    return bytes(memory)


def without_ranges(server: S3Server) -> Callable[[], int]:
    """Make the server ignore ranges; return the function that counts the bytes of its answers to reads."""
    sent: list[int] = []

    def ignored(request: Request, answer: Answer) -> Answer:
        if not is_read(request):
            return answer
        plain = {name: value for name, value in request.headers.items() if name != "range"}
        whole = server.answer(replace(request, headers=plain))
        sent.append(len(whole.body))
        return whole

    server.fault = ignored
    return lambda: sum(sent)


@pytest.mark.parametrize("how", ["read", "request"])
def test_a_server_that_ignores_ranges_costs_the_smallest_object_once_more(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(object_store, "WINDOW", 1_000_000)
    cost = without_ranges(server)
    source = opened(server)
    for file in source.list().files:
        if how == "read":
            assert b"".join(source.read(file)) == FILES[file.path]
            continue
        if file.size > 1 and source.serves_ranges is not False:  # as the downloader asks for a first part
            source.request(file, 0, file.size // 2).close()
        span = source.request(file, 0, file.size)
        assert taken(span, file.size) == FILES[file.path]
    assert source.serves_ranges is False or how == "request"
    smallest = min(len(data) for data in FILES.values() if len(data) > 1)
    assert cost() <= sum(map(len, FILES.values())) + smallest


def test_a_server_of_ranges_is_asked_for_one_byte_to_find_that_out(server: S3Server) -> None:
    source = opened(server)
    (file,) = (file for file in source.list().files if file.path == "model.safetensors")
    assert taken(source.request(file, 7, 1000), 993) == FILES[file.path][7:1000]
    asked = [(r.key.rpartition("/")[2], r.headers["range"]) for r in server.requests if is_read(r)]
    assert asked == [("config.json", "bytes=0-0"), ("model.safetensors", "bytes=7-999")]


def test_a_read_repeats_the_question_whether_ranges_are_served(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "WINDOW", 1_000_000)
    failed = Counter[str]()

    def busy_once(request: Request, answer: Answer) -> Answer:
        if request.headers.get("range") == "bytes=0-0" and not failed.total():
            failed[request.key] += 1
            return Answer(503)
        return answer

    server.fault = busy_once
    assert contents(opened(server)) == FILES
    assert failed.total() == 1


def test_whole_objects_are_requested_without_a_range(server: S3Server) -> None:
    source = opened(server)
    assert contents(source) == FILES
    assert not any("range" in r.headers for r in server.requests if is_read(r))
    assert source.serves_ranges is None


def test_other_bytes_under_the_same_etag_do_not_verify(server: S3Server) -> None:
    server.fault = lambda request, answer: (
        changed(answer, body=answer.body[::-1]) if is_read(request) else answer
    )
    source = opened(server)
    (file,) = (file for file in source.list().files if file.path == "model.safetensors")
    verifier = ContentVerifier(source.name, file)
    for piece in source.read(file):
        verifier.update(piece)
    with pytest.raises(SourceMismatchError, match=r"'model.safetensors' does not have its MD5"):
        verifier.finish()


def test_an_endless_list_ends(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "LIMITS", replace(object_store.LIMITS, paths=50))

    def again(request: Request, answer: Answer) -> Answer:
        if not request.is_list:
            return answer
        more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>a</NextContinuationToken>"
        return changed(answer, body=answer.body.replace(b"<IsTruncated>false</IsTruncated>", more))

    server.fault = again
    error = failure(opened(server))
    assert isinstance(error, SourceProtocolError)
    assert "more than 50" in error.message


def test_a_list_of_empty_pages_ends(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.sources.bucket_list.PATIENCE", 0.1)
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>a</NextContinuationToken>"
    server.fault = replaced_list(f"<ListBucketResult>{more}</ListBucketResult>")
    error = failure(opened(server))
    assert isinstance(error, SourceUnavailableError)
    assert "listed no objects for" in error.message


def test_a_list_that_fails_leaves_nothing_open(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Runner(asyncio.Runner):
        def close(self) -> None:
            events.append("closed")
            super().close()

    monkeypatch.setattr(asyncio, "Runner", Runner)
    server.fault = replaced_list(listing_of("elsewhere/x"))
    with pytest.raises(SourceProtocolError, match="outside of the prefix") as outside:
        opened(server).list()
    monkeypatch.setattr(object_store, "LIMITS", replace(object_store.LIMITS, paths=0))
    with pytest.raises(SourceProtocolError, match="more than 0 objects") as many:
        opened(server).list()
    assert events == ["closed"] * 2
    del outside, many  # whose tracebacks keep what was left open


def test_a_list_that_repeats_a_page_ends(server: S3Server) -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>a</NextContinuationToken>"
    entries = "".join(
        listing_of(f"released/llm/1.0.0/{number:04}").partition("</IsTruncated>")[2].partition("</ListB")[0]
        for number in range(1000)
    )
    server.fault = replaced_list(f"<ListBucketResult>{more}{entries}</ListBucketResult>")
    error = failure(opened(server))
    assert isinstance(error, SourceProtocolError)
    assert "repeats a page of its listing" in error.message
    assert len(server.requests) <= 3


def test_a_closed_source_stops_reading(server: S3Server) -> None:
    source = opened(server)
    (file,) = (file for file in source.list().files if file.path == "model.safetensors")
    reading = source.read(file)
    next(reading)
    source.close()
    source.close()
    with pytest.raises(UsageError, match="closed"):
        list(reading)


# -- a real server -------------------------------------------------------------------------------------------


@pytest.mark.rclone
def test_rclone_serves_the_same_files(tmp_path: Path) -> None:
    for path, data in FILES.items():
        file = tmp_path / "buckets" / BUCKET / "released/llm/1.0.0" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    secret = SECRET.replace("/", "")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = shutil.which("rclone") or "rclone"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [program, "serve", "s3", str(tmp_path / "buckets"), "--addr", address]
    with subprocess.Popen(
        [*command, "--auth-key", f"{KEY_ID},{secret}"], env=environ, stderr=subprocess.DEVNULL
    ) as process:
        try:
            host, _, port = address.partition(":")
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with socket.socket() as probe:
                    if probe.connect_ex((host, int(port))) == 0:
                        break
                time.sleep(0.02)
            given = definition(f"http://{address}")
            source = open_source(
                given, "llm/1.0.0/", root=Path(), environ={"KEY_ID": KEY_ID, "SECRET": secret}
            )
            assert contents(source) == FILES  # type: ignore[arg-type]
            (file,) = (file for file in source.list().files if file.path == "model.safetensors")
            assert file.digests.md5 == hashlib.md5(FILES[file.path]).digest()
            assert b"".join(source.read(file, 1_000_001, 9)) == FILES[file.path][1_000_001:1_000_010]
            wrong = open_source(
                given, "llm/1.0.0/", root=Path(), environ={"KEY_ID": KEY_ID, "SECRET": "wrong" * 5}
            )
            error = failure(wrong)  # type: ignore[arg-type]
            assert isinstance(error, SourceRefusedError)
            assert "SignatureDoesNotMatch" in error.message
        finally:
            process.terminate()
