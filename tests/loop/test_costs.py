"""Plans, reports and status show what targets charge, and limits refuse a run before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from reconciler.content.car import Sharding, shard_spans
from reconciler.errors import PeerError, Reason, SafetyError
from reconciler.loop.changes import Blocked, OutcomeState, Publish
from reconciler.loop.plan_document import plan_document, read_saved, require_same, save_plan
from reconciler.loop.settings import Drift
from reconciler.render.markdown import plan_markdown, report_markdown
from reconciler.render.status import status_document, status_text
from reconciler.render.text import plan_text, report_text
from reconciler.targets.interface import Capabilities
from reconciler.targets.pricing import PayingAccount, PlannedDelivery, Pricing, Quote
from tests.support.memory_target import MemoryTarget
from tests.support.releases import Releases, kinds, states, with_memory

SHARDING = Sharding(1_200_000)
FILES = {"a.bin": b"a" * 1_500_000, "b.bin": bytes(range(256)) * 8000}
ACCOUNT = PayingAccount(
    "0xf39f on devnet",
    "USDFC",
    deposit=Decimal(5),
    available=Decimal("4.75203"),
    locked=Decimal("0.24797"),
    monthly=Decimal("0.048"),
    approved=True,
    monthly_allowance=None,
    lockup_allowance=None,
    exhausted=datetime(2034, 10, 2, tzinfo=UTC),
    ends=datetime(2034, 11, 1, tzinfo=UTC),
    at=datetime(2026, 11, 30, tzinfo=UTC),
)


class PaidTarget(MemoryTarget):
    """A memory target that charges one unit for each CAR."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Capabilities(sharding=SHARDING))
        self.asked: list[PlannedDelivery] = []
        self.pricing = Pricing(ACCOUNT)

    def price(self, deliveries: Sequence[PlannedDelivery]) -> Pricing:
        self._called("price")
        self.asked = list(deliveries)
        quotes = (Quote("USDFC", Decimal(len(each.sizes)), Decimal("0.25"), *[1] * 4) for each in deliveries)
        return replace(self.pricing, quotes=tuple(quotes))


def paid(root: Path) -> tuple[Releases, PaidTarget]:
    """A repository with a target that is paid and one that is not."""
    releases = with_memory(root, "node", "paid")
    target = PaidTarget("paid")
    releases.memory["paid"] = target
    releases.add("m@1.0.0", FILES)
    return releases, target


def test_a_plan_asks_for_the_cost_of_the_cars_that_the_target_will_get(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    with_spans = releases.plan()
    change = next(each for each in with_spans.changes if each.target == "paid")
    assert isinstance(change, Publish)
    assert change.cost is not None
    assert len(target.asked) == 1
    sizes = target.asked[0].sizes
    assert sum(sizes) >= (change.size or 0)
    assert (len(sizes), max(sizes) <= SHARDING.max_bytes) == (4, True)
    assert change.cost.once == 4
    assert with_spans.costs == {"paid": change.cost}
    releases.write()
    with releases.running() as run:
        run.plan()
        dag = run.workspace.sources.dag(run.workspace.selection.versions[0])
        assert dag is not None
        assert [span.size for span in shard_spans(dag.layout, SHARDING)] == list(sizes)


def test_a_cost_is_shown_in_every_form_and_on_no_other_target(tmp_path: Path) -> None:
    releases, _ = paid(tmp_path)
    plan = releases.plan()
    text, markdown = plan_text(plan), plan_markdown(plan)
    line = "costs 4 USDFC once, 0.25 USDFC a month; 1 transaction, 1 signature, 1 request"
    assert text.count(line) == 1
    assert markdown.count("costs 4 USDFC once, 0.25 USDFC a month") == 1
    assert "paid: account 0xf39f on devnet: deposit 5 USDFC (4.7521 USDFC available, " in text
    assert "exhausted 2034-10-02, storage ends 2034-11-01" in text
    assert "; paid: 4 USDFC once, 0.25 USDFC a month." in text
    assert "available" not in markdown, "it changes with every block, and with it the comment"
    items = plan_document(plan)["items"]
    assert [item.get("cost", {}).get("once") for item in items] == [None, "4", None, None]
    report = releases.apply()
    assert "; paid: 4 USDFC once, 0.25 USDFC a month." in report_text(report)
    assert "costs 4 USDFC once" in report_markdown(report)


def test_a_status_shows_the_account_with_deals_and_always_in_json(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    target.pricing = Pricing(replace(ACCOUNT, problems=(Reason("nothing left", "deposit"),)))
    releases.apply()
    status = releases.status()
    assert "account 0xf39f" not in status_text(status)
    assert "allowance unlimited; exhausted 2034-10-02" in status_text(status, deals=True)
    assert "  nothing left — deposit\n" in status_text(status, deals=True)
    (account,) = status_document(status)["accounts"]
    assert (account["deposit"], account["available"], account["monthly_allowance"]) == ("5", "4.75203", None)
    assert account["problems"] == [{"text": "nothing left", "hint": "deposit"}]


def test_nothing_to_send_has_an_account_and_costs_nothing(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    releases.apply()
    plan = releases.plan()
    assert (kinds(plan), plan.costs, target.asked, list(plan.accounts)) == ([], {}, [], ["paid"])


def test_a_limit_refuses_the_run_after_the_plan_is_shown(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    target.pricing = Pricing(ACCOUNT, refusals=(Reason("more than max_upload", "raise max_upload"),))
    plan = releases.plan()
    refusal = plan.refusals[0]
    assert (refusal.rule, refusal.message, refusal.override) == (
        "spending",
        "paid: more than max_upload",
        "raise max_upload",
    )
    assert "refused: paid: more than max_upload\n  hint: raise max_upload" in plan_text(plan)
    with pytest.raises(SafetyError, match="more than max_upload") as caught:
        releases.apply()
    assert caught.value.exit_code == 4
    assert target.calls["publish"] == releases.memory["node"].calls["publish"] == 0


def test_an_account_that_cannot_pay_blocks_its_target_and_no_other(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    lacks = (Reason("not approved", "run fund"), Reason("0 are available", "run fund"))
    target.pricing = Pricing(ACCOUNT, shortfalls=lacks)
    plan = releases.plan()
    blocked = next(each for each in plan.changes if each.target == "paid")
    assert isinstance(blocked, Blocked)
    assert (blocked.reason, blocked.hint) == ("not approved; 0 are available", "run fund")
    assert plan.costs == {}
    report = releases.apply()
    assert target.calls["publish"] == 0
    assert [each[3] for each in states(report)][:2] == [OutcomeState.APPLIED, OutcomeState.BLOCKED]


def test_an_account_that_cannot_be_read_is_unknown_and_pays_nothing(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    target.faults["price"] = PeerError("the RPC is down")
    plan = releases.plan()
    blocked = next(each for each in plan.changes if each.target == "paid")
    assert isinstance(blocked, Blocked)
    assert (blocked.unknown, blocked.reason, plan.accounts) == (True, "the RPC is down", {})
    status = releases.status()
    assert (status.accounts, status.notes) == ({}, ("paid: the account cannot be read: the RPC is down",))


def test_drift_that_is_only_reported_costs_nothing(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    releases.apply()
    target.held.clear()
    assert [type(each) for each in releases.plan(drift=Drift.REPORT).changes] == [Publish]
    assert target.asked == []
    releases.plan()
    assert len(target.asked) == 1


def test_bytes_that_only_another_target_has_are_priced_by_its_layout(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    releases.plan()
    before = target.asked[0].sizes
    releases.apply()
    target.held.clear()
    for file in releases.source("m@1.0.0").iterdir():
        file.unlink()
    releases.change("m@1.0.0", path=None)
    record = releases.root / "releases/records/m/1.0.0.json"
    record.unlink()
    releases.plan(use_cache=False)
    assert (target.asked[0].sizes, target.asked[0].pieces) == (before, None)


def test_a_saved_plan_covers_the_cost_and_not_the_account(tmp_path: Path) -> None:
    releases, target = paid(tmp_path)
    saved = tmp_path / "plan.json"
    save_plan(saved, releases.plan())
    target.pricing = Pricing(replace(ACCOUNT, available=Decimal(1)))
    require_same(read_saved(saved), releases.plan())
    target.price = lambda deliveries: Pricing(ACCOUNT, (Quote("USDFC", Decimal(9)),) * len(deliveries))  # type: ignore[method-assign]
    with pytest.raises(SafetyError, match=r"m@1\.0\.0 on paid"):
        require_same(read_saved(saved), releases.plan())
