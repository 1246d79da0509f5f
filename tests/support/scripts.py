"""Run the scripts that generate committed files, with --check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def check(script: Path) -> tuple[int, str]:
    """Run `script --check`; return its exit code and standard error."""
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr
