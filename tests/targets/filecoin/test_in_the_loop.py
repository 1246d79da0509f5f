"""A run over Filecoin Onchain Cloud: limits, upgrades of contracts, and one policy for all deals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.deals.interface import DealState
from reconciler.errors import SafetyError
from reconciler.loop.changes import Blocked, OutcomeState, Publish
from reconciler.loop.settings import ProposeMode
from reconciler.loop.status import ReleaseStatus
from reconciler.render.status import status_text
from reconciler.render.text import plan_text, report_text
from tests.support.onchain.lab import OWNERS
from tests.support.onchain.storage import OnchainStorage, onchain_storage
from tests.support.releases import Releases, kinds, states, with_memory


@pytest.fixture
def cloud() -> Iterator[OnchainStorage]:
    with onchain_storage() as running:
        yield running


class Repository:
    """Releases on a store in memory and on Filecoin; the target is opened anew for each run."""

    def __init__(self, root: Path, cloud: OnchainStorage, **options: Any) -> None:
        self.cloud, self.options = cloud, options
        self.releases: Releases = with_memory(root, "node", "filecoin")
        self.releases.add("m@1.0.0", {"a.bin": b"a" * 5000})

    def run(self, act: Callable[..., Any], **settings: Any) -> Any:
        self.releases.memory["filecoin"] = self.cloud.target(**self.options)  # type: ignore[assignment]
        return act(**settings)

    def plan(self) -> Any:
        return self.run(self.releases.plan)

    def apply(self) -> Any:
        return self.run(self.releases.apply)

    def status(self) -> ReleaseStatus:
        found: ReleaseStatus = self.run(self.releases.status)
        return found


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_upload": "0.001 USDFC"}, "more than max_upload"),
        ({"max_monthly": "0.001 USDFC"}, "more than max_monthly"),
        ({"min_runway_days": 36_500}, "fewer than min_runway_days"),
    ],
)
def test_a_limit_refuses_the_whole_run_before_anything_is_sent(
    tmp_path: Path, cloud: OnchainStorage, limit: dict[str, Any], words: str
) -> None:
    repository = Repository(tmp_path, cloud, **limit)
    assert "refused: filecoin: " in plan_text(repository.plan())
    with pytest.raises(SafetyError, match=words) as caught:
        repository.apply()
    assert caught.value.exit_code == 4
    assert caught.value.hint
    assert all(asked.method == "GET" for each in cloud.providers.values() for asked in each.asked)
    assert cloud.payer.view().data_set_ids(cloud.payer.key.address) == ()


def test_the_limits_are_about_all_versions_of_the_plan_together(
    tmp_path: Path, cloud: OnchainStorage
) -> None:
    repository = Repository(tmp_path, cloud, max_upload="0.0263 USDFC")
    repository.releases.add("m@1.1.0", {"a.bin": b"b" * 5000})
    assert [refusal.rule for refusal in repository.plan().refusals] == ["spending"], "0.0258 and 0.0008"
    repository.releases.remove("m@1.1.0")
    assert repository.plan().refusals == ()


def test_a_run_publishes_what_the_plan_priced_and_the_next_plan_is_empty(
    tmp_path: Path, cloud: OnchainStorage
) -> None:
    repository = Repository(tmp_path, cloud, copies=2)
    plan = repository.plan()
    (cost,) = plan.costs.values()
    before = cloud.payer.view().account(cloud.payer.key.address).funds
    report = repository.apply()
    spent = before - cloud.payer.view().account(cloud.payer.key.address).funds
    assert int(cost.once.scaleb(18)) == spent
    assert "filecoin: " in report_text(report)
    again = repository.plan()
    assert (kinds(again), again.costs, list(again.accounts)) == ([], {}, ["filecoin"])


def test_one_policy_covers_the_copies_and_status_shows_them_as_deals(
    tmp_path: Path, cloud: OnchainStorage
) -> None:
    repository = Repository(tmp_path, cloud, copies=1)
    repository.apply()
    assert repository.plan().in_sync == 2
    repository.releases.policy = {"deals": {"min": 2, "providers": 2}}
    plan = repository.plan()
    (change,) = [each for each in plan.changes if each.target == "filecoin"]
    assert change.cost is not None, "the second copy has its price"
    repository.apply()
    assert [each.kind for each in repository.plan().changes if each.target == "filecoin"] == ["wait"]
    cloud.prove()
    assert repository.plan().in_sync == 2
    status = repository.status()
    (holding,) = [each for each in status.holdings if each.target == "filecoin"]
    assert [deal.state for deal in holding.deals] == [DealState.ACTIVE] * 2
    assert "2 deals active; 1 piece" in status_text(status)
    assert "exhausted 20" in status_text(status, deals=True)


def test_a_contract_of_an_unknown_version_is_unknown_and_nothing_is_sent(
    tmp_path: Path, cloud: OnchainStorage
) -> None:
    cloud.lab.send(OWNERS[3], cloud.lab.service, "become(string)", "9.0.0")
    repository = Repository(tmp_path, cloud)
    (change,) = [each for each in repository.plan().changes if each.target == "filecoin"]
    assert isinstance(change, Blocked)
    assert (change.unknown, "9.0.0" in change.reason) == (True, True)
    report = repository.apply()
    assert [each[3] for each in states(report) if each[2] == "filecoin"] == [OutcomeState.UNKNOWN]
    assert not any(each.asked for each in cloud.providers.values())


def test_an_announced_upgrade_is_a_note_and_stops_nothing(tmp_path: Path, cloud: OnchainStorage) -> None:
    cloud.lab.tell("announce(address,uint96)", OWNERS[3], 9000)
    repository = Repository(tmp_path, cloud)
    plan = repository.plan()
    assert any("9000" in note for note in plan.notes)
    assert any(isinstance(each, Publish) and each.cost is not None for each in plan.changes)


def test_an_account_without_money_blocks_filecoin_and_no_other_target(tmp_path: Path) -> None:
    with onchain_storage(funds=0) as cloud:
        repository = Repository(tmp_path, cloud)
        report = repository.run(repository.releases.apply, propose=ProposeMode.NONE)
        found = {each[2]: each[3] for each in states(report)}
        assert found == {"node": OutcomeState.APPLIED, "filecoin": OutcomeState.BLOCKED}
        assert "reconcile fund filecoin --deposit '" in report_text(report)
