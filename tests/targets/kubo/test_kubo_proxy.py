"""A real reverse proxy in front of a real node: what it passes on, and its own responses."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from reconciler.errors import PeerError
from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.errors import AccessDeniedError
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.kubo.rpc import is_command_error
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import LABEL, MARK
from tests.support.kubo_node import KuboNode
from tests.support.nginx import nginx
from tests.support.scratch import PROJECT
from tests.support.shapes import Builder

pytestmark = [pytest.mark.ipfs, pytest.mark.nginx]

PAGE = PROJECT / "docs/targets/kubo.md"


def documented(node: KuboNode, *more: str) -> str:
    """The location block of the page, for this node, with `more` in it."""
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    block = found[1].replace("127.0.0.1:5001", f"127.0.0.1:{node.port}")
    return block.replace("proxy_pass", "\n".join([*more, "proxy_pass"]), 1)


def target(address: str, auth: Auth | None = None) -> KuboTarget:
    http = HttpClient(
        f"{address}/kubo",
        name="node",
        auth=auth,
        timeouts=Timeouts(30, 60, 120),
        retry=NO_RETRY,
        is_command_error=is_command_error,
    )
    return KuboTarget("node", http, pin_seconds=60)


def weights(salt: str, megabytes: int):
    build = Builder(f"proxy {salt}")
    return build.dag(build.file("weights", megabytes, 1 << 20))


def test_the_configuration_of_the_page_passes_a_long_import_on(node: KuboNode, tmp_path: Path) -> None:
    dag = weights("long", 40)
    with nginx(tmp_path / "nginx", documented(node)) as address:
        kubo = target(address)
        assert kubo.publish(dag, LABEL, QUIET).state is State.HELD
        seen = kubo.observe([Expected(dag.layout.root, (LABEL,))], Check.FULL, MARK, QUIET)
        assert seen.observations[dag.layout.root].state is State.HELD
        kubo.close()
        body = tmp_path / "nginx/body"
        assert not body.exists() or not list(body.rglob("*.tmp")), "nothing was kept by the proxy"
    assert node.pins()[str(dag.layout.root)] == LABEL


@pytest.mark.parametrize("scheme", Scheme)
def test_a_proxy_that_asks_for_a_secret_is_shown_it(node: KuboNode, tmp_path: Path, scheme: Scheme) -> None:
    """Checked as a proxy does it, by comparing the header; the node itself never sees it."""
    secret = "someone:only-a-test"
    shown = (
        f"Basic {base64.b64encode(secret.encode()).decode()}"
        if scheme is Scheme.BASIC
        else f"Bearer {secret}"
    )
    gate = f'if ($http_authorization != "{shown}") {{ return 401; }}'
    with nginx(tmp_path / "nginx", documented(node, gate, 'proxy_set_header Authorization "";')) as address:
        kubo = target(address, Auth(scheme, Secret(secret)))
        dag = weights(f"auth {scheme}", 2)
        assert kubo.publish(dag, LABEL, QUIET).state is State.HELD
        kubo.close()
        stranger = target(address)
        with pytest.raises(AccessDeniedError, match="HTTP 401"):
            stranger.publish(dag, LABEL, QUIET)
        stranger.close()


def test_a_limit_of_the_proxy_is_named(node: KuboNode, tmp_path: Path) -> None:
    server = documented(node).replace("client_max_body_size 0", "client_max_body_size 1m")
    with nginx(tmp_path / "nginx", server) as address:
        kubo = target(address)
        dag = weights("limit", 5)
        with pytest.raises(PeerError, match="HTTP 413") as caught:
            kubo.publish(dag, LABEL, QUIET)
        assert caught.value.hint is not None
        assert "proxy" in caught.value.hint
        assert "<html>" not in str(caught.value)
        kubo.close()
    assert str(dag.layout.root) not in node.pins()


def test_a_node_that_is_gone_behind_the_proxy_is_a_passing_fault(node: KuboNode, tmp_path: Path) -> None:
    server = documented(node)
    with nginx(tmp_path / "nginx", server) as address:
        kubo = target(address)
        node.stop()
        with pytest.raises(PeerError, match="HTTP 502") as caught:
            kubo.observe([], Check.QUICK, MARK, QUIET)
        assert "<html>" not in str(caught.value)
        kubo.close()
    node.start()


def test_a_page_of_the_proxy_is_no_answer(node: KuboNode, tmp_path: Path) -> None:
    with nginx(
        tmp_path / "nginx", "location / { default_type text/html; return 200 '<html>hello</html>'; }"
    ) as a:
        kubo = target(a)
        with pytest.raises(PeerError, match="web page"):
            kubo.observe([], Check.QUICK, MARK, QUIET)
        kubo.close()
