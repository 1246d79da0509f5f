"""`reconcile status --probe`, with a router and providers on loopback."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command_line import CommandLine
from tests.support.gateway import served
from tests.support.http_peer import Asked, Said, http_peer


def test_providers_are_shown_and_nothing_is_written(reconcile: CommandLine, tmp_path: Path) -> None:
    assert reconcile("--only", "llm@1.0.0").code == 0
    before = reconcile.files()
    store = reconcile.root / ".reconcile" / "store"
    with http_peer(lambda _: Said(200, b"lies")) as liar, served(tmp_path, store) as gateway:

        def route(asked: Asked) -> Said:
            named = [("good", gateway.url), ("liar", liar.url), ("p2p", "")]
            records = [{"Schema": "peer", "ID": peer, "Addrs": [_multiaddr(url)]} for peer, url in named]
            return Said(200, json.dumps({"Providers": records}).encode())

        with http_peer(route) as router:
            given = ("status", "--only", "llm@1.0.0", "--probe", "--router", router.url)
            done = reconcile(*given, "--allow-private")
            document = reconcile(*given, "--allow-private", "--json").document
            careful = reconcile(*given, "--json").document
    assert done.code == 0
    assert f"served      {gateway.url}" in done.out
    assert f"wrong bytes {liar.url}" in done.out
    assert "not probed  p2p  (no HTTP address)" in done.out
    assert "Probes: 1 of 2 providers served the requested blocks." in done.out
    (probed,) = document["probes"]
    assert [provider["verdict"] for provider in probed["providers"]] == [
        "served",
        "wrong bytes",
        "not probed",
    ]
    assert {provider["verdict"] for provider in careful["probes"][0]["providers"]} == {"not probed"}
    assert reconcile.files() == before


def _multiaddr(url: str) -> str:
    return f"/ip4/127.0.0.1/tcp/{url.rpartition(':')[2]}/http" if url else "/ip4/1.2.3.4/udp/4001/quic-v1"


def test_a_router_that_is_down_is_reported_for_the_version(reconcile: CommandLine) -> None:
    assert reconcile("--only", "llm@1.0.0").code == 0
    with http_peer(lambda _: Said(500)) as router:
        done = reconcile("status", "--only", "llm@1.0.0", "--probe", "--router", router.url)
    assert done.code == 5
    assert "! router: failed (HTTP 500)" in done.out


def test_the_options_of_a_probe_need_one(reconcile: CommandLine) -> None:
    done = reconcile("status", "--allow-private")
    assert (done.code, done.out) == (2, "")
    assert "require --probe" in done.err
