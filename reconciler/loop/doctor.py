"""What `doctor` looks at: every target's own examination, and whether those without one can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.errors import ReconcilerError
from reconciler.loop.run import Run
from reconciler.targets.interface import Check, Diagnosable, Diagnosis, Target


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One finding about one target."""

    target: str
    diagnosis: Diagnosis


def examine(run: Run) -> Iterator[DoctorFinding]:
    """Findings target by target, in the order of targets.yaml. Changes nothing."""
    for spec in run.selection.targets:
        target = run.targets.get(spec.name)
        if target is None:
            unopened = run.unopened[spec.name]
            yield DoctorFinding(spec.name, Diagnosis("settings", False, unopened.reason, unopened.hint))
        elif isinstance(target, Diagnosable):
            yield from (DoctorFinding(spec.name, diagnosis) for diagnosis in target.diagnose())
        else:
            yield DoctorFinding(spec.name, _reachable(run, target))


def _reachable(run: Run, target: Target) -> Diagnosis:
    try:
        inventory = target.observe((), Check.QUICK, run.index.mark, run.progress)
    except ReconcilerError as error:
        return Diagnosis("reachable", False, str(error), error.hint or "")
    return Diagnosis("reachable", True, f"{len(inventory.owned)} of ours, {len(inventory.foreign)} foreign")
