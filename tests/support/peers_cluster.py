"""Real IPFS Cluster peers on loopback, each with its own Kubo daemon, in a temporary directory.

Only one ephemeral UDP socket of libp2p uses a public address: no bootstrap, no mDNS, no DHT. Intervals are
short, so that a lost peer is detected within seconds.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.content.cid import Cid
from tests.support.kubo_node import SMALL_CACHE, KuboNode
from tests.support.waiting import wait_until

START_SECONDS = 60.0
PING = "1s"
METRICS = "2s"  # lifetime of a peer's report of free space; pins are only placed on peers with such a report


def missing_programs() -> str:
    """Return a reason for a skip that names the programs missing on PATH; "" when all are present."""
    names = [name for name in ("ipfs", "ipfs-cluster-service") if shutil.which(name) is None]
    return f"not on PATH: {', '.join(names)}" if names else ""


def free_port() -> int:
    """Return a TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Send one plain request without the code under test; return status and body."""
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def is_pinned(rest: str, root: Cid) -> bool:
    """Return whether all peers of the cluster at `rest` report that they have pinned `root`."""
    status, body = call(f"{rest}/pins/{root}")
    states = {one["status"] for one in json.loads(body)["peer_map"].values()} if status == 200 else set()
    return states == {"pinned"}


@dataclass
class _Daemon:
    """A child process with its log; it is stopped by its own pid only."""

    command: Sequence[str]
    environ: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command), env=dict(self.environ), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


@dataclass
class ClusterPeer:
    """One cluster peer and `node`, the Kubo behind it. `rest` and `psa` are base URLs."""

    name: str
    home: Path
    secret: str
    basic_auth: Mapping[str, str] | None
    bootstrap: str
    rest: str = ""
    psa: str = ""
    swarm: str = ""
    _cluster: _Daemon | None = None

    def __post_init__(self) -> None:
        # Keep the port after a restart, because it is in the configuration of the cluster peer.
        address = f"/ip4/127.0.0.1/tcp/{free_port()}"
        self.node = KuboNode(
            self.home / "kubo", offline=False, config={"Addresses.API": address, **SMALL_CACHE}
        )

    @property
    def headers(self) -> dict[str, str]:
        """Headers for requests that bypass the code under test."""
        if not self.basic_auth:
            return {}
        secret = ":".join(next(iter(self.basic_auth.items())))
        return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}

    def start(self) -> None:
        """Initialise the peer if it is new, start both daemons, and wait until both respond."""
        self.node.start()
        self.start_cluster()

    def start_cluster(self) -> None:
        path = self.home / "cluster"
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "IPFS_CLUSTER_PATH": str(path)}
        if not path.exists():
            _run(["ipfs-cluster-service", "init", "--consensus", "crdt"], environ)
            self._configure(path / "service.json")
        command = ["ipfs-cluster-service", "daemon"]
        if self.bootstrap:
            command += ["--bootstrap", self.bootstrap]
        self._cluster = _Daemon(command, environ, self.home / "cluster.log")
        self._cluster.start()
        wait_until(f"cluster {self.name}", lambda: self._answers(self._cluster, f"{self.rest}/health", "GET"))
        peer_id = json.loads((path / "identity.json").read_text())["id"]
        self.swarm = f"{self._listen}/p2p/{peer_id}"

    def stop_cluster(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._cluster is not None:
            self._cluster.stop(how)

    def stop(self) -> None:
        self.stop_cluster(signal.SIGKILL)
        self.node.stop(signal.SIGKILL)

    def _configure(self, file: Path) -> None:
        config = json.loads(file.read_text())
        rest, psa, proxy, swarm = (free_port() for _ in range(4))
        node = f"/ip4/127.0.0.1/tcp/{self.node.port}"
        config["cluster"] |= {
            "peername": self.name,
            "secret": self.secret,
            "listen_multiaddress": [f"/ip4/127.0.0.1/tcp/{swarm}"],
            "mdns_interval": "0s",
            "monitor_ping_interval": PING,
            "peer_watch_interval": PING,
        }
        config["api"]["restapi"] |= {
            "http_listen_multiaddress": f"/ip4/127.0.0.1/tcp/{rest}",
            "basic_auth_credentials": self.basic_auth,
        }
        config["api"]["pinsvcapi"] |= {
            "http_listen_multiaddress": f"/ip4/127.0.0.1/tcp/{psa}",
            "basic_auth_credentials": self.basic_auth,
        }
        config["api"]["ipfsproxy"] |= {
            "listen_multiaddress": f"/ip4/127.0.0.1/tcp/{proxy}",
            "node_multiaddress": node,
        }
        config["ipfs_connector"]["ipfshttp"] |= {"node_multiaddress": node, "connect_swarms_delay": PING}
        config["monitor"]["pubsubmon"]["check_interval"] = PING
        for informer in config["informer"].values():
            informer["metric_ttl"] = METRICS
        file.write_text(json.dumps(config))
        self.rest, self.psa = f"http://127.0.0.1:{rest}", f"http://127.0.0.1:{psa}"
        self._listen = f"/ip4/127.0.0.1/tcp/{swarm}"

    def _answers(self, daemon: _Daemon | None, url: str, method: str) -> bool:
        if daemon is None or not daemon.alive():
            log = daemon.log.read_text(errors="replace")[-2000:] if daemon else ""
            raise AssertionError(f"{self.name} ended while starting:\n{log}")
        try:
            return call(url, method=method)[0] < 300
        except OSError:
            return False


def _run(command: Sequence[str], environ: Mapping[str, str]) -> None:
    done = subprocess.run(list(command), env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr[-2000:]}")


@contextmanager
def cluster(
    home: Path, peers: int = 1, *, basic_auth: Mapping[str, str] | None = None
) -> Iterator[list[ClusterPeer]]:
    """Run a cluster of `peers` connected peers; stop all processes at the end."""
    secret = secrets.token_hex(32)
    running: list[ClusterPeer] = []
    try:
        for number in range(1, peers + 1):
            bootstrap = running[0].swarm if running else ""
            peer = ClusterPeer(f"peer{number}", home / f"peer{number}", secret, basic_auth, bootstrap)
            peer.home.mkdir(parents=True)
            running.append(peer)
            peer.start()
        wait_until("the peers to know one another", lambda: all(_knows(peer, peers) for peer in running))
        _connect(running)
        yield running
    finally:
        for peer in running:
            peer.stop()


def _connect(running: Sequence[ClusterPeer]) -> None:
    """Connect every Kubo to every other; in production they connect by themselves within a minute or two."""
    for peer in running:
        addresses = json.loads(peer.node.run("id"))["Addresses"]
        for other in running:
            if other is not peer:
                other.node.run("swarm", "connect", addresses[0])


def _knows(peer: ClusterPeer, peers: int) -> bool:
    """Return whether it sees all peers, and has the metrics that pin allocation requires."""
    for path, wanted in (("peers", peers), ("monitor/metrics/freespace", 1)):
        status, body = call(f"{peer.rest}/{path}", headers=peer.headers)
        if status != 200 or len(body.splitlines()) != wanted:
            return False
    return len(json.loads(body)) == peers
