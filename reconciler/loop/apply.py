"""The execution of a plan: each target in a thread of its own, the outcomes in the plan's order.

Bytes are sent first, then pins that fetch those bytes, then the proposal; removals come last. The failure of
one change never stops the others, but nothing is removed from a target on which something failed.

A CID is proposed only when its bytes were hashed in this run: while they were sent, or by `confirm`. When a
directory turns out to have other bytes than the plan says, proposal and removals are left to the next plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from reconciler.content import source_file
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import DataError, ReconcilerError, SourceChangedError
from reconciler.index.label import Label
from reconciler.index.model import Version
from reconciler.loop.changes import (
    Blocked,
    Change,
    Deliver,
    OnTarget,
    Outcome,
    OutcomeState,
    PinRoot,
    Plan,
    Proposed,
    Publish,
    Relabel,
    Repair,
    Report,
    StreamVersion,
    Unpin,
    Wait,
    WriteBack,
)
from reconciler.loop.parts import StreamPart, stream_part
from reconciler.loop.settings import Drift
from reconciler.loop.sources import VersionSources
from reconciler.loop.stopping import RunInterruptedError, Stoppable
from reconciler.loop.stream_changes import stream_version, versions_to_stream
from reconciler.targets.healing import gather
from reconciler.targets.interface import Delivery, State, Target

C = TypeVar("C", bound=OnTarget)

Propose = Callable[[Sequence[WriteBack]], Proposed]
"""Writes CIDs and records, all or none, and returns where. Raises ReconcilerError or OSError."""


def apply_plan(
    plan: Plan,
    *,
    targets: Mapping[str, Target],
    versions: Mapping[str, Version],
    sources: VersionSources,
    propose: Propose,
    progress: Stoppable,
    planned_again: bool = False,
) -> Report:
    """Carry out `plan`. `versions` are the index's, by `model@version`.

    With `planned_again`, another plan follows in this run if a directory turns out to have changed
    (`VersionSources.changed`); then nothing is proposed or removed. Never raises for the failure of a change.
    On KeyboardInterrupt, stops all threads and returns a report with `interrupted`.
    """
    outcomes: dict[int, Outcome] = {}
    for number, change in enumerate(plan.changes):
        settled = _settled(change, plan.options.drift)
        if settled is not None:
            outcomes[number] = settled
    lanes = _Lanes(plan, outcomes, progress)

    def deliver(change: Deliver) -> Outcome:
        dag = _open_bytes(change, targets, versions, sources)
        target = targets[change.target]
        try:
            if isinstance(change, Repair):
                delivery = target.repair(dag, change.damaged, change.label, progress)
            else:
                delivery = target.publish(dag, change.label, progress)
        finally:
            if not change.from_own_bytes:
                dag.close()
        if delivery.pieces is not None:
            sources.keep_pieces(change.root, delivery.pieces, computed=True)
        return _delivered(change, delivery)

    def relabel(change: Relabel) -> Outcome:
        targets[change.target].relabel(change.root, change.label)
        return Outcome(change, OutcomeState.APPLIED)

    def pin(change: PinRoot) -> Outcome:
        origins = [address for name in change.sources for address in targets[name].origins()]
        return _delivered(change, targets[change.target].pin(change.root, change.label, origins))

    def unpin(change: Unpin) -> Outcome:
        kept = _why_kept(change, list(outcomes.values()))
        if kept is not None:
            return kept
        if change.ref in sources.changed():
            return Outcome(change, OutcomeState.SKIPPED, f"kept: the files of {change.ref} changed")
        targets[change.target].unpin(change.root, change.label)
        return Outcome(change, OutcomeState.APPLIED)

    streamed = _stream(plan, outcomes, targets, versions, sources, progress)
    lanes.run((Publish, Repair), deliver)
    lanes.run((Relabel,), relabel)
    lanes.run((PinRoot,), pin)
    again = planned_again and bool(streamed or sources.changed())
    ready = [] if again else _write_backs(plan, outcomes, progress)
    _confirm(plan, ready, outcomes, versions, sources, progress)
    why = "interrupted"
    again = again or (planned_again and bool(sources.changed()))
    if not progress.stopped and not again:
        _propose([(number, change) for number, change in ready if number not in outcomes], outcomes, propose)
    if again:
        why = "left to the plan that follows"
    else:
        lanes.run((Unpin,), unpin)
    for number, change in enumerate(plan.changes):
        outcomes.setdefault(number, Outcome(change, OutcomeState.SKIPPED, why))
    return Report(plan, tuple(outcomes[number] for number in range(len(plan.changes))), progress.stopped)


def _stream(
    plan: Plan,
    outcomes: dict[int, Outcome],
    targets: Mapping[str, Target],
    versions: Mapping[str, Version],
    sources: VersionSources,
    progress: Stoppable,
) -> bool:
    """Read remote sources, one version after the other; return whether one got its root by that.

    Deliveries to targets that took no leaves stay without an outcome.
    """
    resolved = False
    for number, change in enumerate(plan.changes):
        if isinstance(change, StreamPart):
            label = Label.of(plan.index_id, change.ref)
            try:
                progress.check()
                part = stream_part(versions[change.ref], change, label, targets, sources, progress)
                outcomes[number] = part
            except KeyboardInterrupt:
                progress.stop()
                break
            except Exception as error:  # noqa: BLE001 - a bug in one change must not stop the others
                outcomes[number] = _failed(change, error)
    for ref, numbers in versions_to_stream(plan, outcomes, targets, sources).items():
        changes = [plan.changes[number] for number in numbers]
        try:
            progress.check()
            label = Label.of(plan.index_id, ref)
            done = stream_version(versions[ref], changes, label, targets, sources, progress)
        except KeyboardInterrupt:
            progress.stop()
            break
        except Exception as error:  # noqa: BLE001 - a bug in one change must not stop the others
            outcomes.update({number: _failed(plan.changes[number], error) for number in numbers})
            continue
        for number, change in zip(numbers, changes, strict=True):
            if isinstance(change, StreamVersion):
                outcomes[number] = _streamed(change, sources.identified(ref).layout.root, done)
                resolved = True
            elif change.target in done:
                outcomes[number] = _delivered(change, done[change.target])
    return resolved


def _streamed(change: StreamVersion, root: Cid, done: Mapping[str, Delivery]) -> Outcome:
    where = f", on {', '.join(done)}" if done else ""
    return Outcome(
        change,
        OutcomeState.APPLIED,
        f"{root}{where}",
        bytes_sent=sum(each.bytes_sent for each in done.values()),
        blocks_sent=sum(each.blocks_sent for each in done.values()),
    )


class _Lanes:
    """The threads that make changes, one for each target; they collect the outcomes by number."""

    def __init__(self, plan: Plan, outcomes: dict[int, Outcome], progress: Stoppable) -> None:
        self._plan = plan
        self._outcomes = outcomes
        self._progress = progress

    def run(self, kinds: tuple[type[C], ...], act: Callable[[C], Outcome]) -> None:
        lanes: dict[str, list[tuple[int, C]]] = {}
        for number, change in enumerate(self._plan.changes):
            if isinstance(change, kinds) and number not in self._outcomes:
                lanes.setdefault(change.target, []).append((number, change))
        if not lanes:
            return

        def run_lane(items: list[tuple[int, C]]) -> None:
            for number, change in items:
                self._outcomes[number] = _guarded(change, act, self._progress)

        try:
            with self._progress.threads(len(lanes)) as pool:
                for future in [pool.submit(run_lane, items) for items in lanes.values()]:
                    future.result()
        except KeyboardInterrupt:
            self._progress.stop()


def _settled(change: Change, drift: Drift) -> Outcome | None:
    """Return the outcome of a change for which nothing is done, or None."""
    if isinstance(change, Blocked):
        state = OutcomeState.UNKNOWN if change.unknown else OutcomeState.BLOCKED
        return Outcome(change, state, change.reason, change.hint)
    if isinstance(change, Wait):
        return Outcome(change, OutcomeState.WAITING, change.reason)
    if drift is Drift.REPORT and change.drift:
        return Outcome(change, OutcomeState.REPORTED, "drift is only reported in this run")
    return None


def _guarded(change: C, act: Callable[[C], Outcome], progress: Stoppable) -> Outcome:
    """Act on one change; turn every exception into its outcome."""
    try:
        progress.check()
        return act(change)
    except Exception as error:  # noqa: BLE001 - a bug in one change must not stop the others
        return _failed(change, RunInterruptedError("interrupted") if progress.stopped else error)


def _failed(change: Change, error: Exception) -> Outcome:
    """Return the outcome of a change that raised `error`."""
    if isinstance(error, RunInterruptedError):
        return Outcome(change, OutcomeState.SKIPPED, "interrupted")
    if isinstance(error, ReconcilerError):
        return Outcome(change, OutcomeState.FAILED, str(error), error.hint or "")
    if isinstance(error, OSError):
        detail = f"{error.filename or change.target}: {error.strerror or error}"
        return Outcome(change, OutcomeState.FAILED, detail)
    return Outcome(
        change,
        OutcomeState.FAILED,
        f"unexpected {type(error).__name__}: {error}",
        "this is a bug of the reconciler: report it",
    )


def _why_kept(change: Unpin, outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the outcome of a removal that must not be made after the other outcomes, or None.

    This pin may keep the last copy: where the root was to be completed, here or on another target, that must
    have succeeded.
    """
    if any(o.state is OutcomeState.FAILED and o.change.target == change.target for o in outcomes):
        detail = f"something failed on {change.target} in this run"
        return Outcome(change, OutcomeState.SKIPPED, detail)
    for other in outcomes:
        where = other.change.target
        if where is None or other.change.root != change.root or isinstance(other.change, Unpin):
            continue
        if other.state is OutcomeState.WAITING:
            return Outcome(change, OutcomeState.WAITING, f"kept until {where} holds {other.change.ref}")
        if other.state is not OutcomeState.APPLIED:
            reported = other.state is OutcomeState.REPORTED
            return Outcome(
                change,
                OutcomeState.REPORTED if reported else OutcomeState.SKIPPED,
                f"kept: {other.change.ref} is not complete on {where}",
            )
    return None


def _open_bytes(
    change: Deliver,
    targets: Mapping[str, Target],
    versions: Mapping[str, Version],
    sources: VersionSources,
) -> Dag:
    """Open the DAG that a change sends: the version's own directory, or the blocks that targets hold."""
    if change.from_own_bytes:
        if change.ref in sources.changed():
            raise SourceChangedError(
                f"the files of {change.ref} changed during the run", hint=source_file.WAIT_HINT
            )
        dag = sources.identify(versions[change.ref])
        if dag.layout.root != change.root:
            raise DataError(f"{change.ref} has the CID {dag.layout.root}, expected {change.root}")
        return dag
    return gather(change.root, [targets[name] for name in change.sources])


_DELIVERED = {State.HELD: OutcomeState.APPLIED, State.PENDING: OutcomeState.WAITING}


def _delivered(change: Change, delivery: Delivery) -> Outcome:
    """Return the outcome of a delivery: held is applied, pending is waiting, every other state failed."""
    state = _DELIVERED.get(delivery.state, OutcomeState.FAILED)
    detail = delivery.detail
    if state is OutcomeState.FAILED and not detail:
        detail = f"{change.target} reports {delivery.state.value} afterwards"
    return Outcome(change, state, detail, bytes_sent=delivery.bytes_sent, blocks_sent=delivery.blocks_sent)


def _write_backs(
    plan: Plan, outcomes: dict[int, Outcome], progress: Stoppable
) -> list[tuple[int, WriteBack]]:
    """Return the write-backs of what at least one target now holds; skip the others in `outcomes`."""
    applied = {
        o.change.root
        for o in outcomes.values()
        if o.state is OutcomeState.APPLIED and o.change.target is not None
    }
    ready: list[tuple[int, WriteBack]] = []
    for number, change in enumerate(plan.changes):
        if not isinstance(change, WriteBack) or number in outcomes:
            continue
        if change.held or change.root in applied:
            ready.append((number, change))
        elif not progress.stopped:
            outcomes[number] = Outcome(change, OutcomeState.SKIPPED, "no target holds it yet")
    return [] if progress.stopped else ready


def _confirm(
    plan: Plan,
    ready: Sequence[tuple[int, WriteBack]],
    outcomes: dict[int, Outcome],
    versions: Mapping[str, Version],
    sources: VersionSources,
    progress: Stoppable,
) -> None:
    """Hash what the write-backs and the removals rely on and was not hashed in this run.

    That is the bytes of versions without a CID: those of the others gave their CID. The write-backs of a
    version whose bytes differ fail.
    """
    removals = (change for change in plan.changes if isinstance(change, Unpin))
    for ref in dict.fromkeys(change.ref for change in (*(change for _, change in ready), *removals)):
        version = versions.get(ref)
        if version is None or version.cid is not None:
            continue
        try:
            progress.check()
            sources.confirm(ref)
        except (RunInterruptedError, KeyboardInterrupt):
            progress.stop()
            return
        except ReconcilerError as error:
            for number, change in ready:
                if change.ref == ref:
                    outcomes[number] = Outcome(change, OutcomeState.FAILED, str(error), error.hint or "")


def _propose(ready: Sequence[tuple[int, WriteBack]], outcomes: dict[int, Outcome], propose: Propose) -> None:
    """Write `ready` back in one edit that fails or succeeds as a whole."""
    if not ready:
        return
    state, detail, hint = OutcomeState.APPLIED, "", ""
    try:
        proposed = propose([change for _, change in ready])
        detail = proposed.detail
        state = OutcomeState.WAITING if proposed.waits else OutcomeState.APPLIED
    except ReconcilerError as error:
        state, detail, hint = OutcomeState.FAILED, str(error), error.hint or ""
    except OSError as error:
        state, detail = OutcomeState.FAILED, f"{error.filename}: {error.strerror or error}"
    for number, change in ready:
        outcomes[number] = Outcome(change, state, detail, hint)
