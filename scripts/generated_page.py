"""Rewrite or check the generated parts of a page, for the scripts `make_*.py`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def wants_check(description: str) -> bool:
    """Parse the command line; return whether to compare the page only (--check)."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    return bool(parser.parse_args().check)


def update(
    page: Path, part: re.Pattern[str], render: Callable[[re.Match[str]], str], *, source: str, check: bool
) -> int:
    """Replace every match of `part` in `page` by the result of `render`; with `check`, only compare.

    Return the exit code: 1 when `check` finds that the page differs from its `source`.
    """
    text = page.read_text(encoding="utf-8")
    wanted = part.sub(render, text)
    if wanted == text:
        return 0
    if check:
        script = Path(sys.argv[0]).name
        print(f"error: {page.relative_to(PROJECT)} differs from the {source}", file=sys.stderr)
        print(f"hint: run python scripts/{script} to rewrite it", file=sys.stderr)
        return 1
    page.write_text(wanted, encoding="utf-8")
    return 0
