"""A real Storacha service on loopback: its published packages, connected by storacha/service.mjs.

The packages are installed once for each version, into the cache of the user. The service keeps all its data
in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).with_name("storacha")

#: the abilities that `up` and the reads of the reconciler need
CAN = ("space/blob/add", "space/index/add", "filecoin/offer", "upload/add", "upload/list", "filecoin/info")
READS = ("upload/list", "filecoin/info")

_INSTALL_SECONDS = 300
_START_SECONDS = 60


@dataclass(frozen=True)
class Delegation:
    """A proof for the client of the service's agent, and the headers of the bridge when it has a secret."""

    proof: str
    secret: str
    authorization: str


@dataclass(frozen=True)
class StorachaService:
    """The address, the one space, and the executable of the client. `environ` is for that client."""

    url: str
    space: str
    agent: str
    environ: Mapping[str, str]
    cli: Path
    process: subprocess.Popen[bytes]

    @property
    def did(self) -> str:
        return self.environ["STORACHA_SERVICE_DID"]

    @property
    def principal(self) -> str:
        return self.environ["STORACHA_PRINCIPAL"]

    @property
    def proof(self) -> str:
        return self.environ["STORACHA_PROOF"]

    def ask(self, path: str, body: object = None) -> Any:
        """Control the service through paths that clients do not use, such as `_state` or `_writes`."""
        data = None if path == "_state" else json.dumps(body or {}).encode()
        with urllib.request.urlopen(f"{self.url}/{path}", data, timeout=60) as answer:
            return json.load(answer)

    def delegate(self, can: tuple[str, ...] = CAN, **terms: object) -> Delegation:
        """Return a delegation of the space; `_delegate` in service.mjs documents the terms."""
        made = self.ask("_delegate", {"can": can, **terms})
        return Delegation(made["proof"], made.get("secret", ""), made["authorization"])

    def stop(self) -> None:
        """Stop the service; its data is lost."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def blob(self, car: object) -> bytes:
        """Return the bytes of a stored CAR."""
        with urllib.request.urlopen(f"{self.url}/blob/{car}", timeout=60) as answer:
            return bytes(answer.read())


def packages() -> Path | None:
    """Return a directory with the service and its packages; None when npm cannot install them."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "model-reconciler-tests")
    pins, program = (SOURCES / "package.json").read_bytes(), (SOURCES / "service.mjs").read_bytes()
    ready = cache / f"storacha-{hashlib.sha256(pins).hexdigest()[:16]}"
    if not ready.exists() and not _install(cache, pins, ready):
        return None
    service = ready / f"service-{hashlib.sha256(program).hexdigest()[:16]}.mjs"
    if not service.exists():
        half = service.with_suffix(f".{os.getpid()}")
        half.write_bytes(program)
        half.rename(service)
    return ready


def _install(cache: Path, pins: bytes, ready: Path) -> bool:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        (made / "package.json").write_bytes(pins)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(
                command, cwd=made, capture_output=True, timeout=_INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode != 0:
            return False
        if not ready.exists():
            made.rename(ready)
    return True


@contextmanager
def storacha_service(installed: Path, scratch: Path, *, uplink: int = 0) -> Iterator[StorachaService]:
    """Run a new service from the packages in `installed`; all its files are below `scratch`.

    Each connection to its storage carries `uplink` bytes per second; 0: as many as it can.
    """
    program = (SOURCES / "service.mjs").read_bytes()
    service = installed / f"service-{hashlib.sha256(program).hexdigest()[:16]}.mjs"
    ready, log = scratch / "ready.json", scratch / "service.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["node", str(service), "--out", str(ready), "--uplink", str(uplink)],
            cwd=installed,
            env={"PATH": os.environ["PATH"], "HOME": str(scratch), "TMPDIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while (told := _read(ready)) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        cli = installed / "node_modules/.bin/storacha"
        yield StorachaService(told["url"], told["space"], told["agent"], told["env"], cli, process)
    finally:
        process.kill()
        process.wait()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
