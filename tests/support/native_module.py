"""The compiled module of `native/`, built with the C compiler of this machine."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.scratch import PROJECT


def build(directory: Path) -> ModuleType:
    """Compile and load the module; skip the test where there is no compiler, or no header of Python."""
    compiler = shutil.which("cc")
    include = Path(sysconfig.get_paths()["include"])
    if compiler is None or not (include / "Python.h").exists():
        pytest.skip("needs a C compiler and the headers of Python")
    built = directory / "reconciler_native.so"
    undefined = ["-undefined", "dynamic_lookup"] if sysconfig.get_platform().startswith("macosx") else []
    options = ["-O2", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-psabi", "-Werror", *undefined]
    source = PROJECT / "native" / "pieces.c"
    command = [compiler, "-shared", "-fPIC", *options, f"-I{include}", source, "-o", built]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    spec = importlib.util.spec_from_file_location("reconciler_native", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
