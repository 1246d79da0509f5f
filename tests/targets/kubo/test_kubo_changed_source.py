"""A node that is sent files whose cached digests are out of date: it hashes what it receives."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.content.bundle import make_bundle
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.targets.interface import Check
from tests.support.kubo_node import KuboNode
from tests.support.plant import MIB, noise
from tests.support.releases import CREATED, Releases, kinds
from tests.support.unnoticed import cache_everything, write_unnoticed

pytestmark = pytest.mark.ipfs

OLD, NEW = noise(2 * MIB + 9, 41), noise(2 * MIB + 9, 42)
REF = "m@1.0.0"


@pytest.fixture
def releases(node: KuboNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Releases:
    cache_everything(monkeypatch)
    releases = Releases(tmp_path / "repo", "k", "store")
    releases.specs["k"] = {"kind": "kubo", "api": node.url}
    releases.add(REF, {"weights.bin": OLD})
    return releases


def unnoticed(releases: Releases, data: bytes) -> None:
    write_unnoticed(releases.layout().cache / "identities", releases.source(REF) / "weights.bin", data)


def test_a_first_publish_converges_in_one_run(releases: Releases) -> None:
    releases.plan()
    unnoticed(releases, NEW)
    assert not releases.apply().failed
    listing = scan(releases.source(REF), include_hidden=False)
    bundle = make_bundle(listing, model="m", version="1.0.0", created_at=CREATED)
    assert releases.cid(REF) == identify(bundle, cache=None).layout.root
    assert kinds(releases.plan(check=Check.FULL)) == []


def test_a_lost_version_is_healed_from_the_store(releases: Releases, node: KuboNode) -> None:
    releases.apply()
    unnoticed(releases, NEW)
    node.empty()
    report = releases.apply()
    assert {o.state for o in report.outcomes if o.change.target == "k"} == {"applied"}
    assert kinds(releases.plan(check=Check.FULL)) == []
