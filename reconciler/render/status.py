"""Status as a table and as JSON (schemas/status.schema.json)."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

from reconciler.loop.status import Holding, Status
from reconciler.render.deals import deals_document, deals_line, piece_lines
from reconciler.render.text import Paint, no_colour
from reconciler.render.words import plain
from reconciler.targets.interface import State

SCHEMA = 1
_MARKS = {State.HELD: "ok", State.PENDING: "…", State.PARTIAL: "~", State.ABSENT: "-"}


def status_document(status: Status) -> dict[str, Any]:
    """The JSON object of a status."""
    states = Counter(holding.state for holding in status.holdings)
    return {
        "schema": SCHEMA,
        "kind": "status",
        "index": {"id": status.index_id},
        "check": status.check,
        "items": [
            {
                "model": holding.model,
                "version": holding.version,
                "target": holding.target,
                "cid": str(holding.root) if holding.root else None,
                "state": holding.state.value,
                "labels": list(holding.labels),
                "damaged": holding.damaged,
                "checked": holding.checked,
                "detail": holding.detail,
                "pieces": deals_document(holding),
                "policy": None
                if holding.decision is None
                else {"verdict": holding.decision.verdict.value, "reason": holding.decision.reason},
            }
            for holding in status.holdings
        ],
        "summary": {state.value: states.get(state, 0) for state in State},
        "unmet": list(status.unmet),
        "notes": list(status.notes),
    }


def status_text(status: Status, *, deals: bool = False, paint: Paint = no_colour) -> str:
    """One line a version and target, grouped by model; with `deals` every piece and deal below."""
    lines = []
    for model, group in groupby(status.holdings, key=lambda holding: holding.model):
        lines.append(paint(plain(model), "bold"))
        for holding in group:
            lines.append(_line(holding, paint))
            lines += [f"      {line}" for line in piece_lines(holding)] if deals else []
    lines += [f"{paint('!', '!')} {plain(text)}" for text in status.unmet]
    lines += [f"note: {plain(text)}" for text in status.notes]
    states = Counter(holding.state.value for holding in status.holdings)
    told = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items())) or "nothing to keep"
    return "\n".join([*lines, "", paint(f"Status: {told}.", "bold")]).lstrip("\n") + "\n"


def _line(holding: Holding, paint: Paint) -> str:
    place = f"{holding.version} → {holding.target}"
    state = paint(f"{holding.state.value:<8}", _MARKS.get(holding.state, "!"))
    root = str(holding.root) if holding.root else "no CID yet"
    why = "; ".join(text for text in (holding.checked, holding.detail, deals_line(holding)) if text)
    return f"  {plain(place):<22} {state} {root}" + (paint(f"  ({plain(why)})", "dim") if why else "")
