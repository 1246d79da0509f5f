"""A large version is published in parts by several jobs, and the last one proves and pins the whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.test_streamed_versions import INDEX, cid_in_index
from tests.support.command_line import CommandLine
from tests.support.kubo_node import kubo_node
from tests.support.memory_source import COMMIT, MemorySource
from tests.support.safetensors import safetensors

MIB = 1 << 20
FILES = {
    "a.safetensors": safetensors(os.urandom(5 * MIB)),
    "b.safetensors": safetensors(os.urandom(20 * MIB)),
    "c.safetensors": safetensors(os.urandom(5 * MIB)),
    "config.json": b"{}",
}
SIZE = sum(map(len, FILES.values()))


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> MemorySource:
    lfs = frozenset(path for path in FILES if path.endswith(".safetensors"))
    return MemorySource(FILES, lfs).install(monkeypatch)


class Machines:
    """Clones of one repository, each on a machine of its own: nothing is shared but the targets."""

    def __init__(self, cli: CommandLine, targets: str) -> None:
        self.cli = cli
        self.top = cli.root
        self.targets = targets
        self.count = 0

    def new(self) -> CommandLine:
        self.cli.root = self.top / f"machine-{self.count}"
        self.count += 1
        self.cli.write("releases/index.yaml", INDEX.format(targets="main", commit=COMMIT))
        self.cli.write("releases/targets.yaml", f"targets: {{main: {self.targets}}}\n")
        return self.cli


@pytest.fixture(params=["store", pytest.param("kubo", marks=pytest.mark.ipfs)])
def machines(empty: CommandLine, request: pytest.FixtureRequest, tmp_path: Path) -> Machines:
    if request.param == "store":
        return Machines(empty, f"{{kind: store, path: {tmp_path / 'shared'}}}")
    node = request.getfixturevalue("kubo")
    node.empty()
    return Machines(empty, f'{{kind: kubo, api: "{node.url}"}}')


@pytest.fixture(scope="module")
def kubo(tmp_path_factory: pytest.TempPathFactory):
    with kubo_node(tmp_path_factory.mktemp("kubo")) as node:
        yield node


def whole_cid(machines: Machines, source: MemorySource) -> str:
    """Return the CID that the version has in one piece."""
    cli = machines.new()
    cli.write("releases/targets.yaml", "targets: {main: {kind: store, path: .reconcile/store}}\n")
    assert cli().code == 0
    source.bytes_read = 0
    return cid_in_index(cli)


def test_parts_on_several_machines_give_the_same_version_and_are_read_once(
    machines: Machines, source: MemorySource
) -> None:
    expected = whole_cid(machines, source)
    for number in (1, 2, 3):
        cli = machines.new()
        planned = cli("plan", "--json", "--only", f"llm@1.0.0#{number}/3").document
        assert [(item["change"], item["part"]) for item in planned["items"]] == [
            ("stream-part", f"{number}/3")
        ]
        done = cli("--json", "--propose", "none", "--only", f"llm@1.0.0#{number}/3")
        assert done.code == 0, done
        assert [item["state"] for item in done.document["items"]] == ["applied"]
        assert cli("plan", "--json", "--only", f"llm@1.0.0#{number}/3").document["items"] == []
    assert source.bytes_read <= 1.02 * SIZE
    source.bytes_read = 0
    last = machines.new()
    assert last("plan", "--json").document["items"][0]["change"] == "stream"
    done = last("--json")
    assert done.code == 0, done
    assert cid_in_index(last) == expected
    assert source.bytes_read <= 0.02 * SIZE, "the leaves were there"
    again = last("plan", "--check", "full", "--json").document
    assert (again["items"], again["notes"]) == ([], [])
