"""What needs publishing, as the strategy matrix of a workflow: `strategy: {matrix: ${{ fromJSON(…) }}}`.

Source: GitHub's documentation of `jobs.<job_id>.strategy.matrix`; a matrix makes at most 256 jobs, and one
without entries fails its workflow, so a job that uses it needs the condition in docs/github-actions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.loop.changes import Deliver, Plan

MAX_JOBS = 256


@dataclass
class _Work:
    targets: list[str] = field(default_factory=list)
    size: int = 0


def matrix_document(plan: Plan) -> dict[str, Any]:
    """One entry a version to which bytes must be sent, in the plan's order.

    Each has `name` (for people), `only` (for --only, one line a version), `targets` (names) and `bytes`
    (of the CARs together; 0 when not known). Beyond 256 versions an entry holds several.
    """
    work: dict[str, _Work] = {}
    for change in plan.changes:
        if isinstance(change, Deliver):
            one = work.setdefault(change.ref, _Work())
            one.targets.append(change.target)
            one.size += getattr(change, "size", None) or 0
    refs = list(work)
    share = -(-len(refs) // MAX_JOBS) or 1
    groups = [refs[start : start + share] for start in range(0, len(refs), share)]
    return {"include": [_entry(group, [work[ref] for ref in group]) for group in groups]}


def _entry(refs: Sequence[str], parts: Sequence[_Work]) -> dict[str, Any]:
    more = f" and {len(refs) - 1} more" if len(refs) > 1 else ""
    return {
        "name": refs[0] + more,
        "only": "\n".join(refs),
        "targets": sorted({target for part in parts for target in part.targets}),
        "bytes": sum(part.size for part in parts),
    }
