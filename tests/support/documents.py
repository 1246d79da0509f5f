"""Parse the commands on a Markdown page, so that a test can run them as printed.

Commands are only in ```console blocks, each after `$ `, with continued lines after `> `. The text between a
command and the next one is its output; without such text, the output is not compared. In output, `…` matches
anything within a line, and a line with only `…` matches any lines. A command that must fail ends in a
comment, `# exit 3`.

A comment above a block gives the reason why it cannot run in a test; `pytest -rs` lists these reasons:

    <!-- not run: needs a Kubo daemon -->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHELLS = ("console", "sh", "bash", "shell", "zsh", "shell-session")

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>[\w-]*)\s*$")
_REASON = re.compile(r"<!-- not run: (?P<reason>\S.*?) -->$")
_EXIT = re.compile(r"\s+# exit (?P<code>\d+)$")


@dataclass(frozen=True, slots=True)
class Command:
    """One command as printed, its expected exit code, and its expected output ("" if the page shows none)."""

    line: int
    text: str
    exit_code: int
    shown: str


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands. `not_run` is the reason for not running it, or None."""

    line: int
    language: str
    commands: tuple[Command, ...]
    not_run: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Return the shell blocks of `page`, in order. Raises ValueError for output before a command."""
    lines = page.read_text(encoding="utf-8").splitlines()
    position = 0
    while position < len(lines):
        fence = _FENCE.match(lines[position])
        position += 1
        if fence is None:
            continue
        start = position
        closing = f"{fence['indent']}```"
        while position < len(lines) and lines[position].rstrip() != closing:
            position += 1
        if fence["language"] in SHELLS:
            inner = [line.removeprefix(fence["indent"]) for line in lines[start:position]]
            reason = _REASON.match(lines[start - 2].strip()) if start >= 2 else None
            yield Block(
                start, fence["language"], commands(inner, start + 1), reason["reason"] if reason else None
            )
        position += 1


def commands(lines: list[str], first: int) -> tuple[Command, ...]:
    """Return the commands of a block whose first line has the number `first`."""
    found: list[Command] = []
    text: list[str] = []
    shown: list[str] = []
    number = first

    def finish() -> None:
        if text:
            command, exit_code = "\n".join(text), 0
            if match := _EXIT.search(command):
                command, exit_code = command[: match.start()], int(match["code"])
            found.append(Command(number, command, exit_code, "\n".join(shown).strip("\n")))

    for offset, line in enumerate(lines):
        if line.startswith("$ "):
            finish()
            number, text, shown = first + offset, [line[2:]], []
        elif line.startswith("> ") and text and not shown:
            text.append(line[2:])
        elif text:
            shown.append(line)
        elif line.strip():
            raise ValueError(f"line {first + offset}: output without a command: {line!r}")
    finish()
    return tuple(found)


def matches(shown: str, printed: str) -> bool:
    """Return whether the output of a command matches the page."""
    pattern = ""
    for line in shown.splitlines():
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*"
        else:
            pattern += "[^\n]*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ ]*\n"
    text = "".join(line.rstrip() + "\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, text) is not None
