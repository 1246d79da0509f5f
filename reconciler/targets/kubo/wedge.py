"""Recognising a node that is stuck: a garbage collection that waits for a pin that waits for the network.

Every import and pin queues behind it, and abandoned requests stay queued, while listings still answer. Only
the node's own list of running commands shows it. `StartTime`s are compared with one another, so no clock is
trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from reconciler.net.outcomes import Denied, NotFound, Rejected, Stalled
from reconciler.targets.kubo.answers import Command
from reconciler.targets.kubo.rpc import KuboRpc

_COLLECTING = "repo/gc"
_HOLDING = frozenset({"pin/add", "pin/update", "dag/import", "add"})
_PATIENCE = 60.0  # seconds that a collection may wait behind something without being called stuck
ADVICE = "restart the node (the commands it lists never end), then run again"


def wedge(commands: Sequence[Command]) -> str:
    """How the node is stuck, in words, or "" when it is not. The youngest command's start counts as now."""
    active = [command for command in commands if command.active]
    now = max((_moment(command) for command in commands), default=None)
    for waiting in active:
        if waiting.name != _COLLECTING or now is None:
            continue
        behind = [one for one in active if one.name in _HOLDING and _moment(one) <= _moment(waiting)]
        waited = (now - _moment(waiting)).total_seconds()
        if behind and waited >= _PATIENCE:
            return f"is stuck: {_COLLECTING} has been waiting behind {behind[0].name} for {waited:.0f} s"
    return ""


def look(rpc: KuboRpc) -> str:
    """How the node is stuck, or "" when it is not or does not let us ask."""
    try:
        return wedge(rpc.commands())
    except (Denied, NotFound, Rejected):
        return ""


def refuse_if_stuck(rpc: KuboRpc) -> None:
    """Raises Stalled before anything is sent to a node that would not take it."""
    stuck = look(rpc)
    if stuck:
        raise Stalled(rpc.name, stuck, hint=ADVICE)


def advice(stuck: str) -> str:
    """The same as a warning about the target as a whole."""
    return f"the node {stuck}; {ADVICE}"


def _moment(command: Command) -> datetime:
    """When it started; Go writes nanoseconds, of which `fromisoformat` keeps six digits."""
    try:
        started = datetime.fromisoformat(command.started)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return started if started.tzinfo else started.replace(tzinfo=UTC)
