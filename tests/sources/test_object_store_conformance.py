"""The conformance suite of sources for buckets: a server of ours, with and without versions, and rclone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("obstore")

from reconciler.sources.interface import SourceDefinition, SourceKind, WeightSource
from reconciler.sources.open import open_source
from tests.conformance.sources import FILES, SourceSuite
from tests.support.s3_server import BUCKET, KEY_ID, SECRET, Answer, S3Server, s3_server

PREFIX = "released/llm/1.0.0"


def open_bucket(url: str, secret: str, location: str = "llm/1.0.0/") -> WeightSource:
    definition = SourceDefinition(
        "w",
        SourceKind.OBJECT_STORE,
        f"s3://{BUCKET}/released",
        endpoint=url,
        key_id_env="KEY_ID",
        secret_env="SECRET",
    )
    return open_source(definition, location, root=Path(), environ={"KEY_ID": KEY_ID, "SECRET": secret})


class BucketSubject:
    def __init__(self, server: S3Server) -> None:
        self.server = server
        for path, data in FILES.items():
            self.put(path, data)

    def open(self) -> WeightSource:
        return open_bucket(self.server.url, SECRET)

    def open_missing(self) -> WeightSource:
        return open_bucket(self.server.url, SECRET, "absent/")

    def put(self, path: str, data: bytes) -> None:
        self.server.put(f"{PREFIX}/{path}", data)

    def make_unreachable(self) -> None:
        self.server.fault = lambda request, answer: Answer(503)


class BucketSuite(SourceSuite):
    secret: ClassVar = SECRET

    @pytest.fixture(autouse=True)
    def few_retries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reconciler.sources.bucket._RETRIES", 0)


class TestBucketWithoutVersions(BucketSuite):
    immutable: ClassVar = False

    @pytest.fixture
    def subject(self) -> Iterator[BucketSubject]:
        with s3_server() as server:
            yield BucketSubject(server)


class TestBucketWithVersions(BucketSuite):
    @pytest.fixture
    def subject(self) -> Iterator[BucketSubject]:
        with s3_server(versioned=True) as server:
            yield BucketSubject(server)


class RcloneSubject:
    """The buckets are directories below `root`, which the process serves."""

    secret: ClassVar = SECRET.replace("/", "")

    def __init__(self, root: Path, url: str, process: subprocess.Popen[bytes]) -> None:
        self.root = root
        self.url = url
        self.process = process
        for path, data in FILES.items():
            self.put(path, data)

    def open(self) -> WeightSource:
        return open_bucket(self.url, self.secret)

    def open_missing(self) -> WeightSource:
        return open_bucket(self.url, self.secret, "absent/")

    def put(self, path: str, data: bytes) -> None:
        file = self.root / BUCKET / PREFIX / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def make_unreachable(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def rclone_server(directory: Path) -> Iterator[RcloneSubject]:
    """Serve `directory`/buckets by `rclone serve s3`."""
    buckets = directory / "buckets"
    (buckets / BUCKET).mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = shutil.which("rclone") or "rclone"
    options = ["--dir-cache-time", "1ms", "--addr", f"127.0.0.1:{port}"]
    environ = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    with subprocess.Popen(
        [program, "serve", "s3", buckets, *options, "--auth-key", f"{KEY_ID},{RcloneSubject.secret}"],
        env=environ,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield RcloneSubject(buckets, f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()


@pytest.mark.rclone
class TestRclone(BucketSuite):
    immutable: ClassVar = False
    secret: ClassVar = RcloneSubject.secret

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[RcloneSubject]:
        with rclone_server(tmp_path) as subject:
            yield subject
