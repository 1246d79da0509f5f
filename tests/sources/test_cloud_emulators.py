"""The conformance suite of sources for other servers: moto for S3, Azurite, and fake-gcs-server."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import json
import os
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
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
ACCOUNT, KEY_ID = "acme", "AKIDEXAMPLEACMEMODELS"
KEY = base64.b64encode(b"a key of the tests, 32 bytes lon").decode()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def send(method: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> None:
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    urllib.request.urlopen(request, timeout=30).close()


class Service:
    """A service of a test class; it is started again after a test that ended it."""

    def __init__(self, home: Path, command: Callable[[int], list[str]]) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = command(self.port)
        self._process: subprocess.Popen[bytes] | None = None
        self._buckets = 0

    def new_bucket(self) -> str:
        """Return a name that no test has used, of a running service."""
        self._start()
        self._buckets += 1
        return f"weights-{self._buckets}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        self._process = subprocess.Popen(
            self._command, cwd=self.home, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "the service ended"
            time.sleep(0.05)


class EmulatorSubject:
    """A bucket that `store` writes, and that a source of `definition` reads."""

    def __init__(self, definition: SourceDefinition, store: object, service: Service) -> None:
        self.definition = definition
        self.store = store
        self.service = service
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
        self.service.stop()


class EmulatorSuite(BucketSuite):
    secret: ClassVar = KEY
    immutable: ClassVar = False

    @staticmethod
    def command(port: int) -> list[str]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def service(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
        found = Service(tmp_path_factory.mktemp("service"), cls.command)
        yield found
        found.stop()


@pytest.mark.moto
@pytest.mark.slow
class TestMoto(EmulatorSuite):
    @staticmethod
    def command(port: int) -> list[str]:
        return ["moto_server", "-H", "127.0.0.1", "-p", str(port)]

    @pytest.fixture
    def subject(self, service: Service) -> EmulatorSubject:
        bucket = service.new_bucket()
        store = obstore.store.S3Store(
            bucket,
            endpoint=service.url,
            region="us-east-1",
            access_key_id=KEY_ID,
            secret_access_key=KEY,
            client_options={"allow_http": True},
        )
        send("PUT", f"{service.url}/{bucket}")
        definition = SourceDefinition(
            "w",
            SourceKind.OBJECT_STORE,
            f"s3://{bucket}/released",
            endpoint=service.url,
            key_id_env="KEY_ID",
            secret_env="SECRET",
        )
        return EmulatorSubject(definition, store, service)


@pytest.mark.azurite
@pytest.mark.slow
class TestAzurite(EmulatorSuite):
    states_digests: ClassVar = False

    @staticmethod
    def command(port: int) -> list[str]:
        return ["azurite-blob", "--blobPort", str(port), "--skipApiVersionCheck", "--silent"]

    @pytest.fixture
    def subject(self, service: Service) -> EmulatorSubject:
        container, url = service.new_bucket(), f"{service.url}/{ACCOUNT}"
        make_container(url, container)
        store = obstore.store.AzureStore(
            container,
            account_name=ACCOUNT,
            account_key=KEY,
            endpoint=url,
            client_options={"allow_http": True},
        )
        definition = SourceDefinition(
            "w",
            SourceKind.OBJECT_STORE,
            f"az://{container}/released",
            endpoint=url,
            account=ACCOUNT,
            secret_env="SECRET",
        )
        return EmulatorSubject(definition, store, service)


def make_container(url: str, name: str) -> None:
    """Create a container with a request that is signed as "Authorize with Shared Key" describes it."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    canonical = "".join(f"{header}:{value}\n" for header, value in headers.items())
    resource = f"/{ACCOUNT}{urllib.parse.urlsplit(url).path}/{name}\nrestype:container"
    text = "PUT" + "\n" * 12 + canonical + resource
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    send("PUT", f"{url}/{name}?restype=container", headers=headers)


class GoogleSubject(EmulatorSubject):
    """A bucket of the emulator, which checks no credential, and whose JSON API writes objects."""

    def put(self, path: str, data: bytes) -> None:
        bucket = self.definition.url.split("/")[2]
        name = urllib.parse.quote(f"{PREFIX}/{path}", safe="")
        send("POST", f"{self.service.url}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", data)


@pytest.mark.fake_gcs_server
@pytest.mark.slow
class TestGoogle(EmulatorSuite):
    immutable: ClassVar = True  # every object has a generation
    states_digests: ClassVar = False

    @staticmethod
    def command(port: int) -> list[str]:
        address = ["-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
        return ["fake-gcs-server", "-backend", "memory", "-scheme", "http", *address]

    @pytest.fixture
    def subject(self, service: Service) -> GoogleSubject:
        bucket = service.new_bucket()
        made = json.dumps({"name": bucket}).encode()
        send("POST", f"{service.url}/storage/v1/b?project=test", made)
        definition = SourceDefinition(
            "w", SourceKind.OBJECT_STORE, f"gs://{bucket}/released", endpoint=service.url
        )
        return GoogleSubject(definition, None, service)
