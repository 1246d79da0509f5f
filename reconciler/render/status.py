"""Status as text and as JSON: what targets hold, Filecoin deals, and probes of providers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from reconciler.deals.interface import CheckedDeal, DealState
from reconciler.deals.policy import group_by_piece
from reconciler.loop.cost_document import account_document
from reconciler.loop.signatures import SignatureState
from reconciler.loop.status import Holding, Probed, ReleaseStatus
from reconciler.loop.upstream_finding import UpstreamFinding, upstream_document
from reconciler.probes import ProbeResult, ProbeVerdict
from reconciler.render.costs import account_lines
from reconciler.render.text import Paint, no_colour, upstream_lines
from reconciler.render.words import count, plain
from reconciler.targets.interface import State

_PROBE_MARKS = {ProbeVerdict.SERVED: "ok", ProbeVerdict.NOT_PROBED: "-"}


def probes_document(probed: Sequence[Probed]) -> list[dict[str, Any]]:
    """Return one object for each version, with its providers."""
    return [
        {
            "model": one.model,
            "version": one.version,
            "cid": str(one.root),
            "problem": one.problem or None,
            "providers": [
                {
                    "peer": finding.provider.peer,
                    "address": finding.url or None,
                    "verdict": finding.verdict.value,
                    "leaves": finding.leaves,
                    "latency_seconds": None if finding.latency is None else round(finding.latency, 3),
                    "detail": finding.detail,
                }
                for finding in one.findings
            ],
        }
        for one in probed
    ]


def probes_text(probed: Sequence[Probed], paint: Paint) -> str:
    """Render one line for each provider, grouped by version."""
    lines = [paint("Providers listed by delegated routing", "bold")]
    for one in probed:
        lines.append(f"  {plain(one.model)}@{plain(one.version)}  {one.root}")
        if one.problem:
            lines.append(f"    ! {plain(one.problem)}")
        elif not one.findings:
            lines.append("    - no provider found")
        lines += [_probe_line(finding, paint) for finding in one.findings]
    served = sum(finding.verdict is ProbeVerdict.SERVED for one in probed for finding in one.findings)
    asked = sum(finding.verdict is not ProbeVerdict.NOT_PROBED for one in probed for finding in one.findings)
    lines += [
        "",
        paint(f"Probes: {served} of {count(asked, 'provider')} served the requested blocks.", "bold"),
    ]
    return "\n".join(lines) + "\n"


def _probe_line(finding: ProbeResult, paint: Paint) -> str:
    who = finding.url or finding.provider.peer or "unnamed provider"
    verdict = paint(f"{finding.verdict.value:<11}", _PROBE_MARKS.get(finding.verdict, "!"))
    what = (
        count(finding.leaves, "leaf", "leaves") if finding.verdict is ProbeVerdict.SERVED else finding.detail
    )
    if finding.latency is not None:
        what += (
            f", {finding.latency:.2f} s"
            if finding.verdict is ProbeVerdict.SERVED
            else f"; {finding.latency:.2f} s"
        )
    return f"    {verdict} {plain(who)}" + (paint(f"  ({plain(what)})", "dim") if what else "")


def deals_document(holding: Holding) -> list[dict[str, Any]]:
    """Return every piece of a version with its deals; dates in RFC 3339, epochs as numbers."""
    return [
        {
            "piece": str(piece),
            "deals": [_deal_document(deal) for deal in holding.deals if deal.piece == piece],
        }
        for piece in holding.pieces
    ]


def _deal_document(deal: CheckedDeal) -> dict[str, Any]:
    return {
        "state": deal.state.value,
        "aggregate": None if deal.aggregate is None else str(deal.aggregate),
        "provider": deal.provider,
        "deal_id": deal.deal_id,
        "until_epoch": deal.until,
        "until": None if deal.ends is None else f"{deal.ends:%Y-%m-%dT%H:%M:%SZ}",
        "checked_by": deal.checked_by.value,
        "checked_at": f"{deal.at:%Y-%m-%dT%H:%M:%SZ}",
        "detail": deal.detail,
    }


def deals_line(holding: Holding) -> str:
    """Summarize the deals of a version: `4 deals active until 2027-05-01, 1 deal lost; 2 pieces`."""
    if not holding.pieces:
        return ""
    parts = [
        _state_summary(state, [deal for deal in holding.deals if deal.state is state]) for state in DealState
    ]
    states = ", ".join(part for part in parts if part) or "no deals"
    short = holding.decision.reason if holding.decision is not None else ""
    wanted = f"policy: {short}" if short else ""
    return "; ".join(part for part in (states, count(len(holding.pieces), "piece"), wanted) if part)


def _state_summary(state: DealState, deals: Sequence[CheckedDeal]) -> str:
    """Summarize the deals in one state: `4 deals active until 2027-05-01`, the earliest end."""
    if not deals:
        return ""
    ends = [deal.ends for deal in deals if deal.ends is not None]
    until = f" until {min(ends):%Y-%m-%d}" if ends and state in _RUNNING else ""
    return f"{count(len(deals), 'deal')} {state.value}{until}"


_RUNNING = (DealState.ACTIVE, DealState.EXPIRING, DealState.OFFERED)


def piece_lines(holding: Holding) -> Iterator[str]:
    """Render every piece, followed by its deals and how each was checked."""
    for piece, deals in group_by_piece(holding.pieces, holding.deals).items():
        yield f"piece {piece}"
        yield from (f"  {_deal_line(deal)}" for deal in deals)
        if not deals:
            yield "  no deals"


def _deal_line(deal: CheckedDeal) -> str:
    until = f" until {deal.ends:%Y-%m-%d}" if deal.ends is not None and deal.state in _RUNNING else ""
    number = f" deal {deal.deal_id}" if deal.deal_id is not None else ""
    provider = f"  {deal.provider}{number}" if deal.provider is not None else ""
    within = f"  in {deal.aggregate}" if deal.aggregate not in (None, deal.piece) else ""
    checked = f"  ({deal.checked_by.value}, {deal.at:%Y-%m-%d %H:%M} UTC)"
    return plain(f"{deal.state.value}{until}{provider}{within}{checked}" + _detail_suffix(deal.detail))


def _detail_suffix(detail: str) -> str:
    return f": {detail}" if detail else ""


SCHEMA = 1
_MARKS = {State.HELD: "ok", State.PENDING: "…", State.PARTIAL: "~", State.ABSENT: "-"}


def status_document(
    status: ReleaseStatus,
    probed: Sequence[Probed] | None = None,
    upstream: Sequence[UpstreamFinding] | None = None,
) -> dict[str, Any]:
    """Return the JSON document of a status (schemas/status.schema.json), with what was asked in addition."""
    states = Counter(holding.state for holding in status.holdings)
    document = {
        "schema": SCHEMA,
        "kind": "status",
        "index": {"id": status.index_id},
        "check": status.check.value,
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
                "borrowed": holding.borrowed or None,
                "pieces": deals_document(holding),
                "policy": None
                if holding.decision is None
                else {"verdict": holding.decision.verdict.value, "reason": holding.decision.reason},
                "suspended": holding.suspended,
            }
            for holding in status.holdings
        ],
        "summary": {state.value: states.get(state, 0) for state in State},
        "unmet": list(status.unmet),
        "signatures": [
            {
                "model": each.model,
                "version": each.version,
                "signers": list(each.signers),
                "checked": each.checked,
                "problem": each.problem or None,
            }
            for each in status.signatures
        ],
        "log": _log_document(status),
        "accounts": [account_document(name, account) for name, account in status.accounts.items()],
        "notes": list(status.notes),
    }
    if probed is not None:
        document["probes"] = probes_document(probed)
    if upstream is not None:
        document["upstream"] = [upstream_document(found) for found in upstream]
    return document


def upstream_text(upstream: Sequence[UpstreamFinding], paint: Paint) -> str:
    """Render the findings about sources, or that there is none."""
    lines = upstream_lines(upstream) or ["nothing changed in the sources"]
    return "\n".join([paint("Sources", "bold"), *(f"  {line}" for line in lines)]) + "\n"


def status_text(status: ReleaseStatus, *, deals: bool = False, paint: Paint = no_colour) -> str:
    """Render one line for each version and target, grouped by model; with `deals` also pieces and deals."""
    lines = []
    for model, group in groupby(status.holdings, key=lambda holding: holding.model):
        lines.append(paint(plain(model), "bold"))
        lines += [_signature_line(each, paint) for each in status.signatures if each.model == model]
        holdings = list(group)
        lines += _log_lines(status, model, holdings, paint)
        for holding in holdings:
            lines.append(_holding_line(holding, paint))
            lines += [f"      {line}" for line in piece_lines(holding)] if deals else []
    lines += [f"{paint('!', '!')} {plain(text)}" for text in status.unmet]
    lines += list(account_lines(status.accounts)) if deals else []
    if status.log is not None and status.log.problem:
        lines.append(f"{paint('!', '!')} audit log: {plain(status.log.problem)}")
    lines += [f"note: {plain(text)}" for text in status.notes]
    states = Counter(holding.state.value for holding in status.holdings)
    numbers = (
        ", ".join(f"{number:,} {state}" for state, number in sorted(states.items())) or "nothing to keep"
    )
    return "\n".join([*lines, "", paint(f"Status: {numbers}.", "bold")]).lstrip("\n") + "\n"


def _signature_line(state: SignatureState, paint: Paint) -> str:
    names = ", ".join(state.signers)
    if state.problem:
        problem = f"{state.version} is not signed as the index demands: {state.problem}"
        return f"  {paint('!', '!')} {plain(problem)}"
    said = f"signed by {plain(names)}" + ("" if state.checked else ", not checked")
    return f"  {plain(state.version)} {paint(said, 'dim')}"


def _log_lines(status: ReleaseStatus, model: str, holdings: Sequence[Holding], paint: Paint) -> Iterator[str]:
    """Render which checkpoint of the audit log covers each version of a model that has a CID."""
    log = status.log
    if log is None or log.problem:
        return
    for version in dict.fromkeys(each.version for each in holdings if each.root is not None):
        number = log.covered.get(f"{model}@{version}")
        said = (
            "no checkpoint of the audit log covers it yet"
            if number is None
            else f"entry {number:,} of the audit log, covered by its checkpoint {log.size:,}"
        )
        yield f"  {plain(version)} {paint(said, 'dim')}"


def _log_document(status: ReleaseStatus) -> dict[str, Any] | None:
    log = status.log
    if log is None:
        return None
    return {
        "origin": log.origin,
        "size": log.size,
        "covered": dict(log.covered),
        "problem": log.problem or None,
    }


def _holding_line(holding: Holding, paint: Paint) -> str:
    place = f"{holding.version} → {holding.target}"
    state = paint(f"{holding.state.value:<8}", _MARKS.get(holding.state, "!"))
    root = str(holding.root) if holding.root else "no CID yet"
    suspended = "suspended" if holding.suspended else ""
    texts = (suspended, holding.checked, holding.detail, holding.borrowed, deals_line(holding))
    why = "; ".join(text for text in texts if text)
    return f"  {plain(place):<22} {state} {root}" + (paint(f"  ({plain(why)})", "dim") if why else "")
