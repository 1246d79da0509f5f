"""What happens on the chain in the middle of a run: it ends with one clear error, and the next run with every
copy, each sent and paid for once.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.deals.onchain.interface import UPLOAD_SCOPES
from reconciler.deals.onchain.wallet import approve_call, deposit_call, login_call, withdraw_call
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.errors import AccessDeniedError
from reconciler.progress import QUIET
from reconciler.targets.filecoin.target import FilecoinTarget
from reconciler.targets.interface import Check, State
from tests.support.http_peer import Asked, Said
from tests.support.onchain.lab import KEYS, OWNERS, UNIT
from tests.support.onchain.payer import key
from tests.support.onchain.pdp_provider import PdpProvider
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import bundle, large_file
from tests.targets.filecoin.test_publish_faults import LIMIT, assert_paid_once, look

LABEL = Label("reconciler/acme/model@1.0.0")
SESSION = {"payer": OWNERS[0], "environ": {"FILECOIN_KEY": KEYS[3]}}


def once_before(provider: PdpProvider, request: str, act: Callable[[], object]) -> None:
    """Call `act` before the provider handles the first request whose method and path match `request`."""
    original = provider.answer
    done: list[bool] = []

    def answer(asked: Asked) -> Said:
        if not done and re.search(request, f"{asked.method} {asked.target}"):
            done.append(True)
            act()
        return original(asked)

    provider.answer = answer  # type: ignore[method-assign]


def carry_out(cloud: OnchainStorage, make: Callable[..., object], *rest: object, **more: object) -> None:
    cloud.payer.wallet.carry_out(make(cloud.payer.view(), *rest, **more))  # type: ignore[arg-type]


def grant(cloud: OnchainStorage, seconds: int) -> None:
    """Let the session key sign uploads for so long, from the newest block on."""
    view = cloud.payer.view()
    until = view.block.timestamp + seconds
    cloud.payer.wallet.carry_out(login_call(view.contracts, key(3).address, until, UPLOAD_SCOPES))


def spend(cloud: OnchainStorage) -> None:
    carry_out(cloud, withdraw_call, 5 * UNIT)


def earn(cloud: OnchainStorage) -> None:
    carry_out(cloud, deposit_call, cloud.payer.key, 5 * UNIT)


def exhaust(cloud: OnchainStorage) -> None:
    account = cloud.payer.view().account(cloud.payer.key.address)
    carry_out(cloud, withdraw_call, account.funds - account.lockup - account.rate * 100)
    cloud.lab.mine(200)


def disapprove(cloud: OnchainStorage) -> None:
    carry_out(cloud, approve_call, approved=False)


def allow_no_rate(cloud: OnchainStorage) -> None:
    carry_out(cloud, approve_call, rate_allowance=0)


def allow_no_lockup(cloud: OnchainStorage) -> None:
    carry_out(cloud, approve_call, lockup_allowance=0)


def approve(cloud: OnchainStorage) -> None:
    carry_out(cloud, approve_call)


def expire(cloud: OnchainStorage) -> None:
    grant(cloud, -1)


def renew(cloud: OnchainStorage) -> None:
    grant(cloud, 100_000)


Act = Callable[[OnchainStorage], None]
#: what happens while the bytes are sent, what the error and its hint say, and what cures it
CASES: dict[str, tuple[Act, str, str, Act]] = {
    "the deposit is withdrawn": (spend, "are needed, and 0 USDFC are available", "fund filecoin", earn),
    "the approval is withdrawn": (disapprove, "has not approved the service", "fund filecoin", approve),
    "no allowance for an epoch": (
        allow_no_rate,
        "the payer allows the service 0 USDFC",
        "fund filecoin",
        approve,
    ),
    "no allowance for lockup": (
        allow_no_lockup,
        "the payer allows the service 0 USDFC",
        "fund filecoin",
        approve,
    ),
    "the session ends": (expire, "may not sign this for", "has not expired", renew),
}


def assert_stopped_and_continued(
    cloud: OnchainStorage, tmp_path: Path, act: Act, message: str, hint: str, cure: Act
) -> None:
    renew(cloud)
    dag = large_file(f"{message} {hint}")
    before = set(cloud.stored)

    def opened() -> FilecoinTarget:
        return cloud.target(max_bytes=LIMIT, providers=[1], cache=tmp_path, **SESSION)  # type: ignore[arg-type]

    once_before(cloud.providers[1], "PUT /pdp/piece", lambda: act(cloud))
    with pytest.raises(PeerError, match=r"provider 1 \(alpha\): ") as caught:
        opened().publish(dag, LABEL, QUIET)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    cure(cloud)
    assert opened().publish(dag, LABEL, QUIET).state is State.HELD
    assert set(cloud.added[1].values()) == {1}
    new = {piece: count for piece, count in cloud.stored.items() if piece not in before}
    assert set(new.values()) == {1}, "what was sent before is not sent again"
    assert len(new) == 3


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if number in (0, 4) else pytest.mark.slow)
        for number, case in enumerate(CASES)
    ],
)
def test_money_or_permission_that_ends_in_mid_run(cloud: OnchainStorage, tmp_path: Path, case: str) -> None:
    assert_stopped_and_continued(cloud, tmp_path, *CASES[case])
    assert_paid_once(cloud, 3, 1)


@pytest.mark.slow
def test_an_account_that_is_exhausted_in_mid_run(cloud: OnchainStorage, tmp_path: Path) -> None:
    cloud.target(providers=[1]).publish(bundle("before"), LABEL, QUIET)
    assert_stopped_and_continued(cloud, tmp_path, exhaust, "is exhausted", "fund filecoin", earn)


def test_an_expired_session_is_named_before_anything_is_sent(cloud: OnchainStorage) -> None:
    expire(cloud)
    with pytest.raises(AccessDeniedError, match=r"CreateDataSet .* the permission ended on 20") as caught:
        cloud.target(**SESSION).publish(bundle("expired"), LABEL, QUIET)  # type: ignore[arg-type]
    assert "reconcile fund filecoin" in (caught.value.hint or "")
    assert not cloud.stored


def test_a_reorganisation_that_takes_an_addition_back_is_made_good(
    cloud: OnchainStorage, tmp_path: Path
) -> None:
    """The blocks with the data set are replaced by others without it, after the run ended well."""
    fake, dag = cloud.lab.fake, large_file("taken back")
    assert fake is not None
    before = copy.deepcopy(fake.contracts)
    target = cloud.target(max_bytes=LIMIT, copies=2, cache=tmp_path)
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    fake.contracts = before
    fake.replace_blocks(fake.head - 3)
    assert look(target, dag, Check.QUICK).state is not State.HELD
    for provider in cloud.providers.values():
        provider.added.clear()
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    assert_paid_once(cloud, 3)
    assert set(cloud.stored.values()) == {1}


def test_a_transaction_that_is_reverted_adds_nothing_and_says_so(cloud: OnchainStorage) -> None:
    """The provider sent it, it is on the chain, and it failed there."""
    provider, dag = cloud.providers[1], bundle("reverted")
    provider.faults["held_back"] = 1
    with pytest.raises(PeerError, match="its transaction failed, and no piece was added"):
        cloud.target(providers=[1]).publish(dag, LABEL, QUIET)
    assert cloud.target(providers=[1]).publish(dag, LABEL, QUIET).state is State.HELD
    assert_paid_once(cloud, 1, 1)


def test_a_transaction_that_was_replaced_is_found_by_its_nonce(cloud: OnchainStorage) -> None:
    """The provider raised its fee: the hash that it named stays pending for ever."""
    cloud.providers[1].faults["tx_lost"] = True
    dag = large_file("replaced")
    target = cloud.target(max_bytes=LIMIT, providers=[1])
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    assert_paid_once(cloud, 3, 1)


@pytest.mark.parametrize(
    "request_",
    ["POST .*/create-and-add", pytest.param("POST .*/data-sets/1/pieces", marks=pytest.mark.slow)],
)
def test_two_runs_that_miss_different_pieces_pay_for_each_once(
    cloud: OnchainStorage, tmp_path: Path, request_: str
) -> None:
    """The first run adds piece by piece, the second one begins in between and adds what it finds missing."""
    dag = large_file("two lists")
    cloud.providers[1].faults["park"] = 1
    first = cloud.target(max_bytes=LIMIT, providers=[1], batch=10, cache=tmp_path / "a")
    second = cloud.target(max_bytes=LIMIT, providers=[1], cache=tmp_path / "b")
    ended: list[State] = []
    once_before(cloud.providers[1], request_, lambda: ended.append(second.publish(dag, LABEL, QUIET).state))
    assert first.publish(dag, LABEL, QUIET).state is State.HELD
    assert ended == [State.HELD]
    assert_paid_once(cloud, 3, 1)
