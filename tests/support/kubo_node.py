"""A real Kubo daemon on loopback, in a temporary directory, with access to its block files.

It does not bootstrap, announce or look up anything: no mDNS, no peers, no telemetry; offline by default.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.content.cid import Cid

_START_SECONDS = 60.0

#: a cache of present blocks that is displaced in 2,048 look-ups, where the default takes 130,000
SMALL_CACHE = {"Datastore.BlockKeyCacheSize": 1024}
SMALL_CACHE_ATTEMPT = (128, 16)


@dataclass
class KuboNode:
    """One daemon. `home` contains its repository; `url` is the address of its RPC API while it runs."""

    home: Path
    offline: bool = True
    config: Mapping[str, object] = field(default_factory=dict)
    bearer: str = ""
    url: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def gateway(self) -> str:
        """The address of its gateway, from the file that it writes when it listens."""
        deadline = time.monotonic() + _START_SECONDS
        while not (self.repo / "gateway").exists():
            assert time.monotonic() < deadline, "no gateway"
            time.sleep(0.02)
        return (self.repo / "gateway").read_text().strip()

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "IPFS_PATH": str(self.repo),
            "IPFS_TELEMETRY": "off",
        }

    def run(self, *arguments: str) -> str:
        """Run `ipfs …` with this repository; return the output."""
        done = subprocess.run(
            ["ipfs", *arguments], env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"ipfs {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def start(self, *flags: str) -> None:
        """Create the repository if necessary, start the daemon, and wait until it responds."""
        if not self.repo.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            self.run("init", "--profile", "test,unixfs-v1-2025")
            for key, value in {"Routing.Type": "none", **self.config}.items():
                self.run("config", "--json", key, json.dumps(value))
        (self.repo / "api").unlink(missing_ok=True)
        (self.repo / "gateway").unlink(missing_ok=True)
        command = ["ipfs", "daemon", *(["--offline"] if self.offline else []), *flags]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self.environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            assert self._process.poll() is None, (self.home / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Kubo did not start in time"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def call(self, command: str) -> tuple[int, bytes]:
        """Call an RPC such as `pin/ls?type=recursive` without the code under test; return status and body."""
        headers = {"Authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        request = urllib.request.Request(f"{self.url}/api/v0/{command}", method="POST", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def pins(self) -> dict[str, str]:
        """Return the names of recursive pins by CID."""
        _, body = self.call("pin/ls?type=recursive&names=true")
        return {cid: pin["Name"] for cid, pin in json.loads(body).get("Keys", {}).items()}

    def empty(self) -> None:
        """Remove all pins and collect all garbage."""
        for cid in self.pins():
            self.call(f"pin/rm?arg={cid}")
        self.call("repo/gc")

    def block_file(self, cid: Cid) -> Path:
        """Return the path of a block in flatfs.

        The name is the multihash in base32, sharded by the two characters before the last one.
        """
        key = base64.b32encode(b"\x12\x20" + cid.digest).decode().rstrip("=")
        return self.repo / "blocks" / key[-3:-1] / f"{key}.data"

    def blocks(self) -> set[str]:
        """Return the names of all block files."""
        return {path.name for path in (self.repo / "blocks").glob("*/*.data")}

    def _ready(self) -> bool:
        try:
            address = (self.repo / "api").read_text().strip()
            self.url = f"http://127.0.0.1:{address.rsplit('/', 1)[1]}"
            return self.call("version")[0] == 200
        except (OSError, IndexError):
            return False


@contextmanager
def kubo_node(
    home: Path, *, offline: bool = True, config: Mapping[str, object] | None = None
) -> Iterator[KuboNode]:
    """Run a node while the block runs."""
    node = KuboNode(home, offline, config or {})
    try:
        node.start()
        yield node
    finally:
        node.stop(signal.SIGKILL)
