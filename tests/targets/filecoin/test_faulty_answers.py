"""Every kind of faulty answer at every endpoint that a publication uses: it ends well or with one error,
and the next run with both copies, each paid for once.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest

from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.deadline import Timeouts
from reconciler.net.retry import RetryBudget
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, State
from tests.support.fault_proxy import FAULTS, FaultProxy
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import bundle
from tests.targets.filecoin.test_publish_faults import assert_paid_once, look

LABEL = Label("reconciler/acme/model@1.0.0")
#: part of the path, and the provider that gets such a request
ENDPOINTS = {
    "ping": ("/pdp/ping", 1),
    "upload": ("/pdp/piece/uploads", 1),
    "bytes": ("/pdp/piece/uploads/", 1),
    "question": ("/pdp/piece?", 1),
    "addition": ("/pdp/data-sets/create-and-add", 1),
    "status": ("/pdp/data-sets/created/", 1),
    "pull": ("/pdp/piece/pull", 2),
}
#: run always
SOME = {("addition", "500-carried-out"), ("bytes", "stalled")}


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        pytest.param(endpoint, fault, marks=() if (endpoint, fault) in SOME else pytest.mark.slow)
        for endpoint in ENDPOINTS
        for fault in FAULTS
    ],
)
def test_a_faulty_answer_costs_nothing_twice(
    cloud: OnchainStorage, monkeypatch: pytest.MonkeyPatch, endpoint: str, fault: str
) -> None:
    path, number = ENDPOINTS[endpoint]
    dag = bundle(f"{endpoint} {fault}")
    behind = cloud.providers[number].url.rpartition(":")[2]
    assert cloud.lab.fake is not None
    with FaultProxy("127.0.0.1", int(behind)) as proxy:
        cloud.lab.fake.contracts.providers[number - 1]["url"] = proxy.url
        proxy.arm(FAULTS[fault], path=path, times=1)
        with suppress(PeerError), monkeypatch.context() as patch:
            patch.setattr("reconciler.net.client.Timeouts", partial(Timeouts, silence=1.0, total=6.0))
            cloud.target(copies=2, providers=[1, 2], budget=RetryBudget()).publish(dag, LABEL, QUIET)
        assert proxy.hits == 1
        target = cloud.target(copies=2, providers=[1, 2], budget=RetryBudget())
        assert target.publish(dag, LABEL, QUIET).state is State.HELD
        assert look(target, dag, Check.FULL).state is State.HELD
    assert_paid_once(cloud, 1)
