"""The options of a Kubo target."""

from __future__ import annotations

import pytest

from reconciler.errors import InvalidIndexError, Where
from reconciler.index.model import TargetSpec
from reconciler.targets.kubo import read_options


def spec(api: str) -> TargetSpec:
    return TargetSpec("node", "kubo", {"api": api, "nocopy": True}, Where("targets.yaml", 3))


@pytest.mark.parametrize("api", ["http://127.0.0.1:5001", "http://[::1]:5001", "http://localhost:5001"])
def test_a_node_on_this_machine_may_refer_to_files(api: str) -> None:
    assert read_options(spec(api), {}).nocopy


def test_another_node_may_not() -> None:
    """It would store references to files that it does not have."""
    with pytest.raises(InvalidIndexError, match="not on this machine") as caught:
        read_options(spec("http://192.0.2.7:5001"), {})
    assert "targets.yaml:3" in f"{caught.value.where}"
