"""The directories of versions: links above them are followed inside the source root, and never out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.errors import BundleError
from reconciler.loop.sources import VersionSources
from reconciler.progress import QUIET
from tests.support.releases import Releases, with_memory


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    root = tmp_path / "repository"
    root.mkdir()
    releases = with_memory(root, "a")
    releases.add("m@1.0.0", path="data/w/1")
    return releases


def test_a_path_below_a_linked_directory_inside_the_repository_has_the_same_cid(releases: Releases) -> None:
    releases.apply()
    root = releases.cid("m@1.0.0")
    (releases.root / "w").symlink_to("data/w")
    releases.change("m@1.0.0", path="w/1", cid=None)
    (releases.root / "releases/records/m/1.0.0.json").unlink()
    assert not releases.apply().failed
    assert releases.cid("m@1.0.0") == root


@pytest.mark.parametrize(
    ("link", "leads_to", "path", "named"),
    [
        ("out", "../elsewhere", "out/1", "'out'"),
        ("data/up", "../../elsewhere", "data/up/1", "'data/up'"),
        ("out", "{outside}", "out/1", "'out'"),
        ("out", "data/w/../../../elsewhere", "out/1", "'out'"),
    ],
)
def test_a_path_that_a_link_takes_out_of_the_repository_is_blocked(
    releases: Releases, link: str, leads_to: str, path: str, named: str
) -> None:
    outside = releases.root.parent / "elsewhere"
    (outside / "1").mkdir(parents=True)
    (outside / "1" / "private").write_bytes(b"not ours")
    (releases.root / link).symlink_to(leads_to.format(outside=outside))
    releases.change("m@1.0.0", path=path)
    report = releases.apply()
    (outcome,) = report.outcomes
    assert outcome.state == "blocked"
    assert f"{path} leads outside the source root through the link {named}" in outcome.detail
    assert "--source-root" in outcome.hint
    assert releases.memory["a"].writes() == 0


def test_a_source_root_that_is_a_link_itself_is_a_root_like_any_other(releases: Releases) -> None:
    linked = releases.root.parent / "linked"
    linked.symlink_to(releases.root)
    releases.write()
    (version,) = releases.index.versions()
    sources = VersionSources(linked, None, QUIET)
    assert sources.identify(version).layout.root
    sources.close()


def test_a_link_that_leads_in_circles_is_an_error_that_names_it(releases: Releases) -> None:
    (releases.root / "loop").symlink_to("loop")
    releases.change("m@1.0.0", path="loop/1")
    releases.write()
    (version,) = releases.index.versions()
    with pytest.raises(BundleError, match="through the link 'loop'"):
        VersionSources(releases.root, None, QUIET).path(version)


def test_a_link_that_changes_after_the_check_leads_nowhere_else(releases: Releases) -> None:
    link = releases.root / "w"
    link.symlink_to("data/w")
    releases.change("m@1.0.0", path="w/1")
    releases.write()
    (version,) = releases.index.versions()
    path = VersionSources(releases.root, None, QUIET).path(version)
    link.unlink()
    link.symlink_to(releases.root.parent)
    assert path == Path(os.path.realpath(releases.root)) / "data/w/1"
