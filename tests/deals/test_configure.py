"""The options `network`, `rpc` and `rpc_token_env` of a target."""

from __future__ import annotations

import pytest

from reconciler.deals.chain import CALIBRATION, MAINNET, ChainQuery, open_chain
from reconciler.deals.interface import DealState
from reconciler.deals.judge import check_deals
from reconciler.errors import UsageError
from tests.deals.samples import AGGREGATE, HEAD, TERMS, claim
from tests.support.fake_lotus import fake_lotus


def test_without_an_rpc_there_is_a_chain_and_no_node() -> None:
    access = open_chain({"space": "did:key:z"}, {}, name="storage")
    assert (access.chain, access.rpc) == (MAINNET, None)
    assert open_chain({"network": "calibration"}, {}, name="storage").chain == CALIBRATION


def test_the_token_of_the_environment_is_sent_to_the_node() -> None:
    with fake_lotus(head=HEAD) as node:
        node.add_deal(7700001, AGGREGATE.cid)
        options = {"rpc": node.url, "rpc_token_env": "LOTUS"}
        access = open_chain(options, {"LOTUS": "sesame"}, name="storage")
        assert access.rpc is not None
        (found,) = check_deals([claim()], ChainQuery(access.rpc), TERMS)
        access.rpc.close()
    assert found.state is DealState.ACTIVE
    assert {asked.headers["authorization"] for asked in node.asked} == {"Bearer sesame"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": "devnet"}, "devnet"),
        ({"rpc_token_env": "LOTUS"}, "without rpc"),
        ({"rpc": "lotus"}, "storage"),
        ({"rpc": "https://user:secret-word@node.example/rpc/v1"}, "user name or password"),
        ({"rpc": "https://node.example/rpc/v1", "rpc_token_env": "NOT_SET"}, "NOT_SET"),
    ],
)
def test_an_invalid_option_is_reported_without_its_secret(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_chain(options, {}, name="storage")
    assert said in str(caught.value)
    assert "secret-word" not in f"{caught.value} {caught.value.hint}"
