"""--only and --exclude select versions and targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError, UsageError, Where
from reconciler.index.model import Index, TargetSpec
from reconciler.loop.select import Selection, select
from tests.support.releases import Releases

SPECS = tuple(TargetSpec(name, "store", {}, Where("targets.yaml")) for name in ("node", "pinata"))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    releases = Releases(tmp_path, "node")
    for ref in ("llm@1.0.0", "llm@2.0.0-rc.1", "llm-mini@1.0.0", "vision@1.0.0"):
        releases.add(ref)
    releases.write()
    return releases.index


def chosen(selection: Selection) -> tuple[list[str], list[str]]:
    return [v.ref for v in selection.versions], [spec.name for spec in selection.targets]


ALL = ["llm@1.0.0", "llm@2.0.0-rc.1", "llm-mini@1.0.0", "vision@1.0.0"]


@pytest.mark.parametrize(
    ("only", "exclude", "versions", "targets"),
    [
        ((), (), ALL, ["node", "pinata"]),
        (("llm",), (), ALL[:2], ["node", "pinata"]),
        (("llm*",), (), ALL[:3], ["node", "pinata"]),
        (("*@1.0.0",), (), [ALL[0], ALL[2], ALL[3]], ["node", "pinata"]),
        (("llm@2*", "vision"), (), [ALL[1], ALL[3]], ["node", "pinata"]),
        (("node",), (), ALL, ["node"]),
        (("node", "vision"), (), [ALL[3]], ["node"]),
        ((), ("llm",), ALL[2:], ["node", "pinata"]),
        ((), ("pin*", "*-mini"), [ALL[0], ALL[1], ALL[3]], ["node"]),
        (("llm*",), ("*rc*",), [ALL[0], ALL[2]], ["node", "pinata"]),
        (("l?m@[12].0.0",), (), [ALL[0]], ["node", "pinata"]),
        (("vision",), ("vision",), [], ["node", "pinata"]),
        (("*",), (), ALL, ["node", "pinata"]),
        (("llm@v1.0.0",), (), [ALL[0]], ["node", "pinata"]),
        (("llm@V2*", "vision@= v1.0.0"), (), [ALL[1], ALL[3]], ["node", "pinata"]),
        ((), ("*@=1.0.0",), [ALL[1]], ["node", "pinata"]),
    ],
)
def test_globs_narrow_versions_and_targets_each_on_their_own(
    index: Index, only: tuple[str, ...], exclude: tuple[str, ...], versions: list[str], targets: list[str]
) -> None:
    assert chosen(select(index, SPECS, only, exclude)) == (versions, targets)


@pytest.mark.parametrize(
    ("flag", "glob", "hint"),
    [
        ("only", "vison", "did you mean 'vision'?"),
        ("exclude", "pinta", "did you mean 'pinata'?"),
        ("only", "llm@1.0.1", "did you mean 'llm@1.0.0'?"),
        ("only", "LLM", "did you mean 'llm'?"),
        ("exclude", "", None),
    ],
)
def test_a_glob_that_matches_nothing_is_an_error_with_a_suggestion(
    index: Index, flag: str, glob: str, hint: str | None
) -> None:
    with pytest.raises(UsageError, match=f"^--{flag} .* matches no model, version or target$") as caught:
        select(index, SPECS, **{flag: (glob,)})
    assert caught.value.hint == hint


def test_an_undefined_target_is_reported_with_the_line_of_the_version(index: Index) -> None:
    with pytest.raises(
        InvalidIndexError, match=r"index.yaml:\d+: llm@1.0.0 names the target 'node'"
    ) as caught:
        select(index, SPECS[1:])
    assert caught.value.hint == "known: pinata"


def test_an_undefined_target_gets_a_suggestion(index: Index) -> None:
    with pytest.raises(InvalidIndexError) as caught:
        select(index, [TargetSpec("nodes", "store", {}, Where("targets.yaml"))])
    assert caught.value.hint == "did you mean 'nodes'?"


def test_retired_versions_are_selected_and_not_kept(tmp_path: Path) -> None:
    releases = Releases(tmp_path, "node")
    cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
    releases.add("m@1.0.0", cid=cid, retired=True)
    releases.add("m@2.0.0")
    releases.write()
    selection = select(releases.index, SPECS)
    assert chosen(selection)[0] == ["m@1.0.0", "m@2.0.0"]
    assert [v.ref for v in selection.kept] == ["m@2.0.0"]


@pytest.mark.parametrize(
    ("only", "exclude", "covered"),
    [
        ((), (), True),
        (("gone",), (), False),  # matches nothing that is in the index: --only would have been refused
        (("llm",), (), False),
        ((), ("llm",), True),
    ],
)
def test_labels_of_versions_that_left_the_index_fall_under_the_globs_too(
    index: Index, only: tuple[str, ...], exclude: tuple[str, ...], covered: bool
) -> None:
    narrowed = Selection(index, (), SPECS, only, exclude)
    assert narrowed.covers("removed", "1.0.0") is covered
