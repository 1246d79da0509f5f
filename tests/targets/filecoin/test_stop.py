"""`reconcile fund --stop` ends what one index keeps, in transactions that are shown first, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.deals.onchain.interface import UPLOAD_SCOPES, DataSetState
from reconciler.deals.onchain.wallet import login_call
from reconciler.errors import PeerError, SafetyError
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.filecoin.target import FilecoinTarget
from reconciler.targets.pricing import FundingPlan, FundingWish
from tests.support.command_line import CommandLine
from tests.support.onchain.lab import OWNERS, UNIT
from tests.support.onchain.payer import key
from tests.support.onchain.storage import OnchainStorage
from tests.support.releases import assert_document
from tests.support.shapes import bundle
from tests.targets.filecoin.test_costs import LABEL
from tests.targets.filecoin.test_fund import ENVIRON, write_paid_target

STOP = FundingWish(stop="acme")
OTHER = Label("reconciler/others/model@1.0.0")
SESSION = {"key_env": "SESSION", "payer": OWNERS[0], "environ": ENVIRON}


def kinds(plan: FundingPlan) -> list[str]:
    return [action.kind for action in plan.actions]


@pytest.fixture
def target(cloud: OnchainStorage) -> FilecoinTarget:
    """A target with a session key and two data sets."""
    view = cloud.payer.view()
    cloud.payer.wallet.carry_out(
        login_call(view.contracts, key(3).address, view.block.timestamp + 100_000, UPLOAD_SCOPES)
    )
    made = cloud.target(copies=2, **SESSION)  # type: ignore[arg-type]
    made.publish(bundle("stops"), LABEL, QUIET)
    return made


def running(cloud: OnchainStorage) -> list[str]:
    """The indexes of the data sets that have not ended."""
    view = cloud.payer.view()
    states = view.data_sets(view.data_set_ids(cloud.payer.key.address)).values()
    assert all(isinstance(state, DataSetState) for state in states)
    return [
        state.metadata["reconcileIndex"]
        for state in states
        if isinstance(state, DataSetState) and not state.account.end
    ]


def test_the_storage_of_one_index_ends_and_what_is_free_is_withdrawn(
    cloud: OnchainStorage, target: FilecoinTarget
) -> None:
    before = cloud.payer.view().balance(cloud.payer.key.address)
    plan = target.plan_funding(STOP)
    assert kinds(plan) == ["revoke", "end", "end", "withdraw"]
    assert "its one piece is kept and paid for another 30 days" in plan.actions[1].why
    receipts = list(target.fund(STOP, plan, QUIET))
    assert [receipt.action for receipt in receipts] == list(plan.actions)
    assert running(cloud) == []
    view = cloud.payer.view()
    assert view.expiries(cloud.payer.key.address, key(3).address, UPLOAD_SCOPES) == {}
    withdrawn = view.balance(cloud.payer.key.address) - before
    assert 4 * UNIT < withdrawn < 5 * UNIT
    assert plan.actions[3].amount is not None
    assert withdrawn <= int(plan.actions[3].amount.scaleb(18))
    assert target.plan_funding(STOP).actions == ()
    assert list(target.fund(STOP, plan, QUIET)) == []
    with pytest.raises(PeerError, match="may not sign"):
        target.publish(bundle("again"), LABEL, QUIET)


def test_what_others_are_paid_from_stays_in_the_account(
    cloud: OnchainStorage, target: FilecoinTarget
) -> None:
    target.publish(bundle("stays"), OTHER, QUIET)
    assert running(cloud) == ["acme", "acme", "others", "others"]
    plan = target.plan_funding(STOP)
    assert kinds(plan) == ["revoke", "end", "end"]
    list(target.fund(STOP, plan, QUIET))
    assert running(cloud) == ["others", "others"]
    assert target.plan_funding(STOP).actions == ()
    assert target.price([]).account.available > 4


def test_an_account_that_began_to_pay_for_others_is_not_emptied(
    cloud: OnchainStorage, target: FilecoinTarget
) -> None:
    plan = target.plan_funding(STOP)
    cloud.target(copies=1).publish(bundle("stays"), OTHER, QUIET)
    assert [receipt.action.kind for receipt in target.fund(STOP, plan, QUIET)] == ["revoke", "end", "end"]
    assert running(cloud) == ["others"]


def test_a_run_that_was_cut_short_is_continued(cloud: OnchainStorage, target: FilecoinTarget) -> None:
    plan = target.plan_funding(STOP)
    receipts = iter(target.fund(STOP, plan, QUIET))
    for _ in range(2):
        next(receipts)
    assert kinds(target.plan_funding(STOP)) == ["end", "withdraw"]
    list(target.fund(STOP, plan, QUIET))
    assert running(cloud) == []


def test_what_was_not_shown_is_not_ended(cloud: OnchainStorage, target: FilecoinTarget) -> None:
    plan = target.plan_funding(STOP)
    third = cloud.target(copies=3)
    third.publish(bundle("later"), LABEL, QUIET)
    with pytest.raises(SafetyError, match="more is missing now than was shown: end data set 3"):
        list(target.fund(STOP, plan, QUIET))
    assert len(running(cloud)) == 3


@pytest.fixture
def reconcile(
    cloud: OnchainStorage,
    target: FilecoinTarget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> CommandLine:
    made = CommandLine(tmp_path, monkeypatch, capsys)
    write_paid_target(made, cloud)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return made


def test_the_command_shows_asks_and_stops(cloud: OnchainStorage, reconcile: CommandLine) -> None:
    shown = reconcile("fund", "paid", "--stop")
    assert (shown.code, len(running(cloud))) == (4, 2)
    assert "- end data set 1 with provider " in shown.out
    assert "4 transactions to send." in shown.out
    done = reconcile("fund", "paid", "--stop", "--yes", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert_document("fund", document)
    assert [item["action"] for item in document["items"]] == ["revoke", "end", "end", "withdraw"]
    assert running(cloud) == []
    again = reconcile("fund", "paid", "--stop", "--yes")
    assert (again.code, "Nothing is left to stop." in again.out) == (0, True)
    mixed = reconcile("fund", "paid", "--stop", "--days", "3")
    assert (mixed.code, "--stop deposits nothing" in mixed.err) == (2, True)


def test_storage_that_versions_still_require_is_not_ended(
    cloud: OnchainStorage, reconcile: CommandLine
) -> None:
    cid = bundle("stops").layout.root
    index = reconcile.root / "releases/index.yaml"
    version = f'"1.0.0": {{cid: "{cid}"}}'
    index.write_text(
        f"schema: 1\nid: acme\ndefaults: {{targets: [paid]}}\n"
        f"models:\n  m: {{license: MIT, versions: {{{version}}}}}\n"
    )
    refused = reconcile("fund", "paid", "--stop", "--yes")
    assert refused.code == 4
    assert "m@1.0.0 shall still be kept on 'paid'" in refused.err
    assert len(running(cloud)) == 2
    index.write_text(index.read_text().replace(f'"{cid}"', f'"{cid}", retired: true'))
    assert reconcile("fund", "paid", "--stop", "--yes").code == 0
    assert running(cloud) == []
