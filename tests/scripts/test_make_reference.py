"""The tables of docs/index-reference.md are those of the schemas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.scripts import check


def test_a_reference_page_that_differs_from_the_schemas_is_found_and_rewritten(scratch_clone: Path) -> None:
    page = scratch_clone / "docs" / "index-reference.md"
    before = page.read_text()
    assert check(scratch_clone / "scripts" / "make_reference.py") == (0, "")
    page.write_text(before.replace("Reason not to use this version", "Reason to use it"))
    code, error = check(scratch_clone / "scripts" / "make_reference.py")
    assert code == 1
    assert "docs/index-reference.md differs from the schemas" in error
    subprocess.run([sys.executable, scratch_clone / "scripts" / "make_reference.py"], check=True)
    assert page.read_text() == before
