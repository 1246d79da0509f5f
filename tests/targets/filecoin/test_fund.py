"""`reconcile fund` shows what is missing, asks, and sends each transaction once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.deals.onchain.interface import UPLOAD_SCOPES
from reconciler.errors import SafetyError, UsageError
from reconciler.progress import QUIET
from reconciler.targets.interface import State
from reconciler.targets.pricing import FundingPlan, FundingWish
from tests.support.command_line import CommandLine
from tests.support.onchain.lab import KEYS, OWNERS, UNIT
from tests.support.onchain.storage import OnchainStorage, onchain_storage
from tests.support.releases import assert_document
from tests.support.shapes import bundle
from tests.targets.filecoin.test_costs import LABEL

SESSION = {"key_env": "SESSION", "payer": OWNERS[0]}
ENVIRON = {"SESSION": KEYS[3], "FILECOIN_PAYER_KEY": KEYS[0]}


@pytest.fixture
def empty() -> Iterator[OnchainStorage]:
    """A payer that has deposited nothing."""
    with onchain_storage(funds=0) as running:
        yield running


def kinds(plan: FundingPlan) -> list[str]:
    return [action.kind for action in plan.actions]


def test_a_new_account_is_funded_and_then_publishes_with_a_session_key(empty: OnchainStorage) -> None:
    target = empty.target(copies=2, environ=ENVIRON, **SESSION)
    plan = target.plan_funding(FundingWish())
    assert kinds(plan) == ["deposit", "login"]
    assert "approve the storage service" in plan.actions[0].text
    receipts = list(target.fund(FundingWish(), plan, QUIET))
    assert [receipt.action for receipt in receipts] == list(plan.actions)
    assert target.plan_funding(FundingWish()).actions == ()
    assert list(target.fund(FundingWish(), plan, QUIET)) == [], "nothing is missing any more"
    assert target.publish(bundle("one copy"), LABEL, QUIET).state is State.HELD
    granted = empty.payer.view().expiries(empty.payer.key.address, target._options.key.address, UPLOAD_SCOPES)  # type: ignore[union-attr]
    assert len(granted) == 2


def test_a_deposit_brings_the_account_to_the_amount(empty: OnchainStorage) -> None:
    target = empty.target()
    for wish, deposited in (("3 USDFC", 3), ("3 USDFC", None), ("2", None), ("3.5", "0.5")):
        plan = target.plan_funding(FundingWish(wish))
        found = [f"{action.amount}" for action in plan.actions if action.amount is not None]
        assert [float(each) for each in found] == ([] if deposited is None else [float(deposited)])
        list(target.fund(FundingWish(wish), plan, QUIET))
    assert empty.payer.view().account(empty.payer.key.address).funds == 3.5 * UNIT


def test_days_count_what_is_paid_now(cloud: OnchainStorage) -> None:
    target = cloud.target()
    target.publish(bundle("one copy"), LABEL, QUIET)
    plan = target.plan_funding(FundingWish(days=36_500))
    assert kinds(plan) == ["deposit"]
    list(target.fund(FundingWish(days=36_500), plan, QUIET))
    (action,) = target.plan_funding(FundingWish(days=36_500)).actions or (None,)
    assert action is None or float(action.amount or 0) < 0.001, "what a few epochs cost"


def test_the_allowance_is_no_larger_than_max_monthly(empty: OnchainStorage) -> None:
    target = empty.target(max_monthly="2 USDFC")
    plan = target.plan_funding(FundingWish())
    assert "approve the storage service up to 2 USDFC a month" in plan.actions[0].text
    list(target.fund(FundingWish(), plan, QUIET))
    allowance = target.price([]).account.monthly_allowance
    assert allowance is not None
    assert 2 <= allowance < 2.0001
    assert target.plan_funding(FundingWish()).actions == ()


def test_more_than_was_shown_is_refused(empty: OnchainStorage) -> None:
    target = empty.target(environ=ENVIRON, **SESSION)
    small = target.plan_funding(FundingWish("1"))
    with pytest.raises(SafetyError, match="more is missing now than was shown: deposit 2 USDFC"):
        list(target.fund(FundingWish("2"), small, QUIET))
    assert empty.payer.view().account(empty.payer.key.address).funds == 0


def test_a_wallet_that_is_too_small_or_without_gas_is_named_first(empty: OnchainStorage) -> None:
    target = empty.target()
    (problem,) = target.plan_funding(FundingWish("2000 USDFC")).problems
    assert problem.text == f"the wallet of {OWNERS[0]} has 1000 USDFC, and 2000 USDFC are to be deposited"
    assert problem.hint == f"send 1000 USDFC to {OWNERS[0]}"
    assert empty.lab.fake is not None
    empty.lab.fake.poor.add(OWNERS[0])
    (problem,) = target.plan_funding(FundingWish()).problems
    assert problem.text == f"{OWNERS[0]} has no FIL to pay the gas"


def test_only_the_key_of_the_payer_funds(empty: OnchainStorage) -> None:
    for environ, words in (
        ({"SESSION": KEYS[3]}, "FILECOIN_PAYER_KEY"),
        ({"SESSION": KEYS[3], "FILECOIN_PAYER_KEY": KEYS[2]}, f"is that of {OWNERS[2]}"),
    ):
        target = empty.target(environ=environ, **SESSION)
        plan = target.plan_funding(FundingWish())
        with pytest.raises(UsageError, match=words) as caught:
            list(target.fund(FundingWish(), plan, QUIET))
        assert not any(key[2:] in str(caught.value) for key in KEYS)
    assert empty.payer.view().account(empty.payer.key.address).funds == 0


def test_an_amount_that_is_none_is_refused(empty: OnchainStorage) -> None:
    with pytest.raises(UsageError, match="--deposit: not an amount of money: 'much'"):
        empty.target().plan_funding(FundingWish("much"))


# --- the command


def write_paid_target(repository: CommandLine, cloud: OnchainStorage) -> None:
    """Write an index without versions, and the targets `paid` (with a session key) and `store`."""
    repository.write("releases/index.yaml", "schema: 1\nid: acme\nmodels: {}\n")
    entry = {
        "kind": "filecoin",
        "network": "devnet",
        "rpc": [cloud.lab.url],
        "contract": cloud.lab.service,
        "key_env": "SESSION",
        "payer": OWNERS[0],
    }
    targets = {"paid": entry, "store": {"kind": "store", "path": ".reconcile/store"}}
    repository.write("releases/targets.yaml", json.dumps({"targets": targets}))


@pytest.fixture
def reconcile(
    empty: OnchainStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """The command in a repository with a paid target and a store."""
    made = CommandLine(tmp_path, monkeypatch, capsys)
    write_paid_target(made, empty)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return made


def test_the_command_shows_and_sends_nothing_without_a_yes(
    empty: OnchainStorage, reconcile: CommandLine
) -> None:
    shown = reconcile("fund", "paid")
    assert shown.code == 4
    assert "+ deposit " in shown.out
    assert "2 transactions to send." in shown.out
    assert "hint: run again with --yes" in shown.err
    assert empty.payer.view().account(empty.payer.key.address).funds == 0
    done = reconcile("fund", "paid", "--yes")
    assert done.code == 0, done.err
    assert done.out.count("ok ") == 2
    again = reconcile("fund", "paid", "--yes")
    assert (again.code, "Nothing is missing." in again.out) == (0, True)
    for output in (shown, done, again):
        assert not any(key[2:] in output.out + output.err for key in KEYS)


def test_the_command_prints_json_of_what_is_missing_and_what_was_sent(
    empty: OnchainStorage, reconcile: CommandLine
) -> None:
    missing = reconcile("fund", "paid", "--json")
    assert missing.code == 4
    document = json.loads(missing.out)
    assert_document("fund", document)
    assert [item["state"] for item in document["items"]] == ["missing", "missing"]
    sent = reconcile("fund", "paid", "--json", "--yes", "--deposit", "1")
    assert sent.code == 0, sent.err
    document = json.loads(sent.out)
    assert_document("fund", document)
    assert (document["ok"], document["items"][0]["amount"]) == (True, "1")


def test_a_failure_in_between_reports_what_was_sent(empty: OnchainStorage, reconcile: CommandLine) -> None:
    node = empty.lab.fake
    assert node is not None
    node.before = lambda method: node.poor.add(OWNERS[0]) if method == "eth_getTransactionReceipt" else None
    failed = reconcile("fund", "paid", "--yes")
    assert failed.code == 1
    assert failed.out.count("ok ") == 1
    assert "cannot pay the gas of the session key" in failed.err


def test_a_target_without_an_account_and_an_unknown_one_are_refused(reconcile: CommandLine) -> None:
    for name, words in (("store", "has no account"), ("unknown", "the targets are paid, store")):
        refused = reconcile("fund", name)
        assert refused.code == 2
        assert words in refused.err


@pytest.mark.parametrize("agreed", [True, False])
def test_on_a_terminal_the_command_asks(
    empty: OnchainStorage, reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, agreed: bool
) -> None:
    asked: list[str] = []

    def confirm(question: str, **_: object) -> bool:
        asked.append(question)
        return agreed

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", confirm)
    done = reconcile("fund", "paid", "--deposit", "1")
    assert asked == ["Send these transactions?"]
    assert (done.code, "ok deposit 1 USDFC" in done.out) == ((0, True) if agreed else (4, False))
    assert empty.payer.view().account(empty.payer.key.address).funds == (UNIT if agreed else 0)
    assert reconcile("fund", "paid", "--json").code == (0 if agreed else 4), "JSON never asks"
    assert len(asked) == 1
