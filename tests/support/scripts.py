"""Run the scripts that generate committed files, with --check, and load them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.support.scratch import PROJECT


def load_script(name: str) -> ModuleType:
    """Return `scripts/NAME.py` as a module, for tests of its functions."""
    spec = importlib.util.spec_from_file_location(f"scripts.{name}", PROJECT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def check(script: Path) -> tuple[int, str]:
    """Run `script --check`; return its exit code and standard error."""
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr
