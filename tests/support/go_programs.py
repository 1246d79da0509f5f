"""Programs in Go, for tests against other implementations; built on first use and cached for the user."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def go_program(name: str) -> Path | None:
    """Return the program in `tests/support/<name>`; None when it cannot be built, as without its modules."""
    sources = sorted(HERE.joinpath(name).iterdir())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "model-reconciler-tests")
    ready = cache / f"{name}-{digest}"
    if ready.exists():
        return ready
    if shutil.which("go") is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch, name)
        done = subprocess.run(
            ["go", "build", "-mod=readonly", "-o", made, "."],
            cwd=HERE / name,
            capture_output=True,
            timeout=240,
            check=False,
        )
        if done.returncode != 0:
            return None
        made.rename(ready)
    return ready
