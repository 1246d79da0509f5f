"""The requirements on every door, as a library.

A test of a door subclasses `DoorSuite` and provides a `client` fixture: requests of its protocol over plain
HTTP. The tests of a door with real clients are in `tests/gateway/doors`.
"""

from __future__ import annotations

from typing import Protocol

import pytest

from tests.support.doors import BIG, FILES, DoorServer, Listing, sha256
from tests.support.gateway import Got

GENERATED = {"SHA256SUMS", "manifest.json"}
HIDDEN = ("1.3.0",)  # yanked
TRAVERSALS = (
    "../config.json",
    "notes/../config.json",
    "notes/%2e%2e/config.json",
    "notes%2F..%2Fconfig.json",
    "notes%2fdeep%2fer%2fx.txt",
    "..%5cconfig.json",
    "%252e%252e/config.json",
    "config.json%00",
    "config.json/",
    "/config.json",
    "notes//deep/er/x.txt",
    ".",
    "notes",
    "%ff",
)


class DoorClient(Protocol):
    """Requests of one protocol. Names of files are percent-encoded by the caller in `raw`."""

    server: DoorServer

    def listing(self, model: str, revision: str) -> Listing:
        """Return the files that the door lists for a revision."""
        ...

    def revisions(self, model: str) -> set[str]:
        """Return the revisions that the door lists."""
        ...

    def fetch(self, model: str, revision: str, path: str, method: str = "GET", **headers: str) -> Got:
        """Request one file."""
        ...

    def raw(self, model: str, revision: str, quoted: str) -> Got:
        """Request a path, or a digest, as it is."""
        ...


class DoorSuite:
    """Every door passes these tests."""

    def test_every_file_is_listed_with_its_size_and_sha256(self, client: DoorClient) -> None:
        listed = client.listing(BIG, "1.2.0")
        assert set(listed) == set(FILES) | GENERATED
        for path, data in FILES.items():
            assert (listed[path].size, listed[path].sha256) == (len(data), sha256(data))
        for path in GENERATED:
            body = client.fetch(BIG, "1.2.0", path).body
            assert (listed[path].size, listed[path].sha256) == (len(body), sha256(body))

    def test_every_file_is_sent_whole(self, client: DoorClient) -> None:
        for path, data in FILES.items():
            got = client.fetch(BIG, "1.2.0", path)
            assert (got.status, got.body) == (200, data), path
            assert got.headers["etag"] == f'"{sha256(data)}"'
            assert got.headers["content-length"] == str(len(data))

    def test_ranges_are_sent_exactly(self, client: DoorClient) -> None:
        data = FILES["model.safetensors"]
        for text, start, stop in (
            ("0-0", 0, 1),
            ("1048575-1048576", 1048575, 1048577),
            ("-5", len(data) - 5, len(data)),
            ("2999999-", 2999999, len(data)),
            (f"5-{10 * len(data)}", 5, len(data)),
        ):
            got = client.fetch(BIG, "1.2.0", "model.safetensors", Range=f"bytes={text}")
            assert (got.status, got.body) == (206, data[start:stop]), text
        got = client.fetch(BIG, "1.2.0", "model.safetensors", Range=f"bytes={len(data)}-")
        assert got.status == 416
        many = ",".join(f"{n}-{n}" for n in range(0, 4000, 2))
        got = client.fetch(BIG, "1.2.0", "model.safetensors", Range=f"bytes={many}")
        assert (got.status, got.body) == (200, data), "a long list of ranges is ignored"

    def test_head_has_the_headers_of_get(self, client: DoorClient) -> None:
        for path in ("model.safetensors", "config.json", "empty.bin"):
            get = client.fetch(BIG, "1.2.0", path)
            head = client.fetch(BIG, "1.2.0", path, method="HEAD")
            assert (head.status, head.body) == (200, b"")
            ignored = ("date", "location")
            assert {k: v for k, v in head.headers.items() if k not in ignored} == {
                k: v for k, v in get.headers.items() if k not in ignored
            }

    @pytest.mark.parametrize(
        ("revision", "version"),
        [
            ("1.2.0", "1.2.0"),
            ("v1.0.0", "1.0.0"),
            ("stable", "1.1.0"),
            ("main", "1.2.0"),
            ("latest", "1.2.0"),
            ("1.0", "1.0.0"),
            ("1.x", "1.2.0"),
            ("1.3.0", "1.3.0"),
        ],
    )
    def test_a_revision_is_a_version_a_channel_or_a_range(
        self, client: DoorClient, revision: str, version: str
    ) -> None:
        wanted = (client.server.releases.source(f"{BIG}@{version}") / "config.json").read_bytes()
        assert client.listing(BIG, revision)["config.json"].sha256 == sha256(wanted)

    def test_a_yanked_version_is_not_listed(self, client: DoorClient) -> None:
        listed = client.revisions(BIG)
        assert {"1.0.0", "1.1.0", "1.2.0"} <= listed
        assert not listed & set(HIDDEN)

    def test_names_are_found_in_any_case(self, client: DoorClient) -> None:
        assert client.listing(BIG.lower(), "1.2.0") == client.listing(BIG, "1.2.0")

    @pytest.mark.parametrize(
        ("model", "revision"),
        [
            ("acme/none", "1.0.0"),
            ("none", "main"),
            (BIG, "9.9.9"),
            (BIG, "unknown"),
            (BIG, "0" * 40),
            (BIG, "1.2.0%2F..%2F1.0.0"),
            ("plain", "0.9.0"),
            ("a" * 2000, "main"),
        ],
    )
    def test_what_is_not_here_is_a_404(self, client: DoorClient, model: str, revision: str) -> None:
        got = client.fetch(model, revision, "config.json")
        assert got.status == 404, got
        assert b"Traceback" not in got.body

    @pytest.mark.parametrize("quoted", TRAVERSALS)
    def test_no_path_leads_anywhere_else(self, client: DoorClient, quoted: str) -> None:
        got = client.raw(BIG, "1.2.0", quoted)
        assert got.status in (400, 404), got
        assert all(data not in got.body for data in FILES.values() if data)

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
    def test_nothing_can_be_written(self, client: DoorClient, method: str) -> None:
        assert client.fetch(BIG, "1.2.0", "config.json", method=method).status == 405
