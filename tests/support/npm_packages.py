"""Packages from npm, for tests against other implementations; cached by version for the user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PIECES = (
    "fr32-sha2-256-trunc254-padded-binary-tree-multihash@3.3.0",
    "@web3-storage/data-segment@5.3.0",
)
"""The piece hashers of the clients of Filecoin: one in Rust, as WASM, and one in JavaScript."""

READERS = (
    "ipfs-car@3.1.0",
    "@helia/verified-fetch@3.2.3",
    "@helia/http@2.2.1",
    "@helia/block-brokers@4.2.4",
    "@helia/routers@3.1.3",
)
"""Clients of a trustless gateway: one unpacks CARs, the other fetches and verifies block by block."""


def npm_packages(packages: tuple[str, ...]) -> Path | None:
    """Return a directory with `packages` (name@version) in node_modules; None if npm cannot install them."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "model-reconciler-tests")
    ready = cache / "+".join(package.replace("/", "+") for package in packages)
    if ready.exists():
        return ready
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        (made / "package.json").write_text('{"private": true, "type": "module"}')
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *packages],
            cwd=made,
            capture_output=True,
            timeout=240,
            check=False,
        )
        if done.returncode != 0:
            return None
        if not ready.exists():
            made.rename(ready)
    return ready
