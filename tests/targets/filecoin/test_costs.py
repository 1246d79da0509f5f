"""What the plan predicts of a delivery is what the run does: calls, signatures, requests and money."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from reconciler.content.car import shard_spans
from reconciler.content.dag import Dag
from reconciler.deals.onchain.money import UNIT
from reconciler.deals.onchain.signing import UploadSigner
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.filecoin.target import FilecoinTarget
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.pricing import PlannedDelivery, Pricing, Quote
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import Builder, bundle

LABEL = Label("reconciler/acme/model@1.0.0")
SMALL = 20_000  # three shards of a bundle
_WRITES = ("POST", "PUT")


@dataclass
class Signatures:
    """Counts what a target signs."""

    made: list[str] = field(default_factory=list)


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> Signatures:
    seen = Signatures()
    for name in ("create_data_set", "add_pieces"):
        real = getattr(UploadSigner, name)

        def counted(*rest: object, real: Callable[..., bytes] = real, name: str = name) -> bytes:
            seen.made.append(name)
            return real(*rest)

        monkeypatch.setattr(UploadSigner, name, counted)
    return seen


def planned(target: FilecoinTarget, dag: Dag, label: Label = LABEL) -> PlannedDelivery:
    assert target.capabilities.sharding is not None
    spans = shard_spans(dag.layout, target.capabilities.sharding)
    return PlannedDelivery(dag.layout.root, label, tuple(span.size for span in spans))


def observed(target: FilecoinTarget, *dags: Dag) -> None:
    expected = [Expected(dag.layout.root, (LABEL,), dag.layout) for dag in dags]
    target.observe(expected, Check.QUICK, LABEL.mark, QUIET)


def requests(cloud: OnchainStorage) -> int:
    """Writing requests; the same pull again only asks how it goes."""
    count = 0
    for provider in cloud.providers.values():
        pulls = set()
        for asked in provider.asked:
            if asked.target == "/pdp/piece/pull":
                pulls.add(hashlib.sha256(asked.body).digest())
            elif asked.method in _WRITES:
                count += 1
        count += len(pulls)
    return count


def transactions(cloud: OnchainStorage) -> int:
    adding = re.compile(r"/pdp/data-sets/(create-and-add|\d+/pieces)")
    return sum(
        asked.method == "POST" and adding.fullmatch(asked.target) is not None
        for provider in cloud.providers.values()
        for asked in provider.asked
    )


def total(pricing: Pricing) -> Quote:
    return sum(pricing.quotes[1:], pricing.quotes[0])


def check_run(
    cloud: OnchainStorage, target: FilecoinTarget, dags: Sequence[Dag], signed: Signatures
) -> Quote:
    """Price deliveries, make them, and compare everything."""
    observed(target, *dags)
    quote = total(target.price([planned(target, dag) for dag in dags]))
    payer = cloud.payer.key.address
    before = cloud.payer.view().account(payer)
    begun = len(signed.made), requests(cloud), transactions(cloud)
    for dag in dags:
        assert target.publish(dag, LABEL, QUIET).state is State.HELD
    after = cloud.payer.view().account(payer)
    assert quote.once == Decimal(before.funds - after.funds) / UNIT
    assert quote.monthly == Decimal((after.rate - before.rate) * 86_400) / UNIT
    assert (quote.signatures, quote.requests, quote.transactions) == (
        len(signed.made) - begun[0],
        requests(cloud) - begun[1],
        transactions(cloud) - begun[2],
    )
    return quote


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_prediction_is_what_a_run_does(cloud: OnchainStorage, signed: Signatures, copies: int) -> None:
    target = cloud.target(copies=copies, max_bytes=SMALL)
    quote = check_run(cloud, target, [bundle("nested"), bundle("many blocks")], signed)
    assert quote.transactions == 2 * copies


def test_a_prediction_counts_the_calls_of_many_pieces(cloud: OnchainStorage, signed: Signatures) -> None:
    build = Builder("many pieces")
    dag = build.dag(build.directory("", [build.file(f"{number}.bin", 20, 1000) for number in range(5)]))
    quote = check_run(cloud, cloud.target(copies=2, max_bytes=3_000), [dag], signed)
    assert quote.transactions == 4, "forty pieces a call, with each of two providers"


def test_a_second_version_pays_for_no_data_set(cloud: OnchainStorage, signed: Signatures) -> None:
    target = cloud.target(max_bytes=SMALL)
    first = check_run(cloud, target, [bundle("nested")], signed)
    second = check_run(cloud, target, [bundle("one copy")], signed)
    assert first.once - second.once >= Decimal("0.02")


def test_what_is_there_costs_nothing_again(cloud: OnchainStorage) -> None:
    target, dag = cloud.target(copies=2, max_bytes=SMALL), bundle("nested")
    delivery = target.publish(dag, LABEL, QUIET)
    observed(target, dag)
    again = PlannedDelivery(dag.layout.root, LABEL, planned(target, dag).sizes, delivery.pieces)
    assert target.price([again]).quotes == (Quote("USDFC"),)
    assert target.price([]).quotes == ()


def test_a_limit_refuses_and_a_shortfall_is_named(cloud: OnchainStorage) -> None:
    dag = bundle("nested")
    for options, word in (
        ({"max_upload": "0.001 USDFC"}, "max_upload"),
        ({"max_monthly": "0.001"}, "max_monthly"),
        ({"min_runway_days": 36_500}, "min_runway_days"),
    ):
        target = cloud.target(max_bytes=SMALL, **options)
        (refusal,) = target.price([planned(target, dag)]).refusals
        assert word in refusal.text
        assert refusal.hint
        assert target.price([]).refusals == (), "nothing is sent, so nothing is refused"


def test_the_account_is_that_of_the_chain(cloud: OnchainStorage) -> None:
    target = cloud.target(copies=2, max_bytes=SMALL)
    target.publish(bundle("nested"), LABEL, QUIET)
    account = target.price([]).account
    view = cloud.payer.view()
    found = view.account(cloud.payer.key.address)
    assert account.deposit == Decimal(found.funds) / UNIT
    assert account.monthly == Decimal(found.rate * 86_400) / UNIT
    assert account.deposit == account.available + account.locked
    assert (account.approved, account.monthly_allowance, account.problems) == (True, None, ())
    assert account.exhausted is not None
    assert account.ends is not None
    assert (account.ends - account.exhausted).days == 30


def test_an_exhausted_account_is_a_problem(cloud: OnchainStorage) -> None:
    from reconciler.deals.onchain.wallet import withdraw_call

    target = cloud.target(max_bytes=SMALL)
    target.publish(bundle("nested"), LABEL, QUIET)
    view = cloud.payer.view()
    funded = view.account(cloud.payer.key.address)
    available = funded.funds - funded.lockup - funded.rate * 100
    cloud.payer.wallet.carry_out(withdraw_call(view, available))
    cloud.lab.mine(200)
    pricing = cloud.target(max_bytes=SMALL)
    found = pricing.price([planned(pricing, bundle("one copy"))])
    assert "the account is exhausted" in found.account.problems[0].text
    assert "the account is exhausted" in found.shortfalls[0].text
