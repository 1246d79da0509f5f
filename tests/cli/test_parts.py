"""A large version is published in parts by several jobs, and the last one proves and pins the whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from reconciler import fs
from reconciler.cli.part_size import part_size
from reconciler.errors import PeerError, UsageError
from reconciler.targets.kubo.rpc import KuboRpc
from tests.cli.test_streamed_versions import INDEX, cid_in_index
from tests.support.command_line import CommandLine
from tests.support.kubo_node import KuboNode, kubo_node
from tests.support.memory_source import COMMIT, MemorySource
from tests.support.safetensors import safetensors

MIB = 1 << 20
FILES = {
    "a.safetensors": safetensors(os.urandom(3 * MIB)),
    "b.safetensors": safetensors(os.urandom(12 * MIB)),
    "c.safetensors": safetensors(os.urandom(3 * MIB)),
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
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
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


def publish_part(machines: Machines, part: str) -> CommandLine:
    cli = machines.new()
    done = cli("--json", "--propose", "none", "--only", f"llm@1.0.0#{part}")
    assert done.code == 0, done
    return cli


@pytest.mark.ipfs
def test_a_garbage_collection_between_the_jobs_removes_nothing_of_a_part(
    empty: CommandLine, source: MemorySource, kubo: KuboNode
) -> None:
    kubo.empty()
    machines = Machines(empty, f'{{kind: kubo, api: "{kubo.url}"}}')
    publish_part(machines, "1/2")
    assert list(kubo.pins().values()) == ["reconciler/acme/llm@1.0.0#1/2"]
    kubo.call("repo/gc")
    publish_part(machines, "2/2")
    kubo.call("repo/gc")
    source.bytes_read = 0
    last = machines.new()
    pruned = last("plan", "--prune", "--json").document
    assert [item["change"] for item in pruned["items"]] == ["stream"], "wanted until then"
    assert last("--json").code == 0
    assert source.bytes_read <= 0.02 * SIZE
    assert list(kubo.pins().values()) == ["reconciler/acme/llm@1.0.0"]


@pytest.mark.ipfs
def test_pins_of_parts_of_a_version_that_is_gone_are_removed_by_prune_only(
    empty: CommandLine, source: MemorySource, kubo: KuboNode
) -> None:
    kubo.empty()
    machines = Machines(empty, f'{{kind: kubo, api: "{kubo.url}"}}')
    publish_part(machines, "1/2")
    cli = machines.new()
    cli.write(
        "releases/index.yaml",
        'schema: 1\nid: acme\nmodels: {llm: {versions: {"2.0.0": {path: w, targets: [main]}}}}\n',
    )
    cli.write("w/x", "x")
    plan = cli("plan", "--json").document
    assert "1 pins of ours are no longer wanted; --prune would remove them" in plan["notes"]
    assert "unpin" not in {item["change"] for item in plan["items"]}
    done = cli("--prune", "--json")
    assert done.code == 0, done
    assert list(kubo.pins().values()) == ["reconciler/acme/llm@2.0.0"]


def test_the_last_job_reads_what_no_part_has(machines: Machines, source: MemorySource) -> None:
    publish_part(machines, "2/3")
    read, source.bytes_read = source.bytes_read, 0
    last = machines.new()
    assert last("--json").code == 0
    assert source.bytes_read <= SIZE - read + 0.02 * SIZE
    assert last("plan", "--check", "full", "--json").document["items"] == []


def test_a_part_whose_source_lies_is_not_kept(machines: Machines, source: MemorySource) -> None:
    """A file that is whole in the part is compared with its digest there."""
    data = FILES["a.safetensors"]
    source.served["a.safetensors"] = data[:-1] + bytes([data[-1] ^ 1])
    cli = machines.new()
    done = cli("--json", "--propose", "none", "--only", "llm@1.0.0#1/2")
    assert done.code == 5
    (item,) = done.document["items"]
    assert (item["change"], item["state"]) == ("stream-part", "failed")
    assert "'a.safetensors'" in item["detail"]
    (planned,) = cli("plan", "--json", "--only", "llm@1.0.0#1/2").document["items"]
    assert planned["change"] == "stream-part"


@pytest.mark.ipfs
def test_wrong_bytes_in_parts_of_a_divided_file_are_found_at_the_end_and_read_again(
    empty: CommandLine, source: MemorySource, kubo: KuboNode
) -> None:
    kubo.empty()
    machines = Machines(empty, f'{{kind: kubo, api: "{kubo.url}"}}')
    expected = whole_cid(machines, source)
    data = FILES["b.safetensors"]
    middle = len(data) // 2
    source.served["b.safetensors"] = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    for number in (1, 2, 3):
        publish_part(machines, f"{number}/3")
    liar = machines.new()
    done = liar("--json")
    assert done.code == 5
    assert "'b.safetensors'" in done.document["items"][0]["detail"]
    source.served.clear()
    last = machines.new()
    assert last("--json").code == 0
    assert cid_in_index(last) == expected


@pytest.mark.ipfs
def test_files_without_digests_are_read_from_the_source_again(
    empty: CommandLine, source: MemorySource, kubo: KuboNode
) -> None:
    """Nothing would prove that what a node has in their place belongs there."""
    kubo.empty()
    source.known = False
    machines = Machines(empty, f'{{kind: kubo, api: "{kubo.url}"}}')
    publish_part(machines, "1/1")
    source.bytes_read = 0
    last = machines.new()
    assert last("--json").code == 0
    assert source.bytes_read >= SIZE


def test_parts_of_another_listing_do_not_count(machines: Machines, source: MemorySource) -> None:
    publish_part(machines, "1/2")
    cli = machines.new()
    index = (cli.root / "releases/index.yaml").read_text()
    cli.write("releases/index.yaml", index.replace("2026-05-01T", "2026-05-02T"))
    (item,) = cli("plan", "--json", "--only", "llm@1.0.0#1/2").document["items"]
    assert item["change"] == "stream-part"


def test_only_one_process_writes_parts_to_a_store(
    empty: CommandLine, source: MemorySource, tmp_path: Path
) -> None:
    machines = Machines(empty, f"{{kind: store, path: {tmp_path / 'shared'}}}")
    publish_part(machines, "1/2")
    (file,) = (tmp_path / "shared/tmp").glob("ingest-*.partial")
    with file.open("rb+") as other:
        assert fs.try_lock(other.fileno())
        done = machines.new()("--json", "--propose", "none", "--only", "llm@1.0.0#2/2")
    assert done.code == 5
    (item,) = done.document["items"]
    assert item["detail"] == "main: began no session"
    assert "another process is streaming the same version" in done.err


@pytest.mark.parametrize(
    ("only", "said"),
    [
        (("llm@1.0.0#0/2",), "'0/2' is not a part"),
        (("llm@1.0.0#3/2",), "'3/2' is not a part"),
        (("llm@1.0.0#2",), "'2' is not a part"),
        (("llm@1.0.0#1/257",), "'1/257' is not a part"),
        (("llm@1.0.0#",), "'' is not a part"),
        (("llm#1/2#1/2",), "is not a part"),
        (("llm@2.0.0#1/2",), "matches no model, version or target"),
        (("llm@1.0.0#1/2", "llm@1.0.0#2/2"), "another --only selects more"),
        (("llm@1.0.0#1/2", "llm"), "another --only selects more"),
    ],
)
def test_a_part_that_makes_no_sense_is_refused(
    empty: CommandLine, source: MemorySource, only: tuple[str, ...], said: str
) -> None:
    cli = Machines(empty, "{kind: store, path: store}").new()
    done = cli("plan", *(word for glob in only for word in ("--only", glob)))
    assert done.code == 2
    assert said in done.err
    assert source.listings == 0


def test_a_version_in_a_directory_has_no_parts(empty: CommandLine) -> None:
    empty.releases()
    done = empty("--json", "--only", "llm@1.0.0#1/2")
    assert done.code == 5
    (item,) = done.document["items"]
    assert item["detail"] == "only a version with a remote source is published in parts"


@pytest.mark.parametrize(
    ("text", "size"),
    [("100 GB", 10**11), ("64GiB", 64 << 30), ("2 TB", 2 * 10**12), ("1048576", MIB), ("", None)],
)
def test_the_size_of_a_part_is_written_with_its_unit(text: str, size: int | None) -> None:
    assert part_size({"RECONCILE_PART_SIZE": text}) == size


@pytest.mark.parametrize("text", ["100 gigs", "-1 GB", "1e9", "1 MB", "0", "100 GB x", "²"])
def test_another_size_of_parts_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="RECONCILE_PART_SIZE is"):
        part_size({"RECONCILE_PART_SIZE": text})


def test_the_matrix_of_the_command_line_has_the_parts(
    empty: CommandLine, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILE_PART_SIZE", "10 MiB")
    cli = Machines(empty, "{kind: store, path: store}").new()
    entries = json.loads(cli("plan", "--format", "matrix").out)["include"]
    assert [entry["only"] for entry in entries] == ["llm@1.0.0#1/2", "llm@1.0.0#2/2"]


@pytest.mark.ipfs
def test_a_part_whose_pin_fails_is_published_again(
    empty: CommandLine, source: MemorySource, kubo: KuboNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubo.empty()
    machines = Machines(empty, f'{{kind: kubo, api: "{kubo.url}"}}')
    with monkeypatch.context() as broken:
        broken.setattr(KuboRpc, "pin_add", refuse)
        done = machines.new()("--json", "--propose", "none", "--only", "llm@1.0.0#1/2")
    assert done.code == 5
    assert done.document["items"][0]["detail"] == "main: refused"
    assert kubo.pins() == {}
    publish_part(machines, "1/2")
    assert list(kubo.pins().values()) == ["reconciler/acme/llm@1.0.0#1/2"]


@pytest.mark.ipfs
def test_pins_of_parts_that_could_not_be_removed_are_left_to_prune(
    empty: CommandLine, source: MemorySource, kubo: KuboNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubo.empty()
    machines = Machines(empty, f'{{kind: kubo, api: "{kubo.url}"}}')
    publish_part(machines, "1/1")
    last = machines.new()
    with monkeypatch.context() as broken:
        broken.setattr(KuboRpc, "pin_rm", refuse)
        done = last("--json")
    assert done.code == 0, done
    assert "pins of parts were not removed, and --prune removes them: refused" in done.err
    assert len(kubo.pins()) == 2
    assert "1 pins of ours are no longer wanted" in str(last("plan", "--json").document["notes"])
    assert last("--prune", "--json").code == 0
    assert list(kubo.pins().values()) == ["reconciler/acme/llm@1.0.0"]


def refuse(*_: object, **__: object) -> NoReturn:
    raise PeerError("refused")


@pytest.mark.ipfs
def test_a_target_without_its_secret_is_no_obstacle_for_parts_of_another(
    empty: CommandLine, source: MemorySource, kubo: KuboNode
) -> None:
    kubo.empty()
    pinning = '{kind: pinning-service, endpoint: "https://p.example", token_env: ABSENT_TOKEN}'
    machines = Machines(empty, f'{{kind: kubo, api: "{kubo.url}"}}, pinning: {pinning}')
    cli = machines.new()
    index = (cli.root / "releases/index.yaml").read_text().replace("[main]", "[main, pinning]")
    cli.write("releases/index.yaml", index)
    arguments = ("--json", "--propose", "none", "--only", "llm@1.0.0#1/2")
    assert cli(*arguments).code == 0
    cli.write("releases/index.yaml", index.replace("[main, pinning]", "[pinning]"))
    alone = cli(*arguments)
    assert alone.code == 5
    assert "ABSENT_TOKEN" in alone.document["items"][0]["detail"]
