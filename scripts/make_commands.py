"""Write the help texts of the program to docs/commands.md.

    python scripts/make_commands.py            rewrite the texts
    python scripts/make_commands.py --check    exit 1 if a text is outdated or a command is missing
    python scripts/make_commands.py --count    print the number of flag places

The markers of a text are `<!-- help: COMMAND -->` and `<!-- end -->`; `loop` is `reconcile` itself. A flag
place is one option of one command; `--help` does not count.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
# the program in this clone, with help texts 100 characters wide
sys.path.insert(0, str(PROJECT))
os.environ |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}

import typer.main  # noqa: E402
from generated_page import update, wants_check  # noqa: E402

from reconciler.cli import main as reconcile  # noqa: E402
from reconciler.cli.app import app  # noqa: E402

PAGE = PROJECT / "docs" / "commands.md"
TEXT = re.compile(r"(<!-- help: (?P<command>[\w -]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
LISTED = re.compile(r"^  ([a-z][\w-]*)  ", re.MULTILINE)
ITSELF = "loop"


def help_text(command: str) -> str:
    """Return what `reconcile COMMAND --help` prints, 100 characters wide."""
    arguments = ["--help"] if command == ITSELF else [*command.split(), "--help"]
    sys.argv = ["reconcile", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            reconcile()
        except SystemExit as end:
            if end.code:
                raise
    return printed.getvalue().strip("\n") + "\n"


def commands() -> set[str]:
    """Return every command that `reconcile --help` lists, with those below them, and ITSELF."""
    found = {ITSELF}
    for name in LISTED.findall(help_text(ITSELF).partition("\nCommands:\n")[2]):
        below = LISTED.findall(help_text(name).partition("\nCommands:\n")[2])
        found |= {name, *(f"{name} {each}" for each in below)}
    return found


def flag_places() -> int:
    """Return the number of flag places: options, counted once for each command that declares them."""
    commands = [typer.main.get_command(app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
    return sum(each.param_type_name == "option" for command in commands for each in command.params)


def main() -> int:
    """Rewrite the page, or compare it."""
    if "--count" in sys.argv[1:]:
        print(flag_places())
        return 0
    check = wants_check(__doc__ or "")
    missing = commands() - {found["command"] for found in TEXT.finditer(PAGE.read_text(encoding="utf-8"))}
    if missing:
        print(f"error: {PAGE.relative_to(PROJECT)} lacks {', '.join(sorted(missing))}", file=sys.stderr)
        print("hint: give each a heading and the two markers, then run this script", file=sys.stderr)
        return 1
    return update(
        PAGE,
        TEXT,
        lambda found: f"{found[1]}```text\n{help_text(found['command'])}```\n{found[3]}",
        source="program",
        check=check,
    )


if __name__ == "__main__":
    sys.exit(main())
