"""Inspection of targets apart from a plan: diagnosis (`doctor`), and foreign pins (`adopt`).

A foreign pin carries no mark of ours. One whose root is a version of the index can be adopted, which puts our
label on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.errors import ReconcilerError
from reconciler.index.label import IMPORT_MARK, PUT_MARK, Label
from reconciler.loop.log_coverage import diagnose_log
from reconciler.loop.signatures import signature_states
from reconciler.loop.workspace import Workspace
from reconciler.loop.world import World
from reconciler.targets.interface import Check, Diagnosable, Diagnosis, Inventory, Pin, State, Target


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One finding about one target."""

    target: str
    diagnosis: Diagnosis


def diagnose_targets(workspace: Workspace) -> Iterator[DoctorFinding]:
    """Yield the findings target by target, as in targets.yaml, then about signatures and the audit log.

    Changes nothing.
    """
    for spec in workspace.selection.targets:
        target = workspace.targets.get(spec.name)
        if target is None:
            unopened = workspace.unopened[spec.name]
            yield DoctorFinding(spec.name, Diagnosis("settings", False, unopened.text, unopened.hint))
        elif isinstance(target, Diagnosable):
            yield from (DoctorFinding(spec.name, diagnosis) for diagnosis in target.diagnose())
        else:
            yield DoctorFinding(spec.name, _reachability(workspace, target))
    yield from _signatures(workspace)
    found = diagnose_log(workspace.index, workspace.audit, str(workspace.layout.targets_file))
    yield from (DoctorFinding("audit log", diagnosis) for diagnosis in found)


def _signatures(workspace: Workspace) -> Iterator[DoctorFinding]:
    """Yield what is known about who signed versions; nothing when none is signed or needs to be."""
    states = list(signature_states(workspace.selection))
    for state in states:
        if state.problem:
            ref = f"{state.model}@{state.version}"
            hint = f"reconcile sign {ref}"
            yield DoctorFinding("signatures", Diagnosis(ref, False, state.problem, hint))
    by_signer = Counter(
        (name, state.checked) for state in states if not state.problem for name in state.signers
    )
    for (name, checked), number in sorted(by_signer.items()):
        versions = f"{number} version{'' if number == 1 else 's'}"
        said = "" if checked else ", not checked: the index has no `signatures`"
        yield DoctorFinding("signatures", Diagnosis(name, True if checked else None, f"{versions}{said}"))


def _reachability(workspace: Workspace, target: Target) -> Diagnosis:
    try:
        inventory = target.observe((), Check.QUICK, workspace.index.mark, workspace.progress)
    except ReconcilerError as error:
        return Diagnosis("reachable", False, str(error), error.hint or "")
    return Diagnosis("reachable", True, f"{len(inventory.owned)} of ours, {len(inventory.foreign)} foreign")


@dataclass(frozen=True, slots=True)
class ForeignPin:
    """A pin that others made.

    `ref` is the version of the index that has the root of the pin, "" when there is none. `label` is our
    label for that version, or None. `adoptable`: the index wants the version on this target,
    and the target holds all of it, or says so when it is asked to adopt a pin on a CIDv0.
    """

    target: str
    pin: Pin
    ref: str = ""
    label: Label | None = None
    adoptable: bool = False


def foreign_pins(workspace: Workspace, world: World) -> Iterator[ForeignPin]:
    """Yield every foreign pin on every target that was reached; those of `put` and `import` are ours."""
    versions = {version.cid: version for version in workspace.selection.kept if version.cid is not None}
    for name, inventory in world.inventories.items():
        if not isinstance(inventory, Inventory):
            continue
        owned = {pin.root for pin in inventory.owned}
        for pin in inventory.foreign:
            version = versions.get(pin.root)
            if version is None or (pin.root in owned and _stays_beside(pin, workspace, name)):
                if not pin.label.startswith((PUT_MARK, IMPORT_MARK)):
                    yield ForeignPin(name, pin)
                continue
            seen = inventory.observations.get(pin.root)
            adoptable = seen is not None and (seen.state is State.HELD or bool(pin.spelling))
            yield ForeignPin(name, pin, version.ref, workspace.index.label(version), adoptable)


def _stays_beside(pin: Pin, workspace: Workspace, target: str) -> bool:
    """Return whether a pin of others stays beside ours, so that adopting it changes nothing for us."""
    return bool(pin.spelling) or workspace.targets[target].capabilities.one_label


def adopt_pins(workspace: Workspace, pins: Sequence[ForeignPin]) -> Iterator[tuple[ForeignPin, str]]:
    """Put our label on each adoptable pin; yield each pin with the reason why it was not adopted, or ""."""
    for foreign in pins:
        if not foreign.adoptable or foreign.label is None:
            yield foreign, "not adopted: it is incomplete, or the index does not list this target for it"
            continue
        try:
            workspace.targets[foreign.target].adopt(foreign.pin, foreign.label)
        except ReconcilerError as error:
            yield foreign, error.message
        else:
            yield foreign, ""
