"""Object stores pass the suite of all sources."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("obstore")

from reconciler.sources.interface import SourceDefinition, SourceKind
from reconciler.sources.open import open_source
from tests.conformance.sources import FILES, SourceSuite
from tests.support.s3_server import BUCKET, KEY_ID, SECRET, Answer, S3Server, s3_server


class BucketSubject:
    def __init__(self, server: S3Server) -> None:
        self.server = server
        for path, data in FILES.items():
            self.put(path, data)

    def open(self, location: str = "llm/1.0.0/"):
        definition = SourceDefinition(
            "bucket",
            SourceKind.OBJECT_STORE,
            url=f"s3://{BUCKET}/released",
            endpoint=self.server.url,
            key_id_env="KEY_ID",
            secret_env="SECRET",
        )
        environ = {"KEY_ID": KEY_ID, "SECRET": SECRET}
        source = open_source(definition, location, root=Path(), environ=environ)
        source._sleep = lambda seconds: None
        return source

    def open_missing(self):
        return self.open("llm/absent/")

    def put(self, path: str, data: bytes) -> None:
        self.server.put(f"released/llm/1.0.0/{path}", data)

    def make_unreachable(self) -> None:
        self.server.fault = lambda request, answer: Answer(503)


class TestObjectStore(SourceSuite):
    immutable: ClassVar = False
    secret: ClassVar = SECRET

    @pytest.fixture
    def subject(self):
        with s3_server() as server:
            yield BucketSubject(server)
