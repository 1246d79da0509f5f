"""The options of an entry of targets.yaml, and the choice of origins."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError, UserError, Where
from reconciler.index.model import TargetSpec
from reconciler.net.multiaddr import names_peer
from reconciler.targets.pinning_service import PinningOptions, open_target, read_options
from reconciler.targets.pinning_service.api import MAX_ORIGINS
from reconciler.targets.pinning_service.target import choose_origins

PUBLIC = "/ip4/93.184.215.14/tcp/4001/p2p/12D3KooWA"
NAMED = "/dns4/node.example/tcp/4001/p2p/12D3KooWB"
PRIVATE = "/ip4/10.0.0.7/tcp/4001/p2p/12D3KooWC"
LOCAL = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWD"
LOCAL6 = "/ip6/::1/tcp/4001/p2p/12D3KooWE"


def options(**values: object) -> PinningOptions:
    base = {"endpoint": "https://pins.example/psa", "token_env": "TOKEN"}
    spec = TargetSpec("pins", "pinning-service", base | values, Where("targets.yaml", 7))
    return read_options(spec, {"TOKEN": "canary"})


def test_options_are_read_without_showing_the_secret() -> None:
    found = options(origins=[PUBLIC], poll=30)
    assert (found.endpoint, found.origins, found.poll) == ("https://pins.example/psa", (PUBLIC,), 30.0)
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"origins": ["node.example:4001"]}, "is not the address of an IPFS node"),
        ({"origins": ["/ip4/1.2.3.4/tcp/4001"]}, "is not the address of an IPFS node"),
        ({"origins": [PUBLIC] * 21}, "has 21 origins"),
        ({"poll": -1}, "is not a number of seconds"),
        ({"poll": "soon"}, "is not a number of seconds"),
        ({"poll": True}, "is not a number of seconds"),
    ],
)
def test_an_invalid_option_is_an_error_with_its_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidIndexError, match=message) as caught:
        options(**values)
    assert caught.value.where == Where("targets.yaml", 7)


def test_opening_sends_no_request(tmp_path: Path) -> None:
    values = {"endpoint": "http://127.0.0.1:9", "token_env": "TOKEN"}
    spec = TargetSpec("pins", "pinning-service", values, Where("targets.yaml"))
    target = open_target(spec, root=tmp_path, environ={"TOKEN": "canary"})
    assert not target.capabilities.takes_bytes
    target.close()
    with pytest.raises(UserError, match="TOKEN"):
        open_target(spec, root=tmp_path, environ={})


@pytest.mark.parametrize("text", ["", "x/p2p/y", "/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4 /p2p/Q", "/ip4/é/p2p/Q"])
def test_a_malformed_address_names_no_peer(text: str) -> None:
    assert not names_peer(text)


def test_unreachable_addresses_are_left_out_and_public_ones_come_first() -> None:
    offered = [LOCAL, PRIVATE, "rubbish", PUBLIC, LOCAL6, NAMED]
    assert choose_origins((), offered, near=False) == (PUBLIC, NAMED, PRIVATE)
    assert choose_origins((), offered, near=True) == (PUBLIC, NAMED, PRIVATE, LOCAL, LOCAL6)


def test_configured_origins_come_first_and_no_more_than_allowed_are_sent() -> None:
    offered = [f"/ip4/93.184.215.14/tcp/{port}/p2p/12D3KooWA" for port in range(1, 40)]
    chosen = choose_origins((LOCAL, PRIVATE), offered, near=False)
    assert chosen[:2] == (LOCAL, PRIVATE)
    assert len(chosen) == MAX_ORIGINS
