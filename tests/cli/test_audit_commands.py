"""`reconcile audit`: from the first key to a proof that others verify, and everything that it must refuse."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.trust.log import recompute
from reconciler.trust.note import parse_note_key
from reconciler.trust.tiles import make_tiles
from tests.support.command_line import CommandLine
from tests.support.http_peer import http_peer
from tests.support.witness_peer import WitnessPeer

PRIVATE = "PRIVATE+KEY+example.org/acme+5bffade5+AV5eXl5eXl5eXl5eXl5eXl5eXl5eXl5eXl5eXl5eXl5e"
KEY = "example.org/acme+5bffade5+AYFGZA8CSTr0+8VP4zOI513CyTeuC3cnzCsq+xt1GZo+"


class AuditedRepository:
    """The two versions of `CommandLine.releases` in a git repository with an audit log."""

    def __init__(self, reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reconcile = reconcile
        self.root = reconcile.root
        self.key = KEY
        (self.root.parent / "log.key").write_text(PRIVATE)
        monkeypatch.setenv("LOG_KEY", PRIVATE)

    def start(self) -> None:
        self.reconcile.write(
            "releases/targets.yaml",
            "targets: {store: {kind: store, path: .reconcile/store}}\n"
            f'log: {{key: "{self.key}", key_env: LOG_KEY}}\n',
        )
        reconcile = self.reconcile
        self.git("init", "--quiet")
        reconcile.write(".gitignore", ".reconcile/\nweights/\n")
        self.commit("start")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", self.root, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str = "change") -> None:
        self.git("add", "--all", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def release(self, *only: str) -> None:
        flags = [part for each in only for part in ("--only", each)]
        assert self.reconcile(*flags).code == 0
        self.commit()

    def sign(self) -> dict[str, object]:
        done = self.reconcile("audit", "checkpoint", "--json")
        assert done.code == 0, done.err
        self.commit()
        return done.document

    @property
    def log(self) -> Path:
        return self.root / "releases" / "log"

    def fails(self, *arguments: str) -> tuple[int, str]:
        done = self.reconcile("audit", *arguments)
        assert done.code, done.out
        assert done.err.startswith("error: ")
        return done.code, done.err


@pytest.fixture
def started(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> AuditedRepository:
    """A repository with an audit log and nothing in it."""
    found = AuditedRepository(reconcile, monkeypatch)
    found.start()
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory in which the first test leaves its repository for the others."""
    return tmp_path_factory.mktemp("audited") / "repository"


@pytest.fixture
def audited(empty: CommandLine, monkeypatch: pytest.MonkeyPatch, built: Path) -> AuditedRepository:
    """A repository whose two versions are released, logged and signed one after the other."""
    found = AuditedRepository(empty, monkeypatch)
    if built.exists():
        shutil.copytree(built, empty.root, dirs_exist_ok=True)
        return found
    empty.releases()
    found.start()
    for version in ("llm@1.0.0", "llm@1.1.0"):
        found.release(version)
        found.sign()
    shutil.copytree(empty.root, built)
    return found


def test_release_sign_audit_prove_and_verify(started: AuditedRepository, tmp_path: Path) -> None:
    repository, reconcile = started, started.reconcile
    assert reconcile("audit").out == "ok: example.org/acme has no checkpoint yet\n"
    assert reconcile("audit", "checkpoint").code == 0
    assert not repository.log.exists()
    reconcile()
    assert "2 leaves not committed: release llm@1.0.0, release llm@1.1.0" in reconcile("audit").out
    assert "no leaf yet" in reconcile("audit", "checkpoint").err  # what is not committed gets no number
    repository.commit()
    assert "2 leaves without a number" in reconcile("audit").out
    document = repository.sign()
    assert document["checkpoint"]["size"] == 2
    assert [each["event"] for each in document["added"]] == ["release", "release"]
    again = reconcile("audit", "checkpoint", "--json").document
    assert (again["files"], again["where"]) == ([], "nothing to write")
    assert reconcile("plan", "--exit-code").code == 0
    found = reconcile("audit", "--json").document
    assert (found["size"], found["checkpoints"], found["pending"], found["missing"]) == (2, 1, [], [])
    proof = reconcile("audit", "prove", "llm@1.0.0")
    file = tmp_path / "llm.tlog-proof"
    file.write_text(proof.out)
    cid = reconcile("resolve", "llm@1.0.0").out.strip()
    assert reconcile("audit", "verify", file).out == f"ok: llm@1.0.0 {cid}\n"
    assert reconcile("audit", "prove", cid).out == proof.out
    assert reconcile("audit", "prove", "llm@1.0.0", "--json").document["proof"] == proof.out
    assert len(proof.out.encode()) - len(proof.out.split("extra ")[1].split("\n")[0]) <= 1024


def test_a_reader_verifies_a_proof_with_the_key_in_the_configuration(
    audited: AuditedRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proof = audited.reconcile("audit", "prove", "llm@1.1.0").out
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "it.proof").write_text(proof)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = audited.reconcile("audit", "verify", "it.proof", cwd=elsewhere)
    assert (done.code, "no key of the log 'example.org/acme' is known" in done.err) == (2, True)
    config = tmp_path / "config" / "reconcile" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f'logs: [{{key: "{audited.key}"}}]\n')
    assert audited.reconcile("audit", "verify", "it.proof", "--json", cwd=elsewhere).document["index"] == 1
    config.write_text(f'logs: [{{key: "{audited.key}", witnesses: ["{audited.key}"], quorum: 2}}]\n')
    assert audited.reconcile("audit", "verify", "it.proof", cwd=elsewhere).code == 2


def test_yank_and_retirement_are_entries_that_follow(audited: AuditedRepository) -> None:
    index = audited.root / "releases/index.yaml"
    text = index.read_text()
    index.write_text(
        text.replace("path: weights/llm/1.0.0\n", 'path: weights/llm/1.0.0\n        yanked: "bad"\n')
    )
    audited.commit()
    assert "not logged yet: llm@1.0.0" in audited.reconcile("audit").out
    audited.release()
    document = audited.sign()
    assert [each["event"] for each in document["added"]] == ["yank"]
    assert document["checkpoint"]["size"] == 3
    # the release of a version stays provable after it was yanked
    assert audited.reconcile("audit", "prove", "llm@1.0.0", "--json").document["index"] == 0


def test_the_order_of_the_log_is_the_order_of_the_merges(started: AuditedRepository) -> None:
    repository, reconcile = started, started.reconcile
    for branch, version in (("first", "llm@1.1.0"), ("second", "llm@1.0.0")):
        repository.git("switch", "--quiet", "--create", branch, "main")
        reconcile("--only", version)
        repository.git("checkout", "--quiet", "releases/index.yaml")  # the leaves alone, to merge cleanly
        repository.commit()
    repository.git("switch", "--quiet", "main")
    for branch in ("first", "second"):
        repository.git("merge", "--quiet", "--no-ff", "--no-edit", branch)
    reconcile()
    repository.commit()
    added = [each["version"] for each in repository.sign()["added"]]
    assert added == ["1.1.0", "1.0.0"]  # not the order of the names


def test_a_conflict_in_the_checkpoint_is_repaired_by_the_next_checkpoint(audited: AuditedRepository) -> None:
    file = audited.log / "checkpoint"
    good = file.read_bytes()
    file.write_bytes(b"<<<<<<< HEAD\n" + good + b"=======\nother\n>>>>>>> topic\n")
    done = audited.reconcile("audit", "checkpoint")
    assert done.code == 0
    assert "marks of a merge conflict" in done.err
    assert file.read_bytes() == good


def test_a_shallow_clone_signs_nothing_and_says_what_it_did_not_compare(
    audited: AuditedRepository, tmp_path: Path
) -> None:
    index = audited.root / "releases/index.yaml"
    index.write_text(index.read_text().replace("1.0.0\n", "1.0.0\n        retired: true\n", 1))
    audited.release()
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{audited.root}", shallow], check=True)
    done = audited.reconcile("audit", "-C", shallow)
    assert (done.code, "the clone is shallow" in done.out) == (0, True)
    done = audited.reconcile("audit", "checkpoint", "-C", shallow)
    assert (done.code, "this clone is shallow" in done.err) == (2, True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", f"file://{audited.root}", clone], check=True)
    assert audited.reconcile("audit", "-C", clone).out.startswith("ok: example.org/acme: 2 entries")


# -- tampering -----------------------------------------------------------------------------------------------


def damage(file: Path, at: int = -1) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))


def rewrite(repository: AuditedRepository, entries: list[bytes]) -> None:
    """Write the tiles of other entries."""
    log = recompute(entries)
    for path, data in make_tiles(log.entries, log.hashes).items():
        (repository.log / path).parent.mkdir(parents=True, exist_ok=True)
        (repository.log / path).write_bytes(data)


def entries_of(repository: AuditedRepository) -> list[bytes]:
    files = sorted((repository.log / "leaves").glob("*.json"))
    return [file.read_bytes().strip() for file in files]


def earlier_checkpoint(repository: AuditedRepository) -> None:
    old = repository.git("log", "--format=%H", "--", "releases/log/checkpoint").split()[1]
    text = repository.git("show", f"{old}:releases/log/checkpoint")
    (repository.log / "checkpoint").write_text(text + "\n")


TAMPERING = {
    "tile missing": (lambda r: (r.log / "tile/0/000.p/2").unlink(), 1, "the log has no tile/0/000.p/2"),
    "tile altered": (lambda r: damage(r.log / "tile/0/000.p/2"), 1, "does not follow from its entries"),
    "entries missing": (lambda r: (r.log / "tile/entries/000.p/2").unlink(), 1, "has no tile/entries"),
    "entries cut": (
        lambda r: (r.log / "tile/entries/000.p/2").write_bytes(b"\0\1"),
        1,
        "does not have exactly 2 entries",
    ),
    "entries and tiles rewritten": (
        lambda r: rewrite(r, [entries_of(r)[0], entries_of(r)[1].replace(b"1.1.0", b"1.1.1")]),
        4,
        "its history was rewritten",
    ),
    "checkpoint rolled back": (earlier_checkpoint, 4, "and the log has 1: it was truncated"),
    "checkpoint removed": (
        lambda r: (r.log / "checkpoint").unlink(),
        4,
        "the log has no checkpoint, and the git history has one of 2 entries",
    ),
    "checkpoint altered": (lambda r: damage(r.log / "checkpoint", 22), 4, "altered after it was signed"),
    "checkpoint without a signature": (
        lambda r: (r.log / "checkpoint").write_text("example.org/acme\n2\n\n"),
        1,
        "the checkpoint is not a signed note",
    ),
    "leaf altered": (lambda r: damage(r.log / "leaves/llm@1.0.0.1.json", 12), 0, ""),  # HEAD has it as it was
    "leaf of another version": (
        lambda r: shutil.copy(r.log / "leaves/llm@1.0.0.1.json", r.log / "leaves/llm@9.0.0.1.json"),
        1,
        "has the leaf of leaves/llm@1.0.0.1.json",
    ),
    "cid in the index": (
        lambda r: (r.root / "releases/index.yaml").write_text(
            re.sub(r"cid: baf\w+", "cid: bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
                   (r.root / "releases/index.yaml").read_text(), count=1)
        ),
        4,
        "was logged as",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERING)
def test_what_was_tampered_with_is_named(audited: AuditedRepository, case: str) -> None:
    tamper, code, message = TAMPERING[case]
    tamper(audited)
    done = audited.reconcile("audit")
    assert done.code == code, done.err
    assert message in done.err


def test_a_leaf_that_was_altered_and_committed_is_found(audited: AuditedRepository) -> None:
    damage(audited.log / "leaves/llm@1.0.0.1.json", 12)
    audited.commit()
    code, text = audited.fails()
    assert (code, "does not have the leaf that the log has" in text) == (1, True)
    (audited.log / "leaves/llm@1.0.0.1.json").unlink()
    audited.commit()
    assert "does not have the leaf that the log has" in audited.fails()[1]


def test_a_second_history_with_the_same_size_is_found_in_the_git_history(audited: AuditedRepository) -> None:
    """Somebody with the key rewrites the log; what was committed before still says otherwise."""
    from reconciler.net.auth import Secret
    from reconciler.trust.checkpoint import checkpoint_text
    from reconciler.trust.note import SignedNote, parse_note_signer

    entries = entries_of(audited)[::-1]
    rewrite(audited, entries)
    signer = parse_note_signer(Secret((audited.root.parent / "log.key").read_text()), "it")
    log = recompute(entries)
    text = checkpoint_text("example.org/acme", 2, (log.roots or {})[2])
    (audited.log / "checkpoint").write_bytes(SignedNote(text, (signer.sign(text),)).encode())
    audited.commit()
    code, message = audited.fails()
    assert code == 4
    assert "a checkpoint in the git history has the root" in message


def test_wrong_keys_are_refused_before_anything_is_signed(
    audited: AuditedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = audited.root / "releases/index.yaml"
    index.write_text(index.read_text().replace("1.0.0\n", "1.0.0\n        retired: true\n", 1))
    audited.release()
    before = audited.git("status", "--porcelain")
    audited.reconcile("audit", "key", "example.org/acme", audited.root.parent / "other.key")
    other = (audited.root.parent / "other.key").read_text()
    for value, message in (
        (other, "is not the key of the log"),
        ("x", "not a private key"),
        (None, "LOG_KEY"),
    ):
        if value is None:
            monkeypatch.delenv("LOG_KEY")
        else:
            monkeypatch.setenv("LOG_KEY", value)
        code, text = audited.fails("checkpoint")
        assert (code, message in text) == (2, True)
        assert other.strip().split("+", 4)[4] not in text
    assert audited.git("status", "--porcelain") == before


def test_commands_without_a_log_and_wrong_arguments_are_usage_errors(
    reconcile: CommandLine, tmp_path: Path
) -> None:
    for arguments in (["audit"], ["audit", "checkpoint"], ["audit", "prove", "llm@1.0.0"]):
        done = reconcile(*arguments)
        assert (done.code, "keeps no audit log" in done.err) == (2, True)
    assert reconcile("audit", "verify", "missing.proof").code == 2
    (tmp_path / "some").write_text("text")
    assert reconcile("audit", "verify", tmp_path / "some").code == 1
    done = reconcile("audit", "--json", "prove", "x")
    assert (done.code, "--json must follow" in done.err) == (2, True)
    done = reconcile("audit", "key", "two words", tmp_path / "k")
    assert (done.code, (tmp_path / "k").exists()) == (2, False)
    assert reconcile("audit", "key", "a", tmp_path / "some").code == 2


def test_a_key_is_printed_as_others_read_it(reconcile: CommandLine, tmp_path: Path) -> None:
    done = reconcile("audit", "key", "example.org/x", tmp_path / "k")
    assert parse_note_key(done.out.strip()).name == "example.org/x"
    secret = (tmp_path / "k").read_text()
    assert secret.startswith("PRIVATE+KEY+example.org/x+")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert secret.strip().split("+", 4)[4] not in done.out + done.err


def test_a_checkpoint_is_proposed_on_a_branch(audited: AuditedRepository) -> None:
    index = audited.root / "releases/index.yaml"
    index.write_text(index.read_text().replace("1.0.0\n", "1.0.0\n        retired: true\n", 1))
    audited.release()
    targets = audited.root / "releases/targets.yaml"
    targets.write_text(targets.read_text() + 'proposals: {sign_off: true, title: "chore(log): {title}"}\n')
    audited.commit()
    before = audited.git("status", "--porcelain"), audited.git("rev-parse", "HEAD")
    done = audited.reconcile("audit", "checkpoint", "--propose", "branch")
    assert done.code == 0
    branch = re.search(r"branch (\S+) created", done.err)[1]
    assert (audited.git("status", "--porcelain"), audited.git("rev-parse", "HEAD")) == before
    assert "unchanged" in audited.reconcile("audit", "checkpoint", "--propose", "branch").err
    message = audited.git("log", "-1", "--format=%B", branch)
    assert message.startswith("chore(log): Sign checkpoint 3 of the audit log\n\n- retire llm@1.0.0\n")
    assert "Signed-off-by: Test <test@example.com>" in message
    audited.git("merge", "--quiet", branch)
    assert audited.reconcile("audit").out.startswith("ok: example.org/acme: 3 entries")
    done = audited.reconcile("audit", "checkpoint", "--propose", "branch")
    assert (done.code, "nothing to write" in done.err) == (0, True)


def test_a_leaf_of_a_version_that_the_index_does_not_have_gets_no_number(audited: AuditedRepository) -> None:
    entry = (audited.log / "leaves/llm@1.0.0.1.json").read_bytes()
    (audited.log / "leaves/llm@7.0.0.1.json").write_bytes(entry.replace(b'"1.0.0"', b'"7.0.0"'))
    audited.commit()
    code, message = audited.fails("checkpoint")
    assert (code, "says release of llm@7.0.0, which is not in the index" in message) == (4, True)
    assert audited.reconcile().code == 0  # which logs that it was removed
    audited.commit()
    assert [each["event"] for each in audited.sign()["added"]] == ["release", "remove"]


def test_a_leaf_that_skips_a_number_is_not_signed(audited: AuditedRepository) -> None:
    entry = (audited.log / "leaves/llm@1.0.0.1.json").read_bytes()
    yank = entry.replace(b'"release"', b'"yank"').replace(b'"number":1', b'"number":3,"reason":"x"')
    yank = re.sub(rb',"record":"\w+"', b"", yank)
    (audited.log / "leaves/llm@1.0.0.3.json").write_bytes(yank)
    audited.commit()
    code, message = audited.fails("checkpoint")
    assert (code, "leaf 3 follows leaf 1" in message) == (4, True)


# -- witnesses -----------------------------------------------------------------------------------------------


def test_a_checkpoint_needs_its_quorum_of_witnesses(started: AuditedRepository) -> None:
    log = parse_note_key(KEY)
    good = WitnessPeer("witness.example/good", [log])
    strange = WitnessPeer("witness.example/strange", [], seed=b"s" * 32)
    with http_peer(good) as one, http_peer(strange) as two:
        listed = ", ".join(
            f'{{key: "{witness.key}", url: "{peer.url}"}}' for witness, peer in ((good, one), (strange, two))
        )
        file = started.root / "releases/targets.yaml"
        text = file.read_text().replace("key_env: LOG_KEY", f"key_env: LOG_KEY, witnesses: [{listed}]")
        file.write_text(text)
        started.release()
        code, message = started.fails("checkpoint")
        assert (code, "1 of 2 witnesses cosigned the checkpoint, and 2 must" in message) == (1, True)
        assert "witness.example/strange: does not know the log" in message
        assert not (started.log / "checkpoint").exists()
        file.write_text(text.replace("witnesses:", "quorum: 1, witnesses:"))
        done = started.reconcile("audit", "checkpoint")
        assert (done.code, "note: not cosigned: the witness witness.example/strange" in done.err) == (0, True)
        before, asked = (started.log / "checkpoint").read_bytes(), len(one.asked)
        assert started.reconcile("audit", "checkpoint", "--json").document["files"] == []
        assert ((started.log / "checkpoint").read_bytes(), len(one.asked)) == (before, asked)
        assert started.reconcile("audit").code == 0
        assert (started.log / "policy").read_text().splitlines() == [
            f"log {KEY}",
            f"witness w1 {good.key} {one.url}",
            f"witness w2 {strange.key} {two.url}",
            "group witnesses 1 w1 w2",
            "quorum witnesses",
        ]
        file.write_text(text)
        assert "cosignatures of 1 of 2 witnesses" in started.fails()[1]
        file.write_text(text.replace("witnesses:", "quorum: 3, witnesses:"))
        assert "larger than the number of witnesses" in started.fails()[1]


def test_a_witness_that_has_seen_another_history_stops_everything(audited: AuditedRepository) -> None:
    witness = WitnessPeer("witness.example/w", [parse_note_key(KEY)])
    witness.seen["example.org/acme"] = 2, b"x" * 32
    with http_peer(witness) as peer:
        file = audited.root / "releases/targets.yaml"
        entry = f'{{key: "{witness.key}", url: "{peer.url}"}}'
        file.write_text(file.read_text().replace("LOG_KEY", f"LOG_KEY, quorum: 1, witnesses: [{entry}]"))
        before = (audited.log / "checkpoint").read_bytes()
        code, message = audited.fails("checkpoint")
        assert (code, "has cosigned another history of example.org/acme" in message) == (4, True)
        assert (audited.log / "checkpoint").read_bytes() == before
        assert "cosignatures of 0 of 1" in audited.fails()[1]
        witness.seen.clear()  # it was a mistake of the witness: now the log that exists gets its cosignature
        assert audited.reconcile("audit", "checkpoint").code == 0
        assert audited.reconcile("audit").code == 0


# -- where else it is shown ----------------------------------------------------------------------------------


def test_status_and_doctor_say_which_checkpoint_covers_a_version(started: AuditedRepository) -> None:
    reconcile = started.reconcile
    started.release("llm@1.0.0")
    started.sign()
    started.release()
    text = reconcile("status").out
    assert "1.0.0 entry 0 of the audit log, covered by its checkpoint 1" in text
    assert "1.1.0 no checkpoint of the audit log covers it yet" in text
    document = reconcile("status", "--json").document["log"]
    assert document == {
        "origin": "example.org/acme",
        "size": 1,
        "covered": {"llm@1.0.0": 0},
        "problem": None,
    }
    done = reconcile("doctor")
    assert done.code == 0
    assert "ok audit log: checkpoint: 1 entries, root" in done.out
    assert "?? audit log: leaves: 1 leaves have no number yet" in done.out
    damage(started.log / "tile/entries/000.p/1")
    assert "! audit log: " in reconcile("status").out
    assert reconcile("status", "--json").document["log"]["problem"]
    done = reconcile("doctor")
    assert (done.code, "!! audit log: history: " in done.out) == (1, True)


def test_status_without_a_log_says_nothing_about_one(reconcile: CommandLine) -> None:
    reconcile()
    assert "audit log" not in reconcile("status").out + reconcile("doctor").out
    assert reconcile("status", "--json").document["log"] is None
