"""How a failure is told: one `error:` line and a `hint:` on stderr, and an object on stdout when JSON was
asked for.
"""

from __future__ import annotations

import json
import sys

from reconciler.errors import ExitCode
from reconciler.render.words import plain


def show_failure(
    message: str, *, hint: str | None = None, where: str = "", code: ExitCode, document: bool = True
) -> ExitCode:
    """Tell it and return `code`. Looks for --json itself, since parsing the arguments may be what failed.

    `document=False` leaves stdout alone, where a command has printed its one document already.
    """
    place = f"{plain(where)}: " if where else ""
    lines = message.splitlines() or [""]
    print(f"error: {place}{plain(lines[0])}", file=sys.stderr)  # noqa: T201 - the command line prints
    for line in lines[1:]:
        print(f"  {plain(line)}", file=sys.stderr)  # noqa: T201
    if hint:
        print(f"hint: {plain(hint)}", file=sys.stderr)  # noqa: T201
    if document and not {"--json", "--json-events"}.isdisjoint(sys.argv[1:]):
        failure = {
            "schema": 1,
            "kind": "error",
            "error": {"message": message, "where": where or None, "hint": hint, "exit_code": int(code)},
        }
        print(json.dumps(failure, ensure_ascii=False))  # noqa: T201
    return code
