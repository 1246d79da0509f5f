"""The pure planner: which change follows from which observed state, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.car import Sharding
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedBy, CheckedDeal, DealState
from reconciler.errors import Reason, Where
from reconciler.index.label import Label
from reconciler.index.model import DealPolicy, Index, Model, TargetSpec, Version
from reconciler.loop.changes import Blocked, Change, Deliver, OnTarget, PinRoot, Publish, Repair, WriteRecord
from reconciler.loop.plan import make_changes, removals, versions_needing_bytes, versions_needing_records
from reconciler.loop.select import Selection
from reconciler.loop.world import Facts, World
from reconciler.targets.interface import Capabilities, Inventory, Observation, Pin, State

WHERE = Where("releases/index.yaml", 3)
ROOT = hash_block(RAW, b"root")
BLOCK, OTHER_BLOCK = hash_block(RAW, b"a block"), hash_block(RAW, b"another block")
LABEL = "reconciler/acme/m@1.0.0"
SHARDING = Sharding(1 << 20)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def version(number: str = "1.0.0", **fields: Any) -> Version:
    """A published version of `m` with a path, on the target `node`."""
    defaults = {"cid": ROOT, "path": f"weights/m/{number}", "targets": ("node",)}
    return Version("m", number, WHERE, **(defaults | fields))


def selection(*versions: Version, targets: tuple[str, ...] = ("node", "other")) -> Selection:
    index = Index(
        "acme",
        Path("releases/index.yaml"),
        "0" * 64,
        {"m": Model("m", WHERE, {each.version: each for each in versions}, {})},
    )
    return Selection(index, versions, tuple(TargetSpec(name, "store", {}, WHERE) for name in targets))


def seen(state: State, root: Cid = ROOT, **fields: Any) -> Observation:
    labels = (LABEL,) if state in (State.HELD, State.PARTIAL) else ()
    return Observation(root, state, **({"labels": labels} | fields))


def world(
    node: Observation | Reason,
    other: Observation | Reason | None = None,
    *,
    capabilities: Mapping[str, Capabilities] | None = None,
    **fields: Any,
) -> World:
    """One observation each of `node` and `other`, which is empty by default."""
    found = {"node": node, "other": other or seen(State.ABSENT)}
    return World(
        inventories={
            name: each if isinstance(each, Reason) else Inventory({each.root: each})
            for name, each in found.items()
        },
        capabilities={"node": Capabilities(), "other": Capabilities()} | dict(capabilities or {}),
        **fields,
    )


HERE: dict[str, Any] = {
    "present": frozenset({"m@1.0.0"}),
    "facts": {"m@1.0.0": Facts(ROOT, size=10, car_size=100)},
    "recorded": frozenset({"m@1.0.0"}),
}  # the version's directory was identified


def changes(
    chosen: Selection, at: World, *, prune: bool = False, propose: bool = False
) -> tuple[list[Change], int]:
    return make_changes(chosen, at, prune=prune, propose=propose)


def only_change(at: World, wanted: Version | None = None) -> Change:
    (change,), in_sync = changes(selection(wanted or version()), at)
    assert in_sync == 0
    return change


# -- one version on one target -------------------------------------------------------------------------------


def test_a_held_version_needs_no_change() -> None:
    assert changes(selection(version()), world(seen(State.HELD))) == ([], 1)


def test_a_pin_of_ours_is_added_beside_one_of_others_where_the_target_takes_it() -> None:
    able = Capabilities(takes_bytes=False, pins_by_cid=True, serves_blocks=False, one_label=True)
    theirs = seen(State.HELD, labels=("reconciler/other/m@1.0.0",), takes_own_pin=True)
    change = only_change(world(theirs, capabilities={"node": able}))
    assert isinstance(change, PinRoot)
    assert (change.drift, change.reason) == (False, "held only by the pin of index 'other' (m@1.0.0)")
    alone = seen(State.HELD, labels=("reconciler/other/m@1.0.0",))
    assert changes(selection(version()), world(alone, capabilities={"node": able})) == ([], 1)


@pytest.mark.parametrize(
    ("state", "cid", "kind", "reason"),
    [
        (State.ABSENT, ROOT, Publish, "not there, though it was published before"),
        (State.ABSENT, None, Publish, "not there yet"),
        (State.FAILED, ROOT, Publish, "not there, though it was published before"),
        (State.PARTIAL, ROOT, Repair, "not there, though it was published before"),
    ],
)
def test_missing_bytes_are_sent_from_the_directory(
    state: State, cid: Cid | None, kind: type[Deliver], reason: str
) -> None:
    change = only_change(world(seen(state), **HERE), version(cid=cid))
    assert isinstance(change, kind)
    assert (change.sources, change.label, change.root) == (("directory",), LABEL, ROOT)
    assert (change.drift, change.reason) == (cid is not None, reason)
    if isinstance(change, Publish):
        assert change.size == 100


def test_the_detail_of_the_target_is_the_reason() -> None:
    damaged = seen(State.PARTIAL, damaged=(BLOCK,), detail="1 block is damaged")
    change = only_change(world(damaged, **HERE))
    assert isinstance(change, Repair)
    assert (change.damaged, change.reason) == ((BLOCK,), "1 block is damaged")


def test_a_pending_version_is_waited_for() -> None:
    change = only_change(world(seen(State.PENDING, detail="queued"), **HERE))
    assert (change.kind, change.reason, change.drift) == ("wait", "queued", False)


@pytest.mark.parametrize(
    ("node", "reason", "hint"),
    [
        (
            Reason("connection refused", "check that it is running"),
            "connection refused",
            "check that it is running",
        ),
        (seen(State.UNKNOWN), "cannot be observed", ""),
        (seen(State.UNKNOWN, detail="timed out"), "timed out", ""),
    ],
)
def test_an_unknown_target_is_blocked_and_no_drift(
    node: Observation | Reason, reason: str, hint: str
) -> None:
    change = only_change(world(node, **HERE))
    assert isinstance(change, Blocked)
    assert (change.reason, change.hint, change.unknown, change.drift) == (reason, hint, True, False)


@pytest.mark.parametrize(
    ("path", "present", "reason"),
    [
        (None, False, "no target holds it, and the index names neither a path nor a source for it"),
        ("weights/m/1.0.0", False, "weights/m/1.0.0 is not on this machine, and no target holds the bytes"),
        ("weights/m/1.0.0", True, "its bytes could not be read"),
    ],
)
@pytest.mark.parametrize("cid", [ROOT, None])
def test_a_version_without_bytes_is_blocked(
    cid: Cid | None, path: str | None, present: bool, reason: str
) -> None:
    here = frozenset({"m@1.0.0"}) if present else frozenset()
    change = only_change(world(seen(State.ABSENT), present=here), version(cid=cid, path=path))
    assert isinstance(change, Blocked)
    assert change.reason == reason


# -- where bytes come from -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "other", "sources"),
    [
        (State.ABSENT, seen(State.HELD), ("other",)),
        (State.PARTIAL, seen(State.HELD), ("other",)),
        (State.ABSENT, seen(State.PARTIAL), ("other",)),
        (State.PARTIAL, seen(State.PARTIAL), ("node", "other")),
        (State.PARTIAL, seen(State.PARTIAL, nothing_left=True), ("node",)),
        (State.PARTIAL, seen(State.ABSENT), ("node",)),
    ],
)
def test_targets_are_the_sources_without_a_directory(
    node: State, other: Observation, sources: tuple[str, ...]
) -> None:
    change = only_change(world(seen(node), other))
    assert isinstance(change, Deliver)
    assert change.sources == sources


def test_a_target_that_serves_no_blocks_is_no_source() -> None:
    at = world(
        seen(State.ABSENT), seen(State.HELD), capabilities={"other": Capabilities(serves_blocks=False)}
    )
    assert only_change(at).kind == "blocked"


def test_a_target_that_no_version_lists_can_be_the_source() -> None:
    at = world(seen(State.ABSENT), unlisted_holders={"other": frozenset({ROOT})})
    change = only_change(at)
    assert isinstance(change, Publish)
    assert (change.sources, change.size) == (("other",), None)


def test_a_target_whose_damage_was_seen_is_no_complete_source_after_a_quick_look() -> None:
    at = world(
        seen(State.PARTIAL, damaged=(BLOCK,)),
        seen(State.PARTIAL, damaged=(OTHER_BLOCK,)),
        unlisted_holders={"other": frozenset({ROOT})},
    )
    change = only_change(at)
    assert isinstance(change, Repair)
    assert set(change.sources) == {"node", "other"}, "each has what the other one lost"


def test_blocks_that_every_source_lost_block_the_repair() -> None:
    lost = only_change(
        world(
            seen(State.PARTIAL, damaged=(BLOCK,), detail="damaged"),
            seen(State.PARTIAL, damaged=(BLOCK, OTHER_BLOCK)),
        )
    )
    assert isinstance(lost, Blocked)
    assert lost.reason == "1 of its blocks are missing everywhere: damaged"
    assert lost.hint == "run where the weights are, or give --source-root"
    gaps = world(seen(State.PARTIAL, damaged=(BLOCK,)), seen(State.PARTIAL, damaged=(OTHER_BLOCK,)))
    assert only_change(gaps).kind == "repair"


def test_a_problem_of_the_directory_is_shown_and_the_bytes_come_from_a_target() -> None:
    at = world(
        seen(State.ABSENT), seen(State.HELD), **HERE, problems={"m@1.0.0": Reason("changed", "restore it")}
    )
    (blocked, publish), _ = changes(selection(version()), at)
    assert isinstance(blocked, Blocked)
    assert (blocked.target, blocked.reason, blocked.hint) == (None, "changed", "restore it")
    assert isinstance(publish, Publish)
    assert publish.sources == ("other",)


@pytest.mark.parametrize(
    ("able", "kind"),
    [
        (Capabilities(takes_bytes=False, pins_by_cid=True), "pin"),
        (Capabilities(pins_by_cid=True), "publish"),
        (Capabilities(takes_bytes=False), "blocked"),
    ],
)
def test_capabilities_decide_between_publish_and_pin(able: Capabilities, kind: str) -> None:
    wanted = version(targets=("node", "other"))
    at = world(seen(State.ABSENT), seen(State.HELD), capabilities={"node": able}, **HERE)
    (change,), in_sync = changes(selection(wanted), at)
    assert (change.kind, in_sync) == (kind, 1)
    if isinstance(change, PinRoot):
        assert change.sources == ("other",)  # the version's other target, which serves blocks


# -- labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "one_label", "old"),
    [
        ((LABEL,), False, None),
        (("backups", LABEL), False, None),
        (("reconciler/acme/old@1.0.0",), False, "reconciler/acme/old@1.0.0"),
        (("backups", "reconciler/acme/old@1.0.0"), True, "reconciler/acme/old@1.0.0"),
        (("backups",), False, "backups"),
        (("backups",), True, None),  # only `adopt` takes over a pin of others
        ((), False, None),  # the target keeps no labels
    ],
)
def test_a_held_version_is_relabelled_when_no_version_wants_its_label(
    labels: tuple[str, ...], one_label: bool, old: str | None
) -> None:
    at = world(seen(State.HELD, labels=labels), capabilities={"node": Capabilities(one_label=one_label)})
    planned, in_sync = changes(selection(version()), at)
    if old is None:
        assert (planned, in_sync) == ([], 1)
        return
    (change,) = planned
    assert isinstance(change, OnTarget)
    assert (change.kind, change.label, change.reason) == ("relabel", LABEL, f"held under {old}")
    assert not change.drift


def test_the_label_of_another_version_with_the_root_is_enough() -> None:
    both = selection(version("0.9.0"), version())
    assert changes(both, world(seen(State.HELD))) == ([], 2)


# -- versions that share a root ------------------------------------------------------------------------------


def test_a_shared_root_is_published_once_by_the_version_that_has_the_bytes() -> None:
    both = selection(version("0.9.0", path=None), version())
    planned, in_sync = changes(both, world(seen(State.ABSENT), **HERE))
    assert [(change.kind, change.ref) for change in planned] == [("publish", "m@1.0.0")]
    assert in_sync == 0


def test_a_shared_root_that_is_blocked_is_reported_once() -> None:
    both = selection(version("0.9.0"), version())
    planned, _ = changes(both, world(Reason("down")))
    assert [(change.kind, change.ref) for change in planned] == [("blocked", "m@0.9.0")]


# -- write-backs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "cid", "fields", "expected"),
    [
        (State.ABSENT, None, {"recorded": frozenset()}, [("resolve-cid", False), ("write-record", False)]),
        (State.HELD, None, {"recorded": frozenset()}, [("resolve-cid", True), ("write-record", True)]),
        (State.HELD, ROOT, {"recorded": frozenset()}, [("write-record", True)]),
        (State.HELD, ROOT, {}, []),
        (State.HELD, ROOT, {"missing_shardings": {"m@1.0.0": (SHARDING,)}}, [("write-record", True)]),
        (Reason("down"), None, {"recorded": frozenset()}, []),  # no target is going to hold it
    ],
)
def test_write_backs_follow_the_version_that_a_target_holds_or_receives(
    state: State | Reason, cid: Cid | None, fields: dict[str, Any], expected: list[tuple[str, bool]]
) -> None:
    node = state if isinstance(state, Reason) else seen(state)
    at = replace(world(node, **HERE), **fields)
    planned, _ = changes(selection(version(cid=cid)), at, propose=True)
    written = [change for change in planned if change.kind in ("resolve-cid", "write-record")]
    assert [(change.kind, getattr(change, "held", None)) for change in written] == expected
    for change in written:
        if isinstance(change, WriteRecord):
            assert (change.path, change.size) == ("records/m/1.0.0.json", 10)
            assert change.shardings == fields.get("missing_shardings", {}).get("m@1.0.0", ())
    assert not [c for c in changes(selection(version(cid=cid)), at)[0] if c in written]


# -- deals ---------------------------------------------------------------------------------------------------

PIECE = PieceCid(bytes(32), height=10, padding=0)
POLICY = DealPolicy(min=1, providers=1, renew_before=timedelta(days=30))
MAKES_DEALS = Capabilities(sharding=SHARDING, renews_deals=True)


def with_deals(*states: DealState) -> Observation:
    """`node` holds the version, and has its piece in one deal for each state."""
    deals = tuple(
        CheckedDeal(PIECE, state, CheckedBy.CHAIN, NOW, PIECE, f"f0{number}", number)
        for number, state in enumerate(states)
    )
    return seen(State.HELD, pieces=(PIECE,), deals=deals)


@pytest.mark.parametrize(
    ("node", "able", "here", "kind"),
    [
        (with_deals(DealState.ACTIVE), MAKES_DEALS, {}, None),
        (with_deals(DealState.OFFERED), MAKES_DEALS, {}, "wait"),
        (with_deals(), MAKES_DEALS, HERE, "publish"),
        (with_deals(), MAKES_DEALS, {}, "blocked"),  # needs bytes, and there are none
        (with_deals(), replace(MAKES_DEALS, renews_deals=False), HERE, "blocked"),
        (seen(State.ABSENT), MAKES_DEALS, HERE, "publish"),
    ],
)
def test_a_policy_decides_on_the_deals_of_a_held_version(
    node: Observation, able: Capabilities, here: dict[str, Any], kind: str | None
) -> None:
    at = world(node, capabilities={"node": able}, **here)
    planned, in_sync = changes(selection(version(deals=POLICY)), at)
    assert [change.kind for change in planned] == ([] if kind is None else [kind])
    assert in_sync == (kind is None)
    assert changes(selection(version()), at)[1] == (node.state is State.HELD)  # without a policy


def test_deals_wait_for_pieces_that_this_run_records() -> None:
    held = seen(State.HELD)  # without a record, the target knows no pieces
    at = world(
        held,
        capabilities={"node": MAKES_DEALS},
        missing_shardings={"m@1.0.0": (SHARDING,)},
        **HERE,
    )
    planned, _ = changes(selection(version(deals=POLICY)), at, propose=True)
    assert [change.kind for change in planned] == ["wait", "write-record"]
    assert list(versions_needing_records(selection(version()), at)) == [version()]


@pytest.mark.parametrize(
    ("node", "only", "blocked"),
    [
        (seen(State.HELD), ("node", "other"), True),
        (Reason("down"), ("node", "other"), False),  # it might make deals
        (seen(State.HELD), ("other",), False),  # so might a target that this run leaves out
    ],
)
def test_a_policy_that_no_target_can_satisfy_is_blocked(
    node: Observation | Reason, only: tuple[str, ...], blocked: bool
) -> None:
    planned, _ = changes(selection(version(deals=POLICY), targets=only), world(node))
    reasons = [change.reason for change in planned if change.target is None]
    expected = ["the policy requires 1 deals, and none of its targets makes any"]
    assert reasons == (expected if blocked else [])


# -- order and removals --------------------------------------------------------------------------------------


def owned(at: World, *pins: Pin) -> World:
    """`at` with pins of ours on `node`."""
    node = at.inventories["node"]
    assert isinstance(node, Inventory)
    return replace(at, inventories={**at.inventories, "node": replace(node, owned=pins)})


def test_changes_are_in_the_order_of_the_index_and_removals_last() -> None:
    roots = {number: hash_block(RAW, number.encode()) for number in ("2.0.0", "1.0.0")}
    wanted = [version(number, cid=root, targets=("other", "node")) for number, root in roots.items()]
    observed = Inventory({root: seen(State.ABSENT, root) for root in roots.values()})
    at = World(
        inventories={"node": observed, "other": observed},
        capabilities={"node": Capabilities(), "other": Capabilities()},
        facts={each.ref: Facts(roots[each.version], 10, 100) for each in wanted},
    )
    at = owned(at, Pin(ROOT, "reconciler/acme/m@0.1.0"))
    planned, _ = changes(selection(*wanted), at, prune=True, propose=True)
    assert [(change.kind, change.version, change.target) for change in planned] == [
        ("publish", "2.0.0", "other"),
        ("publish", "2.0.0", "node"),
        ("write-record", "2.0.0", None),
        ("publish", "1.0.0", "other"),
        ("publish", "1.0.0", "node"),
        ("write-record", "1.0.0", None),
        ("unpin", "0.1.0", "node"),
    ]


@pytest.mark.parametrize(
    ("wanted", "label", "reason"),
    [
        (version(), LABEL, None),
        (version(retired=True), LABEL, "retired"),
        (version(targets=("other",)), LABEL, "no longer kept on node"),
        (version(cid=BLOCK, targets=("node",)), LABEL, f"the index has {BLOCK}"),
        (version("2.0.0", cid=BLOCK), LABEL, "not in the index any more"),
        (version("2.0.0", cid=BLOCK), "reconciler/acme/gone@3.0.0", "not in the index any more"),
        (version("2.0.0", cid=BLOCK), "reconciler/acme/", None),  # names no version
    ],
)
def test_a_pin_of_ours_is_removed_when_the_index_does_not_want_it(
    wanted: Version, label: str, reason: str | None
) -> None:
    held = seen(State.HELD, wanted.cid or ROOT)
    at = owned(world(held, held), Pin(ROOT, label))
    found = list(removals(selection(wanted), at, set()))
    assert [change.reason for change in found] == ([] if reason is None else [reason])
    for change in found:
        assert (change.target, change.root, change.label) == ("node", ROOT, label)
        assert (change.model, change.version) == Label(label).version


@pytest.mark.parametrize(
    ("other", "planned", "removed"),
    [
        (State.HELD, set(), True),
        (State.ABSENT, set(), False),
        (State.ABSENT, {("other", ROOT)}, True),
        (State.PARTIAL, set(), False),
    ],
)
def test_the_last_copy_of_a_wanted_root_is_kept(
    other: State, planned: set[tuple[str, Cid]], removed: bool
) -> None:
    wanted = version(targets=("other",))
    at = owned(world(seen(State.HELD), seen(other)), Pin(ROOT, LABEL))
    assert bool(list(removals(selection(wanted), at, planned))) is removed


# -- properties ----------------------------------------------------------------------------------------------

LABELS = ("reconciler/acme/m@1.0.0", "reconciler/acme/m@2.0.0", "reconciler/acme/m@9.0.0", "backups")


@st.composite
def observations(draw: st.DrawFn) -> Observation | Reason:
    state = draw(st.sampled_from([*State, None]))
    if state is None:
        return Reason("down")
    labels = draw(st.lists(st.sampled_from(LABELS), unique=True)) if state is State.HELD else []
    damaged = (BLOCK,) if state is State.PARTIAL and draw(st.booleans()) else ()
    return seen(state, labels=tuple(labels), damaged=damaged, detail=draw(st.sampled_from(["", "why"])))


@st.composite
def capabilities(draw: st.DrawFn) -> Capabilities:
    names = ("takes_bytes", "pins_by_cid", "serves_blocks", "one_label")
    return Capabilities(**{name: draw(st.booleans()) for name in names})


@given(
    numbers=st.lists(st.sampled_from(["1.0.0", "2.0.0"]), min_size=1, unique=True),
    node=observations(),
    other=observations(),
    able=st.tuples(capabilities(), capabilities()),
    here=st.booleans(),
)
def test_every_wanted_root_is_in_sync_or_has_one_change_on_each_target(
    numbers: list[str],
    node: Observation | Reason,
    other: Observation | Reason,
    able: tuple[Capabilities, Capabilities],
    here: bool,
) -> None:
    at = world(
        node,
        other,
        capabilities={"node": able[0], "other": able[1]},
        facts={f"m@{number}": Facts(ROOT, 10, 100) for number in numbers} if here else {},
    )
    chosen = selection(*(version(number, targets=("node", "other")) for number in numbers))
    planned, in_sync = changes(chosen, at, prune=True)
    targets = [change.target for change in planned]
    assert len(targets) == len(set(targets))
    for name in ("node", "other"):
        change = next((change for change in planned if change.target == name), None)
        observed = at.observation(name, ROOT)
        if observed is None or observed.state is State.UNKNOWN:
            assert isinstance(change, Blocked)
            assert change.unknown
        elif observed.state is not State.HELD:
            assert change is not None
        elif change is not None:
            assert change.kind == "relabel"
    assert in_sync == len(numbers) * (2 - len(targets))
    sent = {change.target for change in planned if isinstance(change, Deliver)}
    needing = {target for _, target in versions_needing_bytes(chosen, at)}
    assert sent <= needing
    assert changes(chosen, at, prune=True) == (planned, in_sync)
