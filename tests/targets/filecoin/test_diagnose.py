"""`doctor` names every missing piece: money, allowances, keys, providers, nodes and contracts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.deals.onchain.interface import SigningScope
from reconciler.deals.onchain.wallet import approve_call, login_call, withdraw_call
from reconciler.progress import QUIET
from reconciler.targets.filecoin.target import FilecoinTarget
from reconciler.targets.interface import Diagnosis
from tests.support.onchain.lab import KEYS, OWNERS, UNIT
from tests.support.onchain.payer import key
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import bundle
from tests.targets.filecoin.test_costs import LABEL

SESSION = {"key_env": "SESSION", "payer": OWNERS[0], "environ": {"SESSION": KEYS[3]}}


def found(target: FilecoinTarget) -> dict[str, Diagnosis]:
    """The worst finding of each subject."""
    worst: dict[str, Diagnosis] = {}
    rank = {False: 0, None: 1, True: 2}
    for each in target.diagnose():
        known = worst.get(each.subject)
        if known is None or rank[each.ok] < rank[known.ok]:
            worst[each.subject] = each
    return worst


def grant(cloud: OnchainStorage, days: float, scopes: tuple[SigningScope, ...]) -> None:
    view = cloud.payer.view()
    end = int(view.block.timestamp + days * 86_400)
    cloud.payer.wallet.carry_out(login_call(view.contracts, key(3).address, end, scopes))


BOTH = (SigningScope.CREATE_DATA_SET, SigningScope.ADD_PIECES)


def test_everything_in_order_is_said_to_be(cloud: OnchainStorage) -> None:
    grant(cloud, 90, BOTH)
    target = cloud.target(copies=2, **SESSION)
    target.publish(bundle("one copy"), LABEL, QUIET)
    seen = found(target)
    assert [each.text for each in seen.values() if each.ok is not True] == []
    assert "FilecoinWarmStorageService 1.3.1, PDPVerifier 3.4.0" in seen["chain"].text
    assert "4.9" in seen["balance"].text
    assert "until 20" in seen["balance"].text
    assert seen["data sets"].text == "2 running of 2"
    assert sum(subject.startswith("provider ") for subject in seen) == 2


def exhaust(cloud: OnchainStorage) -> None:
    cloud.target().publish(bundle("one copy"), LABEL, QUIET)
    view = cloud.payer.view()
    account = view.account(cloud.payer.key.address)
    left = account.funds - account.lockup - account.rate * 100
    cloud.payer.wallet.carry_out(withdraw_call(view, left))
    cloud.lab.mine(200)


def empty(cloud: OnchainStorage) -> None:
    cloud.payer.wallet.carry_out(withdraw_call(cloud.payer.view(), 5 * UNIT))


def disapprove(cloud: OnchainStorage) -> None:
    cloud.payer.wallet.carry_out(approve_call(cloud.payer.view(), approved=False))


def allow_little(cloud: OnchainStorage) -> None:
    cloud.payer.wallet.carry_out(approve_call(cloud.payer.view(), rate_allowance=0))


def pause(cloud: OnchainStorage) -> None:
    cloud.lab.tell("pause(bool)", True)


def announce(cloud: OnchainStorage) -> None:
    cloud.lab.tell("announce(address,uint96)", OWNERS[3], 9000)


def other_chain(cloud: OnchainStorage) -> None:
    assert cloud.lab.fake is not None
    cloud.lab.fake.chain_id = 314


def unknown_version(cloud: OnchainStorage) -> None:
    cloud.lab.send(OWNERS[3], cloud.lab.service, "become(string)", "9.0.0")


def no_gas(cloud: OnchainStorage) -> None:
    assert cloud.lab.fake is not None
    cloud.lab.fake.poor.add(OWNERS[0])


@pytest.mark.parametrize(
    ("change", "subject", "ok", "text", "hint"),
    [
        (exhaust, "balance", False, "the account is exhausted", "reconcile fund"),
        (empty, "balance", False, "a data set needs 0.1", "reconcile fund"),
        (disapprove, "allowance", False, "not approved", "reconcile fund"),
        (allow_little, "allowance", False, "an epoch: 0 USDFC of 0 USDFC used", "reconcile fund"),
        (pause, "contracts", False, "FilecoinWarmStorageService is paused", "stays stored"),
        (announce, "chain", None, "9000", ""),
        (other_chain, "chain", False, "is on the chain 314, not on devnet (31415926)", "network and rpc"),
        (unknown_version, "chain", False, "9.0.0", ""),
        (no_gas, "gas", None, "has no FIL", "publishing needs none"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_the_way_out(
    cloud: OnchainStorage,
    change: Callable[[OnchainStorage], None],
    subject: str,
    ok: bool | None,
    text: str,
    hint: str,
) -> None:
    change(cloud)
    finding = found(cloud.target())[subject]
    assert (finding.ok, text in finding.text, hint in finding.hint) == (ok, True, True), finding


def test_a_runway_shorter_than_the_limit_is_named(cloud: OnchainStorage) -> None:
    target = cloud.target(min_runway_days=36_500)
    cloud.target().publish(bundle("one copy"), LABEL, QUIET)
    finding = found(target)["balance"]
    assert (finding.ok, finding.hint) == (False, "run reconcile fund filecoin --days 36500")


@pytest.mark.parametrize(
    ("days", "scopes", "ok", "text"),
    [
        (90, BOTH[:1], False, "was never allowed to sign AddPieces"),
        (90, BOTH[1:], False, "was never allowed to sign CreateDataSet"),
        (20, BOTH, None, "CreateDataSet until"),
        (-1, BOTH, False, "CreateDataSet ended"),
    ],
)  # fmt: skip
def test_the_scopes_of_a_session_key_are_named(
    cloud: OnchainStorage, days: int, scopes: tuple[SigningScope, ...], ok: bool | None, text: str
) -> None:
    grant(cloud, days, scopes)
    finding = found(cloud.target(**SESSION))["session key"]
    assert (finding.ok, text in finding.text, "reconcile fund" in finding.hint) == (ok, True, True), finding


def test_the_payers_own_key_and_no_key_are_pointed_out(cloud: OnchainStorage) -> None:
    assert "may do everything" in found(cloud.target())["key"].text
    reader = found(cloud.target(key_env=None, payer=OWNERS[0]))["key"]
    assert (reader.ok, reader.text) == (None, "no key_env: the storage is only read")


def test_a_provider_that_is_down_unknown_or_retired_is_named(cloud: OnchainStorage) -> None:
    cloud.providers[1].faults["down"] = True
    cloud.lab.tell("retire(uint256)", 2)
    seen = found(cloud.target(providers=["1", "2", "3", "9"]))
    assert [seen[name].ok for name in ("provider 1 (alpha)", "provider 2 (beta)", "provider 3 (gamma)")] == [
        False,
        False,
        True,
    ]
    assert seen["provider 9"].text == "there is no provider 9 that stores pieces"
    assert "no longer active" in seen["provider 2 (beta)"].text


def test_a_node_that_is_down_is_one_finding(cloud: OnchainStorage) -> None:
    (finding,) = cloud.target(rpc=["http://127.0.0.1:9"]).diagnose()
    assert (finding.subject, finding.ok) == ("chain", False)
