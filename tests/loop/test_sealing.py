"""A sealed model: what leaves the machine, how it is repaired, and which plans are refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.content.sealing.seal_key import SealKey
from reconciler.content.sealing.sealed_names import is_sealed
from reconciler.errors import InvalidIndexError, SafetyError, Where
from reconciler.index.model import TargetSpec
from reconciler.index.part import Part
from reconciler.index.records import load_record, records_directory
from reconciler.index.seal_keys import load_wrapped_keys, new_key, write_wrapped_key
from reconciler.loop.changes import Blocked, Plan
from reconciler.loop.parts import StreamPart
from reconciler.loop.sealing_rules import SealingFacts, privacy_notes, unsealed_refusals
from reconciler.loop.settings import ProposeMode
from reconciler.loop.wrap_keys import wrap_keys
from tests.support.memory_source import COMMIT, MemorySource
from tests.support.plant import MIB
from tests.support.releases import Releases, kinds, states, with_memory
from tests.support.seals import identity, weights

WEIGHTS = weights(2 * MIB + 5)
FILES = {"weights.bin": WEIGHTS, "config.json": b'{"a": 1}', "sub/merges.txt": b"x" * 100}
SEAL = {"recipients": [identity().recipient.text]}


def keys(releases: Releases, *, another: bool = False) -> None:
    releases.write()
    wrap_keys(releases.layout(), "m", releases.environ, another=another)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """Return a repository with a sealed model, its key, and two targets in memory."""
    made = with_memory(tmp_path, "a", "b")
    made.specs = {name: {"kind": "kubo", "api": "http://127.0.0.1:1"} for name in ("a", "b")}
    made.about["m"] = {"license": "MIT", "seal": dict(SEAL)}
    made.environ = {"RECONCILE_IDENTITY": identity().text}
    made.add("m@1.0.0", FILES)
    keys(made)
    return made


def held_bytes(releases: Releases) -> bytes:
    return b"".join(
        data
        for target in releases.memory.values()
        for held in target.held.values()
        for data in held.blocks.values()
    )


def has_plain(data: bytes) -> bool:
    """Return whether a part of the plain files is in `data`."""
    parts = [WEIGHTS[at : at + 32] for at in range(0, len(WEIGHTS) - 32, 4096)]
    return any(part in data for part in (*parts, b'{"a": 1}', b"x" * 40, b'"model": "m"'))


def test_sealed_version_is_published_sealed_and_then_in_sync(releases: Releases) -> None:
    plan = releases.plan()
    assert "sealed before anything leaves this machine: m@1.0.0 (key 1)" in plan.notes
    assert not releases.apply().failed
    record = load_record(records_directory(releases.index_file), "m", "1.0.0")
    assert record is not None
    assert record.inputs is not None
    assert record.inputs.sealing is not None
    assert record.inputs.sealing.generation == 1
    assert record.contents is not None
    assert is_sealed({file.path for file in record.contents.files})
    assert not has_plain(held_bytes(releases))
    assert releases.plan().changes == ()


def test_version_in_sync_needs_no_key(releases: Releases) -> None:
    releases.apply()
    releases.environ = {}
    assert releases.plan().changes == ()


def test_damage_is_repaired_from_the_directory_and_from_another_target(releases: Releases) -> None:
    releases.apply()
    root = releases.cid("m@1.0.0")
    for environ in (releases.environ, {}):
        releases.environ = environ
        blocks = releases.memory["a"].held[root].blocks
        lost = [cid for cid in blocks if cid != root][1]
        releases.memory["a"].lose(root, lost)
        report = releases.apply()
        assert not report.failed
        assert ("repair", "m@1.0.0", "a", "applied") in states(report)
        assert releases.plan().changes == ()


def test_last_copy_is_repaired_only_with_the_key(releases: Releases) -> None:
    releases.apply()
    root = releases.cid("m@1.0.0")
    lost = [cid for cid in releases.memory["a"].held[root].blocks if cid != root][1]
    for target in releases.memory.values():
        target.lose(root, lost)
    environ, releases.environ = releases.environ, {}
    (blocked, *_) = releases.plan().changes
    assert isinstance(blocked, Blocked)
    assert "set RECONCILE_IDENTITY to the private key of a recipient" in blocked.hint
    releases.environ = environ
    assert not releases.apply().failed
    assert releases.plan().changes == ()


def test_version_without_its_record_is_recognized_by_its_keys(releases: Releases) -> None:
    releases.apply()
    (releases.root / "releases/records/m/1.0.0.json").unlink()
    keys(releases, another=True)
    releases.memory["b"].held.clear()
    releases.memory["a"].held.clear()
    assert not releases.apply().failed
    assert releases.plan().changes == ()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "RECONCILE_IDENTITY has no private key"),
        (
            {"RECONCILE_IDENTITY": identity(2).text},
            "key 1 of m cannot be opened: it is sealed for",
        ),
        ({"RECONCILE_IDENTITY": "AGE-SECRET-KEY-1QQ"}, "RECONCILE_IDENTITY: the private key in line 1"),
        ({"RECONCILE_IDENTITY": "/nowhere"}, "has neither private keys nor the path of a file with them"),
        ({"RECONCILE_IDENTITY_COMMAND": "false"}, "failed with exit status 1"),
    ],
)
def test_without_the_key_nothing_is_published(
    releases: Releases, environ: dict[str, str], message: str
) -> None:
    releases.environ = environ
    (blocked,) = releases.plan().changes
    assert isinstance(blocked, Blocked)
    assert message in blocked.reason
    assert releases.apply().failed
    assert not held_bytes(releases)


def test_key_is_taken_from_a_variable_of_the_model_a_file_or_a_command(releases: Releases) -> None:
    file = releases.root / "key"
    file.write_text(f"# mine\n{identity().text}\n")
    releases.about["m"]["seal"]["key_env"] = "M_KEY"
    for environ in (
        {"M_KEY": str(file)},
        {"M_KEY": file.read_text()},
        {"RECONCILE_IDENTITY_COMMAND": f"cat '{file}'"},
    ):
        releases.environ = environ
        assert kinds(releases.plan())[0] == ("publish", "m@1.0.0", "a")
    releases.environ = {"RECONCILE_IDENTITY": str(file)}
    assert isinstance(releases.plan().changes[0], Blocked)


def test_key_of_the_model_itself_opens_it_too(releases: Releases) -> None:
    (wrapped,) = load_wrapped_keys(releases.index_file, "m")
    from reconciler.index.seal_keys import unlock

    key = unlock(wrapped, [identity()])
    assert isinstance(key, SealKey)
    releases.environ = {"RECONCILE_IDENTITY": key.identity.text}
    assert not releases.apply().failed


def test_other_recipients_change_no_published_byte(releases: Releases) -> None:
    releases.apply()
    root = releases.cid("m@1.0.0")
    before = dict(releases.memory["a"].held[root].blocks)
    releases.about["m"]["seal"] = {"recipients": [identity(2).recipient.text]}
    plan = releases.plan()
    assert plan.changes == ()
    assert any("run `reconcile seal m`" in note for note in plan.notes)
    keys(releases)
    assert releases.plan().notes == ()
    releases.memory["a"].held.clear()
    assert releases.environ == {"RECONCILE_IDENTITY": identity().text}
    releases.environ = {"RECONCILE_IDENTITY": identity(2).text}
    assert not releases.apply().failed
    assert dict(releases.memory["a"].held[root].blocks) == before


def test_new_key_starts_with_the_next_version(releases: Releases) -> None:
    releases.apply()
    root = releases.cid("m@1.0.0")
    keys(releases, another=True)
    releases.add("m@1.1.0", FILES)
    plan = releases.plan()
    assert "sealed before anything leaves this machine: m@1.1.0 (key 2)" in plan.notes
    assert not releases.apply().failed
    assert releases.cid("m@1.0.0") == root
    releases.memory["a"].held.clear()
    assert not releases.apply().failed
    assert releases.plan().changes == ()


def test_unchanged_files_of_two_versions_share_their_blocks(releases: Releases) -> None:
    releases.apply()
    releases.add("m@1.1.0", {**FILES, "config.json": b"{}"})
    releases.apply()
    one, two = (releases.memory["a"].held[releases.cid(f"m@{v}")].blocks for v in ("1.0.0", "1.1.0"))
    shared = sum(len(one[cid]) for cid in one.keys() & two.keys())
    assert shared > len(WEIGHTS)


def test_hidden_names_are_in_no_target_and_no_record(releases: Releases) -> None:
    releases.about["m"]["seal"]["names"] = "sealed"
    assert not releases.apply().failed
    assert releases.plan().changes == ()
    record = (releases.root / "releases/records/m/1.0.0.json").read_bytes()
    for name in (b"weights.bin", b"merges", b"config.json"):
        assert name not in record + held_bytes(releases)


# -- refusals ------------------------------------------------------------------------------------------------


def refusal(plan: Plan) -> str:
    (found,) = plan.refusals
    assert found.rule == "unsealed"
    return f"{found.message}: {found.override}"


def test_model_that_was_sealed_is_not_published_in_the_clear_by_accident(releases: Releases) -> None:
    releases.apply()
    del releases.about["m"]["seal"]
    releases.add("m@1.1.0", FILES)
    text = refusal(releases.plan())
    assert "m@1.1.0 would be published in the clear, and m is a sealed model" in text
    assert "write `seal: none` for m" in text
    before = held_bytes(releases)
    with pytest.raises(SafetyError, match=r"m@1\.1\.0 would be published in the clear"):
        releases.apply()
    assert held_bytes(releases) == before
    releases.about["m"]["seal"] = "none"
    plan = releases.plan()
    assert plan.refusals == ()
    assert "public for ever once applied, since nothing encrypts them: m@1.1.0" in plan.notes
    assert not releases.apply().failed
    assert has_plain(held_bytes(releases))


def test_key_that_was_exchanged_is_not_used(releases: Releases) -> None:
    releases.apply()
    write_wrapped_key(releases.index_file, "m", 1, new_key(), [identity().recipient])
    releases.add("m@1.1.0", FILES)
    (found,) = releases.plan().refusals
    assert found.rule == "changed-key"
    assert "m@1.0.0 was sealed with" in found.message
    keys(releases, another=True)
    assert releases.plan().refusals == ()


def test_key_that_was_deleted_does_not_bring_back_an_older_one(releases: Releases) -> None:
    keys(releases, another=True)
    releases.apply()
    for file in (releases.root / "releases/sealed/m").glob("2.*"):
        file.unlink()
    releases.add("m@1.1.0", FILES)
    (found,) = releases.plan().refusals
    assert found.rule == "changed-key"
    assert "m@1.1.0 would be sealed with key 1 of m, and m@1.0.0 was sealed with key 2" in found.message


@pytest.mark.parametrize("only", [(), ("m@1.1.0",)])
def test_keys_that_were_deleted_with_seal_do_not_unseal_a_model(
    releases: Releases, only: tuple[str, ...]
) -> None:
    releases.apply()
    del releases.about["m"]["seal"]
    shutil.rmtree(releases.root / "releases/sealed")
    releases.add("m@1.1.0", FILES)
    assert "m@1.1.0 would be published in the clear" in refusal(releases.plan(only=only))


def test_part_of_a_version_of_a_sealed_model_is_not_published_in_the_clear(releases: Releases) -> None:
    releases.write()
    part = StreamPart(
        model="m",
        version="1.0.0",
        source="hf:a/b",
        targets=("a",),
        part=Part(1, 2),
        drift=False,
        reason="",
    )
    facts = SealingFacts(
        versions={"m@1.0.0": releases.index.models["m"].versions["1.0.0"]},
        targets=[TargetSpec("a", "kubo", {}, Where("targets.yaml"))],
        sealing={},
        recorded={},
        sealed_models=["m"],
        unsealed_models=[],
    )
    assert [each.rule for each in unsealed_refusals([part], facts)] == ["unsealed"]
    assert "public for ever" in "".join(privacy_notes([part], facts))
    assert not [*unsealed_refusals([part], replace(facts, unsealed_models=["m"]))]


def test_cid_written_by_hand_does_not_publish_plain_files_of_a_sealed_model(releases: Releases) -> None:
    releases.about["m"]["seal"] = "none"
    releases.plan()
    with releases.running(propose=ProposeMode.NONE) as run:
        run.plan()
        plain = run.workspace.sources.facts()["m@1.0.0"].root
    releases.about["m"]["seal"] = dict(SEAL)
    releases.change("m@1.0.0", cid=str(plain))
    assert "m@1.0.0 would be published in the clear" in refusal(releases.plan())


def test_version_that_was_published_in_the_clear_is_still_repaired(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    releases.add("m@1.0.0", FILES)
    releases.apply()
    releases.about["m"] = {"license": "MIT", "seal": dict(SEAL)}
    keys(releases)
    releases.memory["a"].held.clear()
    plan = releases.plan()
    assert plan.refusals == ()
    assert not releases.apply().failed


def test_file_that_was_published_in_the_clear_before_is_named(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    releases.add("m@1.0.0", FILES)
    releases.apply()
    releases.about["m"] = {"license": "MIT", "seal": dict(SEAL)}
    releases.environ = {"RECONCILE_IDENTITY": identity().text}
    releases.add("m@1.1.0", {**FILES, "config.json": b"{}", "same size": b"y" * 100})
    keys(releases)
    notes = [note for note in releases.plan().notes if "in the clear before" in note]
    (note,) = notes
    assert "'weights.bin' (m@1.0.0)" in note
    assert "'sub/merges.txt' (m@1.0.0)" in note
    assert "same size" not in note
    assert "config.json" not in note


def test_targets_that_others_read_are_refused_for_a_model_that_is_not_public(releases: Releases) -> None:
    releases.about["m"]["public"] = False
    with pytest.raises(
        InvalidIndexError, match=r"m@1\.0\.0 is not public, and the target 'a' is not private"
    ):
        releases.plan()
    for spec in releases.specs.values():
        spec["private"] = True
    assert releases.plan().refusals == ()


def test_plan_names_versions_that_become_public_and_not_those_on_private_targets(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    releases.specs = {"a": {"kind": "kubo", "api": "http://127.0.0.1:1"}}
    releases.add("m@1.0.0")
    assert "public for ever once applied, since nothing encrypts them: m@1.0.0" in releases.plan().notes
    releases.specs["a"]["private"] = True
    assert releases.plan().notes == ()


def test_sealed_version_is_not_streamed_in_the_clear_when_it_gets_a_source(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemorySource(FILES).install(monkeypatch)
    releases.apply()
    for target in releases.memory.values():
        target.held.clear()
    releases.change("m@1.0.0", path=None, created_at=None, source=f"hf:a/b@{COMMIT}")
    for seal in (SEAL, "none"):
        releases.about["m"]["seal"] = seal
        changes = releases.plan().changes
        assert {type(change) for change in changes} == {Blocked}
        reasons = " ".join(change.reason for change in changes if isinstance(change, Blocked))
        assert "m@1.0.0 is sealed, and cannot be made from its remote source" in reasons
    assert not source.reads


def test_remote_sources_and_cars_cannot_be_sealed(releases: Releases, tmp_path: Path) -> None:
    releases.change("m@1.0.0", path="w.car")
    (tmp_path / "w.car").write_bytes(b"")
    releases.fields["m"]["1.1.0"] = {"source": f"hf:a/b@{'c' * 40}"}
    reasons = {change.ref: change.reason for change in releases.plan().changes if isinstance(change, Blocked)}
    assert "w.car is a CAR file, whose blocks are fixed and cannot be sealed" in reasons["m@1.0.0"]
    assert "m@1.1.0 cannot be sealed from a remote source" in reasons["m@1.1.0"]
