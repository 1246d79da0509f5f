"""Faults of providers and chain during a publication: it ends with every copy, each paid for once."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.retry import RetryBudget
from reconciler.progress import QUIET, Task
from reconciler.targets.filecoin.target import FilecoinTarget
from reconciler.targets.interface import Check, Expected, Observation, State
from tests.support.dags import MemoryDag
from tests.support.onchain.lab import LabError
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import bundle, large_file

LABEL = Label("reconciler/acme/model@1.0.0")
LIMIT = 60_000


def look(target: FilecoinTarget, dag: MemoryDag, check: Check = Check.FULL) -> Observation:
    inventory = target.observe([Expected(dag.layout.root, (LABEL,))], check, LABEL.mark, QUIET)
    return inventory.observations[dag.layout.root]


class Notes:
    """A progress that keeps its notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def task(self, label: str, total: int | None) -> Task:
        return QUIET.task(label, total)


def assert_paid_once(cloud: OnchainStorage, pieces: int, copies: int = 2) -> None:
    """Check that every piece was added once by each of its providers, as the chain has it."""
    view = cloud.payer.view()
    sets = view.data_sets(view.data_set_ids(cloud.payer.key.address)).values()
    counts = [len(state.pieces) for state in sets]  # type: ignore[union-attr]
    assert sorted(counts) == [pieces] * copies
    assert all(count == 1 for added in cloud.added.values() for count in added.values())


#: faults that one run overcomes by itself
OVERCOME = [
    "finish_500",
    "forget_parked",
    "lose_after_send",
    *(
        pytest.param(fault, marks=pytest.mark.slow)
        for fault in (
            "put_500",
            "slow",
            "lose_before_send",
            "pull_fails",
            "pull_busy",
            "throttle",
            "get_404",
            "get_500",
            "no_ranges",
        )
    ),
]


@pytest.mark.parametrize("fault", OVERCOME)
def test_a_fault_is_overcome_in_one_run(cloud: OnchainStorage, fault: str) -> None:
    for provider in cloud.providers.values():
        provider.faults |= {fault: 1, "park": 2}
    dag = bundle(fault)
    target = cloud.target(copies=2, budget=RetryBudget())
    delivery = target.publish(dag, LABEL, QUIET)
    assert delivery.state is State.HELD
    assert_paid_once(cloud, 1)
    for provider in cloud.providers.values():
        provider.faults.clear()
    assert look(cloud.target(copies=2), dag).state is State.HELD


@pytest.mark.parametrize(
    ("number", "faults"),
    [
        (1, ["down"]),
        (2, ["pull_fails", "put_500"]),
        pytest.param(2, ["down"], marks=pytest.mark.slow),
        pytest.param(1, ["wrong_piece"], marks=pytest.mark.slow),
        pytest.param(1, ["put_500"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_provider_that_never_works_is_replaced_in_the_same_run(
    cloud: OnchainStorage, number: int, faults: list[str]
) -> None:
    cloud.providers[number].faults |= dict.fromkeys(faults, True)
    dag = bundle("replaced")
    target = cloud.target(copies=2, providers=[1, 2, 3])
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    assert [each for each, added in cloud.added.items() if added] == [3 - number, 3]
    assert_paid_once(cloud, 1)


@pytest.mark.parametrize(
    ("fault", "seconds", "message"),
    [
        ("open_500", 0, "failed (HTTP 500): Failed to create the upload, asked to open an upload"),
        ("put_500", 20, "failed (HTTP 500): Failed to store piece data, in each of 2 uploads"),
        ("has_500", 0, "failed (HTTP 500): Database error, asked for the piece"),
        ("park", 320, "does not find the piece"),
    ],
)
def test_a_provider_that_fails_every_upload_is_left_for_others_soon(
    cloud: OnchainStorage, fault: str, seconds: float, message: str
) -> None:
    """It gets the bytes twice at most, and is asked a few times, however long the retries of the run last."""
    cloud.providers[1].faults[fault] = True if fault != "park" else 1000
    notes = Notes()
    target = cloud.target(
        copies=2, providers=[1, 2, 3], budget=RetryBudget(retries=3, seconds=100), progress=notes
    )
    assert target.publish(bundle("fails"), LABEL, notes).state is State.HELD
    assert_paid_once(cloud, 1)
    (left,) = [text for text in notes.texts if "trying another provider" in text]
    assert left.startswith(f"provider 1 (alpha): {message}")
    asked = cloud.providers[1].asked
    assert sum(each.method == "PUT" for each in asked) <= 2
    assert len(asked) <= 8 + seconds // 20
    assert cloud.ticker.now <= seconds + 60, "and the wait for the chain"


def test_a_run_in_which_providers_only_fail_tries_a_few_of_them(cloud: OnchainStorage) -> None:
    for provider in cloud.providers.values():
        provider.faults["put_500"] = True
    with pytest.raises(PeerError, match="in each of 2 uploads") as caught:
        cloud.target(copies=1, budget=RetryBudget()).publish(bundle("fails"), LABEL, QUIET)
    assert caught.value.hint == (
        "nothing was paid to it; run again later, or name other providers in targets.yaml"
    )
    puts = [each for one in cloud.providers.values() for each in one.asked if each.method == "PUT"]
    assert len(puts) <= 8
    assert cloud.ticker.now <= 100


def test_a_provider_whose_answer_stays_unclear_is_not_replaced(cloud: OnchainStorage) -> None:
    cloud.providers[1].faults["lose_before_send"] = True
    dag = bundle("unclear")
    target = cloud.target(copies=2, providers=[1, 2, 3])
    with pytest.raises(PeerError, match=r"provider 1 \(alpha\): failed \(HTTP 500\)"):
        target.publish(dag, LABEL, QUIET)
    seen = look(target, dag, Check.QUICK)
    assert (seen.state, "1 of 2 copies" in seen.detail) == (State.PARTIAL, True)
    cloud.providers[1].faults.clear()
    assert target.repair(dag, (), LABEL, QUIET).state is State.HELD
    assert [number for number, added in cloud.added.items() if added] == [1, 2]
    assert_paid_once(cloud, 1)


def test_a_run_fails_when_no_provider_works(cloud: OnchainStorage) -> None:
    for provider in cloud.providers.values():
        provider.faults["put_500"] = True
    with pytest.raises(PeerError, match="Failed to store piece data"):
        cloud.target(copies=2).publish(bundle("none works"), LABEL, QUIET)
    assert not cloud.payer.view().data_set_ids(cloud.payer.key.address)


@pytest.mark.parametrize(
    "lands",
    ["after", *(pytest.param(lands, marks=pytest.mark.slow) for lands in ("never", "before"))],
)
def test_a_transaction_that_is_not_on_the_chain_yet_is_pending_and_never_paid_twice(
    cloud: OnchainStorage, lands: str
) -> None:
    dag = bundle("pending")
    provider = cloud.providers[1]
    provider.faults |= {"held_back": 1, "tx_lost": True}
    delivery = cloud.target(providers=[1]).publish(dag, LABEL, QUIET)
    assert (delivery.state, "not on the chain yet" in delivery.detail) == (State.PENDING, True)
    (land,) = provider.held_back
    if lands == "before":
        land()
    provider.faults.clear()
    assert cloud.target(providers=[1]).publish(dag, LABEL, QUIET).state is State.HELD
    if lands == "after":
        with pytest.raises(LabError):
            land()
    assert_paid_once(cloud, 1, 1)


def test_a_provider_that_loses_a_piece_gets_it_again_without_a_payment(cloud: OnchainStorage) -> None:
    dag = large_file("forgets")
    cloud.providers[1].faults["accept_and_forget"] = 1
    target = cloud.target(max_bytes=LIMIT, providers=[1])
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    assert look(target, dag, Check.QUICK).state is State.HELD
    seen = look(target, dag, Check.SAMPLE)
    assert (seen.state, "does not serve it" in seen.detail) == (State.PARTIAL, True)
    delivery = target.repair(dag, seen.damaged, LABEL, QUIET)
    assert (delivery.state, delivery.bytes_sent) == (State.HELD, dag.layout.size)
    assert look(target, dag).state is State.HELD
    assert_paid_once(cloud, 3, 1)


def test_what_is_proved_and_not_served_is_a_finding(cloud: OnchainStorage) -> None:
    dag = bundle("not served")
    target = cloud.target(copies=2)
    target.publish(dag, LABEL, QUIET)
    cloud.prove()
    used = [provider for provider in cloud.providers.values() if provider.added]
    used[0].faults["get_500"] = True
    expected = [Expected(dag.layout.root, (LABEL,), layout=dag.layout)]
    inventory = target.observe(expected, Check.SAMPLE, LABEL.mark, QUIET)
    assert inventory.observations[dag.layout.root].state is State.HELD, "it may be a passing fault"
    (note,) = inventory.notes
    assert "proves its pieces but could not be read" in note
    used[0].faults.clear()
    used[0].pieces.clear()
    inventory = target.observe(expected, Check.SAMPLE, LABEL.mark, QUIET)
    assert inventory.observations[dag.layout.root].state is State.PARTIAL
    assert "proves 1 pieces that it does not serve" in inventory.notes[0]


def test_a_reorganisation_between_two_reads_makes_the_target_unknown(cloud: OnchainStorage) -> None:
    dag = bundle("reorganised")
    target = cloud.target()
    target.publish(dag, LABEL, QUIET)
    fake = cloud.lab.fake
    assert fake is not None
    calls = iter(range(1000))

    def replace(method: str) -> None:
        if method == "eth_call" and next(calls) == 3:
            fake.replace_blocks(fake.head - 1)

    fake.before = replace
    with pytest.raises(PeerError, match="was replaced while the chain was read"):
        look(target, dag, Check.QUICK)


@pytest.mark.parametrize("terminated", [True, False])
def test_a_set_that_ends_during_the_run_is_followed_by_another_one(
    cloud: OnchainStorage, terminated: bool
) -> None:
    target = cloud.target(providers=[1])
    target.publish(bundle("before"), LABEL, QUIET)
    dag, number = bundle("during"), cloud.lab.newest_set()
    original = cloud.providers[1].answer

    def end(asked: object) -> object:
        if terminated and getattr(asked, "method", "") == "PUT":
            cloud.payer.end_at_once(1, number)
        return original(asked)  # type: ignore[arg-type]

    cloud.providers[1].answer = end  # type: ignore[method-assign,assignment]
    with contextlib.suppress(PeerError):
        target.publish(dag, LABEL, QUIET)
    delivery = cloud.target(providers=[1]).publish(dag, LABEL, QUIET)
    assert delivery.state is State.HELD
    assert max(cloud.added[1].values()) == 1


def test_two_runs_at_once_pay_once(cloud: OnchainStorage, tmp_path: Path) -> None:
    """Two machines publish the same version: the second one begins while the first one is about to add."""
    dag = large_file("two runs")
    first, second = (cloud.target(max_bytes=LIMIT, providers=[1], cache=tmp_path / name) for name in "ab")
    original, busy = cloud.providers[1].answer, []

    def race(asked: object) -> object:
        if "create-and-add" in getattr(asked, "target", "") and not busy:
            busy.append(second)
            second.publish(dag, LABEL, QUIET)
        return original(asked)  # type: ignore[arg-type]

    cloud.providers[1].answer = race  # type: ignore[method-assign,assignment]
    assert first.publish(dag, LABEL, QUIET).state is State.HELD
    assert busy
    assert_paid_once(cloud, 3, 1)


def test_damaged_inner_nodes_condemn_only_the_piece_that_has_them(cloud: OnchainStorage) -> None:
    dag = large_file("inner")
    target = cloud.target(max_bytes=LIMIT, providers=[1])
    target.publish(dag, LABEL, QUIET)
    inner = dag.layout.tree_positions()[1]
    block = dag.read(inner)
    for piece, data in list(cloud.providers[1].pieces.items()):
        cloud.providers[1].pieces[piece] = data.replace(block, bytes(len(block)))
    fresh = cloud.target(max_bytes=LIMIT, providers=[1, 2])
    fresh._known.remember(dag.layout.root, target._known.get(dag.layout.root) or ())
    seen = look(fresh, dag, Check.SAMPLE)
    assert (seen.state, seen.detail.split(":")[0]) == (State.PARTIAL, "1 of 3 pieces")
    assert fresh.repair(dag, (), LABEL, QUIET).state is State.HELD
    assert len(cloud.added[2]) == 1


@pytest.mark.parametrize("check", [Check.SAMPLE, Check.FULL])
def test_a_provider_that_is_down_condemns_no_copy_of_another_one(cloud: OnchainStorage, check: Check) -> None:
    dag = large_file("one is down")
    one = cloud.target(max_bytes=LIMIT, providers=[1])
    one.publish(dag, LABEL, QUIET)
    two = cloud.target(max_bytes=LIMIT, copies=2, providers=[1, 2])
    two.publish(dag, LABEL, QUIET)
    target = cloud.target(max_bytes=LIMIT, copies=2, providers=[1, 2])
    target._known.remember(dag.layout.root, one._known.get(dag.layout.root) or ())
    for provider in cloud.providers.values():
        provider.faults["down"] = True
    assert look(target, dag, check).state is State.HELD
