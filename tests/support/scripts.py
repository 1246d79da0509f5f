"""Runs the scripts that make committed files, in their checking mode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def check(script: Path) -> tuple[int, str]:
    """Run `script --check`; its exit code and what it wrote to standard error."""
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr
