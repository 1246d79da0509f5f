"""A chain of one's own: anvil, started for a test and stopped after it."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

CHAIN_ID = 31337
KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"  # of anvil
SENDER = "0x90f79bf6eb2c4f870365e785982e1f101e93b906"


@contextmanager
def anvil_node() -> Iterator[str]:
    """Yield the JSON-RPC address of a new chain."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["anvil", "--silent", "--port", str(port), "--chain-id", str(CHAIN_ID)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        for _ in range(200):
            try:
                body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
                request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
                urllib.request.urlopen(request, timeout=5).close()
                break
            except OSError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()
