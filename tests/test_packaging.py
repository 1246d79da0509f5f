"""The built wheel works in an environment with only its dependencies, without the sources."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.scratch import scratch_copy


def closure(*names: str) -> set[str]:
    """Return `names` and their run-time dependencies here, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def share(name: str, site_packages: Path) -> None:
    """Make an installed distribution visible in another environment, without a download."""
    installed = distribution(name)
    tops = {Path(file).parts[0] for file in installed.files or []}
    for top in tops - {"..", "__pycache__"}:
        (site_packages / top).symlink_to(Path(str(installed.locate_file(top))))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from the project's files."""
    source = scratch_copy(tmp_path_factory.mktemp("source") / "project", commit=False)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel"],
        cwd=source,
        env=os.environ | {"PYTHONWARNINGS": ""},
        check=True,
        capture_output=True,
    )
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a virtual environment with the wheel and its run-time dependencies; return its `bin`."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "--python", python]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    (site_packages,) = (home / "lib").glob("python*/site-packages")
    for name in closure("model-reconciler") - {"model-reconciler"}:
        share(name, site_packages)
    return home / "bin"


def output(*command: str | Path, cwd: Path) -> str:
    """Run a command without our Python settings; return its standard output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environ, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # `check=True` would print the environment
    return done.stdout


def test_the_wheel_contains_only_the_package_its_schemas_and_its_license(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"reconciler", "model_reconciler"}
    assert "reconciler/schemas/index.schema.json" in names
    assert "reconciler/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_help_works_without_sources_and_development_tools(environment: Path, tmp_path: Path) -> None:
    assert "Usage: reconcile" in output(environment / "reconcile", "--help", cwd=tmp_path)
    probe = (
        "import importlib.util as u; print([n for n in ('pytest', 'mypy', 'hatchling') if u.find_spec(n)])"
    )
    assert output(environment / "python", "-c", probe, cwd=tmp_path) == "[]\n"


@pytest.mark.slow
def test_the_installed_command_validates_an_index_by_its_own_schemas(
    environment: Path, tmp_path: Path
) -> None:
    clone = scratch_copy(tmp_path / "clone", commit=True)
    probe = "import reconciler, sys; sys.stdout.write(reconciler.__file__)"
    assert Path(output(environment / "python", "-c", probe, cwd=tmp_path)).is_relative_to(environment.parent)
    shown = output(environment / "reconcile", "-C", clone, "--dry-run", "--json", cwd=tmp_path)
    assert '"tiny-lm"' in shown
