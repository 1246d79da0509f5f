"""What a plan says about the privacy of new versions, and which plans it refuses.

Content on IPFS and Filecoin cannot be taken back, so a plan names the versions that it makes public.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.sealing.seal_key import SealInputs
from reconciler.index.model import TargetSpec, Version
from reconciler.loop.changes import Change, Publish, Refusal, StreamVersion
from reconciler.loop.parts import StreamPart

_STORE = "store"  # the kind of target that is a directory on this machine
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class SealingFacts:
    """What the rules judge by; the mappings are by `model@version`.

    `versions` are those of the index, `sealing` how versions that were identified in this run are sealed
    (None in the clear), `recorded` what the records say about it. `sealed_models` have a key, and
    `unsealed_models` say `seal: none`.
    """

    versions: Mapping[str, Version]
    targets: Sequence[TargetSpec]
    sealing: Mapping[str, SealInputs | None]
    recorded: Mapping[str, BundleInputs]
    sealed_models: Collection[str]
    unsealed_models: Collection[str]


def privacy_notes(changes: Sequence[Change], facts: SealingFacts) -> Iterator[str]:
    """Yield which new versions the plan makes public for ever, and which are sealed before."""
    public: dict[str, None] = {}
    sealed: dict[str, str] = {}
    open_to_others = {spec.name for spec in facts.targets if not spec.private and spec.kind != _STORE}
    for change in changes:
        if not isinstance(change, (Publish, StreamVersion, StreamPart)) or change.drift:
            continue
        how = facts.sealing.get(change.ref)
        if how is not None:
            sealed[change.ref] = f"{change.ref} (key {how.generation})"
        elif open_to_others.intersection(_targets(change)):
            public[change.ref] = None
    if public:
        yield f"public for ever once applied, since nothing encrypts them: {_listed(list(public))}"
    if sealed:
        yield f"sealed before anything leaves this machine: {_listed(list(sealed.values()))}"


def unsealed_refusals(changes: Sequence[Change], facts: SealingFacts) -> Iterator[Refusal]:
    """Yield a refusal for each version that would be published in the clear although its model is sealed.

    A version that was published in the clear before, according to its record, stays as it is.
    """
    seen = set()
    sealed_models = {*facts.sealed_models}  # by their keys, and by records when the keys were deleted
    sealed_models |= {
        ref.partition("@")[0] for ref, inputs in facts.recorded.items() if inputs.sealing is not None
    }
    for change in changes:
        version = facts.versions.get(change.ref)
        if version is None or change.ref in seen or not _sends_own_bytes(change):
            continue
        is_guarded = version.seal is not None or version.model in sealed_models
        if not is_guarded or version.model in facts.unsealed_models:
            continue
        recorded = facts.recorded.get(change.ref)
        if facts.sealing.get(change.ref) is not None or (recorded is not None and recorded.sealing is None):
            continue
        seen.add(change.ref)
        yield Refusal(
            "unsealed",
            f"{change.ref} would be published in the clear, and {version.model} is a sealed model",
            f"restore `seal` in the index; to publish in the clear on purpose, write `seal: none` for "
            f"{version.model}",
        )


def changed_key_refusals(changes: Sequence[Change], facts: SealingFacts) -> Iterator[Refusal]:
    """Yield a refusal for each model whose key is not the one that its earlier versions were sealed with.

    Anybody can wrap a key of their own for the recipients, who would not notice. A new generation is a new
    file, which people see when they review it. A new version is not sealed with an older key than
    earlier ones either, since that one is known to recipients who were removed.
    """
    known: dict[tuple[str, int], tuple[str, str]] = {}
    newest: dict[str, int] = {}
    for ref, inputs in facts.recorded.items():
        if inputs.sealing is not None:
            model, generation = ref.partition("@")[0], inputs.sealing.generation
            known[model, generation] = (ref, inputs.sealing.key)
            newest[model] = max(newest.get(model, 0), generation)
    seen = set()
    for change in changes:
        how = facts.sealing.get(change.ref)
        if how is None or change.drift or not _sends_own_bytes(change):
            continue
        if change.model in seen:
            continue
        last = newest.get(change.model, 0)
        if change.ref not in facts.recorded and how.generation < last:
            seen.add(change.model)
            yield Refusal(
                "changed-key",
                f"{change.ref} would be sealed with key {how.generation} of {change.model}, and "
                f"{known[change.model, last][0]} was sealed with key {last}",
                f"restore sealed/{change.model}/{last}.* from the git history",
            )
            continue
        former = known.get((change.model, how.generation))
        if former is None or former[1] == how.key:
            continue
        seen.add(change.model)
        yield Refusal(
            "changed-key",
            f"key {how.generation} of {change.model} is {how.key}, and {former[0]} was sealed with "
            f"{former[1]}",
            f"restore sealed/{change.model}/{how.generation}.* from the git history, or make another key: "
            f"`reconcile seal {change.model} --new-key`",
        )


def _sends_own_bytes(change: Change) -> bool:
    return isinstance(change, (StreamVersion, StreamPart)) or (
        isinstance(change, Publish) and change.from_own_bytes
    )


def _targets(change: Publish | StreamVersion | StreamPart) -> tuple[str, ...]:
    return (change.target,) if isinstance(change, Publish) else change.targets


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
