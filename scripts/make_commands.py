"""Write the help texts of docs/commands.md from the program, so that page and program cannot disagree.

    python scripts/make_commands.py            rewrite the texts
    python scripts/make_commands.py --check    exit 1 when one is out of date, or a command is missing

A text stands between `<!-- help: COMMAND -->` and `<!-- end -->`; the command `reconcile` itself is `loop`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
# read when the command line is imported: the program beside this script, 100 characters wide, whoever asks
sys.path.insert(0, str(PROJECT))
os.environ |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}

from reconciler.cli import main as reconcile  # noqa: E402

PAGE = PROJECT / "docs" / "commands.md"
TEXT = re.compile(r"(<!-- help: (?P<command>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LISTED = re.compile(r"^  ([a-z][\w-]*)  ", re.MULTILINE)
ITSELF = "loop"


def help_text(command: str) -> str:
    """What `reconcile COMMAND --help` prints, 100 characters wide."""
    arguments = ["--help"] if command == ITSELF else [command, "--help"]
    sys.argv = ["reconcile", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            reconcile()
        except SystemExit as end:
            if end.code:
                raise
    return said.getvalue().strip("\n") + "\n"


def commands() -> set[str]:
    """Every command that `reconcile --help` lists, and the one without a name."""
    listing = help_text(ITSELF).partition("\nCommands:\n")[2]
    return {ITSELF, *LISTED.findall(listing)}


def main() -> int:
    """Rewrite the page, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    missing = commands() - {found["command"] for found in TEXT.finditer(text)}
    if missing:
        print(f"error: {PAGE.relative_to(PROJECT)} lacks {', '.join(sorted(missing))}", file=sys.stderr)
        print("hint: give each a heading and the two markers, then run this script", file=sys.stderr)
        return 1
    wanted = TEXT.sub(lambda found: f"{found[1]}```text\n{help_text(found['command'])}```\n{found[3]}", text)
    if wanted == text:
        return 0
    if check:
        print(f"error: {PAGE.relative_to(PROJECT)} differs from the program", file=sys.stderr)
        print("hint: python scripts/make_commands.py rewrites it", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
