"""The conformance suite of sources for other servers: moto for S3, Azurite, and fake-gcs-server."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import os
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("obstore")

import obstore

from reconciler.sources.interface import SourceDefinition, SourceKind, WeightSource
from reconciler.sources.open import open_source
from tests.conformance.sources import FILES
from tests.sources.test_object_store_conformance import BucketSuite

PREFIX = "released/llm/1.0.0"
ACCOUNT, BUCKET, KEY_ID = "acme", "weights", "AKIDEXAMPLEACMEMODELS"
KEY = base64.b64encode(b"a key of the tests, 32 bytes lon").decode()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def service(port: int, *command: str, environ: Mapping[str, str], home: Path) -> Iterator[subprocess.Popen]:
    """Run a service until the block ends, from when it listens."""
    with subprocess.Popen(
        command, cwd=home, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


class EmulatorSubject:
    """A bucket that `store` writes, and that a source of `definition` reads."""

    def __init__(self, definition: SourceDefinition, store: object, process: subprocess.Popen) -> None:
        self.definition = definition
        self.store = store
        self.process = process
        for path, data in FILES.items():
            self.put(path, data)

    def open(self, location: str = "llm/1.0.0/") -> WeightSource:
        environ = {"KEY_ID": KEY_ID, "SECRET": KEY}
        return open_source(self.definition, location, root=Path(), environ=environ)

    def open_missing(self) -> WeightSource:
        return self.open("absent/")

    def put(self, path: str, data: bytes) -> None:
        obstore.put(self.store, f"{PREFIX}/{path}", data)

    def make_unreachable(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}


class EmulatorSuite(BucketSuite):
    secret: ClassVar = KEY
    immutable: ClassVar = False


@pytest.mark.moto
@pytest.mark.slow
class TestMoto(EmulatorSuite):
    @pytest.fixture
    def subject(self, tmp_path: Path, environ: dict[str, str]) -> Iterator[EmulatorSubject]:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with service(
            port, "moto_server", "-H", "127.0.0.1", "-p", str(port), environ=environ, home=tmp_path
        ) as run:
            store = obstore.store.S3Store(
                BUCKET,
                endpoint=url,
                region="us-east-1",
                access_key_id=KEY_ID,
                secret_access_key=KEY,
                client_options={"allow_http": True},
            )
            urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
            definition = SourceDefinition(
                "w",
                SourceKind.OBJECT_STORE,
                f"s3://{BUCKET}/released",
                endpoint=url,
                key_id_env="KEY_ID",
                secret_env="SECRET",
            )
            yield EmulatorSubject(definition, store, run)


@pytest.mark.azurite
@pytest.mark.slow
class TestAzurite(EmulatorSuite):
    states_digests: ClassVar = False

    @pytest.fixture
    def subject(self, tmp_path: Path, environ: dict[str, str]) -> Iterator[EmulatorSubject]:
        port = free_port()
        url = f"http://127.0.0.1:{port}/{ACCOUNT}"
        options = ["--location", str(tmp_path), "--blobPort", str(port), "--skipApiVersionCheck", "--silent"]
        with service(port, "azurite-blob", *options, environ=environ, home=tmp_path) as run:
            make_container(url)
            store = obstore.store.AzureStore(
                BUCKET,
                account_name=ACCOUNT,
                account_key=KEY,
                endpoint=url,
                client_options={"allow_http": True},
            )
            definition = SourceDefinition(
                "w",
                SourceKind.OBJECT_STORE,
                f"az://{BUCKET}/released",
                endpoint=url,
                account=ACCOUNT,
                secret_env="SECRET",
            )
            yield EmulatorSubject(definition, store, run)


def make_container(url: str) -> None:
    """Create the container with a request that is signed as "Authorize with Shared Key" describes it."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    canonical = "".join(f"{name}:{value}\n" for name, value in headers.items())
    resource = f"/{ACCOUNT}{urllib.parse.urlsplit(url).path}/{BUCKET}\nrestype:container"
    text = "PUT" + "\n" * 12 + canonical + resource
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(f"{url}/{BUCKET}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request).close()


class GoogleSubject(EmulatorSubject):
    """A bucket of the emulator, which checks no credential, and whose JSON API writes objects."""

    def put(self, path: str, data: bytes) -> None:
        name = urllib.parse.quote(f"{PREFIX}/{path}", safe="")
        url = f"{self.definition.endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
        urllib.request.urlopen(urllib.request.Request(url, data=data, method="POST")).close()


@pytest.mark.fake_gcs_server
@pytest.mark.slow
class TestGoogle(EmulatorSuite):
    immutable: ClassVar = True  # every object has a generation
    states_digests: ClassVar = False

    @pytest.fixture
    def subject(self, tmp_path: Path, environ: dict[str, str]) -> Iterator[EmulatorSubject]:
        port = free_port()
        (tmp_path / "buckets" / BUCKET).mkdir(parents=True)
        options = ["-backend", "memory", "-data", str(tmp_path / "buckets"), "-scheme", "http"]
        options += ["-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
        with service(port, "fake-gcs-server", *options, environ=environ, home=tmp_path) as run:
            definition = SourceDefinition(
                "w",
                SourceKind.OBJECT_STORE,
                f"gs://{BUCKET}/released",
                endpoint=f"http://127.0.0.1:{port}",
            )
            yield GoogleSubject(definition, None, run)
