"""`doctor`, `adopt` and `status --probe`: what they report, and that only --take changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.forges.github import github as github_forge
from reconciler.forges.interface import Clock
from tests.forges.fake_github import FakeGitHub, Refusal
from tests.support.command_line import CommandLine
from tests.support.gateway import served
from tests.support.github_server import serving
from tests.support.http_peer import Asked, Said, http_peer


def test_doctor_is_content_with_a_store_and_not_with_something_in_its_way(reconcile: CommandLine) -> None:
    before = reconcile.files()
    assert reconcile("doctor").code == 0
    assert reconcile("doctor", "--json").document["ok"] is True
    assert reconcile.files() == before
    reconcile.write(".reconcile/store", "in the way")
    done = reconcile("doctor")
    assert done.code == 1
    assert done.out.startswith("!! store: ")
    assert reconcile("doctor", "--json").document["ok"] is False


def test_adopt_lists_pins_and_relabels_only_with_take(reconcile: CommandLine) -> None:
    reconcile()
    labels = reconcile.root / ".reconcile/store/labels"
    for file in labels.iterdir():
        file.write_text(file.read_text().replace("reconciler/acme/", "reconciler/others/"))
    before = reconcile.files()
    done = reconcile("adopt")
    assert done.code == 0
    assert "named 'reconciler/others/llm@1.0.0': llm@1.0.0\n" in done.out
    assert done.err.endswith("hint: `reconcile adopt --take` adopts them\n")
    assert reconcile.files() == before
    taken = reconcile("adopt", "--take", "--json")
    assert [item["state"] for item in taken.document["items"]] == ["adopted", "adopted"]
    for file in labels.iterdir():
        assert "reconciler/acme/" in file.read_text()
        assert "reconciler/others/" in file.read_text()
    assert reconcile("plan", "--prune", "--exit-code").code == 0


REFUSED = Refusal(403, "Resource not accessible by integration")


@pytest.fixture
def github(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """A forge on loopback that the environment names."""
    fake = FakeGitHub(None, token="ghp_canary")
    monkeypatch.setitem(github_forge.__kwdefaults__, "clock", Clock(sleep=lambda _: None))
    with serving(fake) as url:
        for name, value in {
            "RECONCILE_FORGE": "github",
            "RECONCILE_FORGE_REPOSITORY": "o/r",
            "RECONCILE_FORGE_BASE": "main",
            "RECONCILE_FORGE_API": url,
            "RECONCILE_FORGE_TOKEN": "ghp_canary",
        }.items():
            monkeypatch.setenv(name, value)
        yield fake


def test_a_token_that_may_do_everything_is_in_order(reconcile: CommandLine, github: FakeGitHub) -> None:
    github.scopes = "repo"
    before = reconcile.files()
    done = reconcile("doctor", "--forge")
    assert done.code == 0
    assert done.out.splitlines()[0] == ("ok GitHub: token: classic personal access token of bot[bot]")
    assert "ok GitHub: write contents: allowed\n" in done.out
    assert reconcile.files() == before
    document = reconcile("doctor", "--forge", "--json").document
    assert document["ok"] is True
    assert {item["target"] for item in document["items"]} == {"GitHub"}


def test_what_is_missing_is_named_with_the_way_to_grant_it(
    reconcile: CommandLine, github: FakeGitHub
) -> None:
    github.scopes = "gist"
    done = reconcile("doctor", "--forge")
    assert done.code == 1
    assert "!! GitHub: write pull requests: not allowed\n   hint: give the token the scope " in done.out
    document = reconcile("doctor", "--forge", "--json").document
    assert document["ok"] is False


def test_what_only_trying_would_tell_is_no_failure(
    reconcile: CommandLine, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    github.token = "ghs_canary"
    monkeypatch.setenv("RECONCILE_FORGE_TOKEN", "ghs_canary")
    done = reconcile("doctor", "--forge")
    assert done.code == 0
    assert "?? GitHub: label and comment: unknown without trying\n" in done.out


def test_a_token_without_access_is_one_clear_error(
    reconcile: CommandLine, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILE_FORGE_TOKEN", "ghp_other")
    done = reconcile("doctor", "--forge")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("error: GitHub")
    assert "ghp_other" not in done.err


def test_without_a_forge_in_the_environment_it_says_what_to_set(reconcile: CommandLine) -> None:
    done = reconcile("doctor", "--forge")
    assert done.code == 2
    assert "RECONCILE_FORGE" in done.err


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
