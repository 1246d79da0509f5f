"""The changes that read a remote source: each version once, for all targets that take leaves meanwhile.

After the pass the version is identified. Targets that took its leaves complete them, side by side; the others
are served afterwards from a complete target, or from the source in ranges. A target whose session fails does
not stop the others, and the plan that follows sends it what it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.errors import Reason, ReconcilerError
from reconciler.index.label import Label
from reconciler.index.model import Version
from reconciler.loop.changes import SOURCE, Change, Deliver, Plan, Publish, StreamVersion
from reconciler.loop.select import Selection
from reconciler.loop.sources import VersionSources
from reconciler.loop.stopping import RunInterruptedError, Stoppable
from reconciler.loop.streaming import TargetSink
from reconciler.targets.interface import Delivery, Ingests, Target


def versions_to_stream(
    plan: Plan, settled: Mapping[int, object], targets: Mapping[str, Target], sources: VersionSources
) -> dict[str, list[int]]:
    """Return the numbers of the changes that a pass over a source serves, by `model@version`.

    Changes in `settled` are left out, and versions that were read in this run, or whose layout is known where
    no target takes leaves.
    """
    found: dict[str, list[int]] = {}
    for number, change in enumerate(plan.changes):
        if number in settled:
            continue
        if isinstance(change, StreamVersion) or (isinstance(change, Deliver) and change.sources == (SOURCE,)):
            found.setdefault(change.ref, []).append(number)
    known, read = sources.facts(), sources.remote.streamed if sources.remote else ()
    return {
        ref: numbers
        for ref, numbers in found.items()
        if ref not in known
        or (ref not in read and any(_takes_leaves(plan.changes[number], targets) for number in numbers))
    }


def identify_sources(selection: Selection, sources: VersionSources) -> None:
    """Read each new version with a remote source for its CID, unless an earlier run has; nothing is sent.

    A version that cannot be read keeps the reason, which a plan shows.
    """
    for version in selection.active:
        if version.cid is not None or version.source is None:
            continue
        if sources.try_list(version) is None or sources.dag(version) is not None:
            continue
        try:
            sources.stream(version, (), selection.index.label(version))
        except ReconcilerError as error:
            sources.refuse(version, Reason.from_error(error))


def _takes_leaves(change: Change, targets: Mapping[str, Target]) -> bool:
    return isinstance(change, Publish) and isinstance(targets[change.target], Ingests)


def stream_version(
    version: Version,
    changes: Sequence[Change],
    label: Label,
    targets: Mapping[str, Target],
    sources: VersionSources,
    progress: Stoppable,
) -> dict[str, Delivery]:
    """Read the source of `version` once for `changes`; return what each target that took leaves now has.

    Raises what the source raises, and PublishedMismatchError; then no target keeps anything.
    """
    names = [change.target for change in changes if isinstance(change, Publish)]
    names += [name for change in changes if isinstance(change, StreamVersion) for name in change.targets]
    wanted = [targets[name] for name in dict.fromkeys(names)]
    sinks = sources.stream(version, wanted, label)
    dag = sources.identified(version.ref)

    def finish(sink: TargetSink) -> Delivery | None:
        error = sink.error
        if error is None:
            try:
                progress.check()
                return sink.session.finish(dag, progress)
            except RunInterruptedError:
                return None
            except (ReconcilerError, OSError) as failure:
                error = failure
        if progress.stopped:
            return None
        progress.note(f"{sink.name}: {error}")
        return None

    try:
        with progress.threads(max(1, len(sinks))) as pool:
            futures = {sink.name: pool.submit(finish, sink) for sink in sinks}
            done = {name: future.result() for name, future in futures.items()}
    finally:
        for sink in sinks:
            sink.session.abandon()
    return {name: delivery for name, delivery in done.items() if delivery is not None}
