"""Write the help texts of docs/commands.md from the program, so that page and program cannot disagree.

    python scripts/make_commands.py            rewrite the texts
    python scripts/make_commands.py --check    exit 1 when one is out of date, or a command is missing

A text stands between `<!-- help: COMMAND -->` and `<!-- end -->`; the command `reconcile` itself is `loop`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "commands.md"
TEXT = re.compile(r"(<!-- help: (?P<command>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LISTED = re.compile(r"^  ([a-z][\w-]*)  ", re.MULTILINE)
ITSELF = "loop"


def help_text(command: str) -> str:
    """What `reconcile COMMAND --help` prints, 100 characters wide."""
    arguments = ["--help"] if command == ITSELF else [command, "--help"]
    ran = subprocess.run(
        [sys.executable, "-c", "from reconciler.cli import main; main()", *arguments],
        cwd=PROJECT,
        env={
            **os.environ,
            "COLUMNS": "100",
            "TERMINAL_WIDTH": "100",
            "PYTHONPATH": str(PROJECT),
            "NO_COLOR": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip("\n") + "\n"


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
