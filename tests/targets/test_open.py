"""Opening the targets that entries of targets.yaml describe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError, Where
from reconciler.index.model import TargetSpec
from reconciler.progress import QUIET
from reconciler.targets.open import open_target
from tests.conformance.targets import LABEL
from tests.support.shapes import single_leaf


def spec(kind: str, **options: object) -> TargetSpec:
    return TargetSpec("mine", kind, options, Where("targets.yaml", 3))


def test_a_relative_path_is_relative_to_the_repository(tmp_path: Path) -> None:
    target = open_target(spec("store", path=".reconcile/store"), root=tmp_path, environ={})
    assert (target.name, target.kind) == ("mine", "store")
    assert list(tmp_path.iterdir()) == []  # opening creates nothing
    target.publish(single_leaf("x"), LABEL, QUIET)
    assert (tmp_path / ".reconcile" / "store" / "store.json").is_file()


def test_an_absolute_path_is_independent_of_the_repository(tmp_path: Path) -> None:
    target = open_target(spec("store", path=str(tmp_path / "far")), root=Path("elsewhere"), environ={})
    target.publish(single_leaf("x"), LABEL, QUIET)
    assert (tmp_path / "far" / "store.json").is_file()


@pytest.mark.parametrize(("kind", "hint"), [("stor", "did you mean 'store'?"), ("s3", "the kinds are store")])
def test_an_unknown_kind_is_an_error_with_a_suggestion(kind: str, hint: str) -> None:
    with pytest.raises(InvalidIndexError, match=f"targets.yaml:3.*unknown kind '{kind}'") as error:
        open_target(spec(kind), root=Path(), environ={})
    assert hint in (error.value.hint or "")


def test_a_store_needs_no_network_library() -> None:
    code = (
        "import sys; from pathlib import Path; from reconciler.errors import Where;"
        "from reconciler.index.model import TargetSpec; from reconciler.targets.open import open_target;"
        "open_target(TargetSpec('s', 'store', {'path': 'x'}, Where('f')), root=Path(), environ={});"
        "print([name for name in ('httpx', 'git', 'jsonschema', 'rich', 'filelock') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
