"""Clients that are missing, wrong, broken, lying or stuck: one clear error each."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from reconciler.content.pieces import shard_pieces
from reconciler.errors import PeerError, UsageError, Where
from reconciler.index.model import TargetSpec
from reconciler.net.errors import AccessDeniedError, TransientError, UnexpectedResponseError
from reconciler.net.retry import RetryBudget
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, RunTerms
from reconciler.targets.storacha.options import read_options
from reconciler.targets.storacha.target import CLIENT_SHARDING, StorachaTarget
from tests.support.killed import has_text, kill_when, living
from tests.support.pairs import pairs
from tests.support.shapes import bundle
from tests.support.waiting import wait_until
from tests.targets.storacha import credentials

DAG = bundle("fakes")
(SHARD,) = shard_pieces(DAG, CLIENT_SHARDING).shards
LINE = f'{{"piece":{{"/":"{SHARD.piece}"}},"shard":{{"/":"{SHARD.cid}"}},"size":{SHARD.size}}}'
ROOT = f'{{"root":{{"/":"{DAG.layout.root}"}}}}'
STACK = """file:///x/dist/service.js:1
    throw new Error('failed', { cause })
          ^

Error: failed space/blob/add invocation
    at add (file:///x/dist/blob/add.js:2:3) {
  [cause]: {
    name: '%s',
    message: '%s'
  }
}

Node.js v20.20.2
"""

FAKE = """#!{python}
import os, sys, time
with open({log!r}, "a") as log:
    print(sys.argv[1:], sorted(name for name in os.environ), file=log)
if sys.argv[1:] == ["--version"]:
    print({version!r})
elif sys.argv[1:3] == ["space", "add"]:
    print({space!r})
elif sys.argv[1] == "ls":
    pass
else:
    {body}
"""
READ = "sys.stdin.buffer.read(); "


def fake(
    folder: Path,
    body: str,
    version: str = "storacha, 1.6.32",
    space: str = credentials.SPACE,
    terms: RunTerms = RunTerms(),
) -> StorachaTarget:
    """Return a target whose client is a script that runs `body` as its upload command."""
    program = folder / "storacha"
    log = str(folder / "log")
    program.write_text(FAKE.format(python=sys.executable, log=log, version=version, space=space, body=body))
    program.chmod(0o755)
    return target(cli=str(program), terms=terms)


def target(
    environ: dict[str, str] | None = None,
    *,
    terms: RunTerms = RunTerms(),
    **options: object,
) -> StorachaTarget:
    given = {"space": credentials.SPACE, "principal_env": "KEY", "proof_env": "PROOF"} | options
    secrets = {"KEY": credentials.PRINCIPAL, "PROOF": credentials.PROOF}
    environ = {"PATH": os.environ["PATH"]} | secrets | (environ or {})
    spec = TargetSpec("space", "storacha", given, Where("targets.yaml", 2))
    made = read_options(spec, environ)
    return StorachaTarget("space", made, environ, root=Path(), sleep=lambda _: None, terms=terms)


def publish(where: StorachaTarget) -> object:
    try:
        return where.publish(DAG, "", QUIET)
    finally:
        where.close()


BODIES = {
    "does nothing and succeeds": ("pass", "stored nothing"),
    "reads all and prints nothing": (READ, "stored nothing"),
    "half a line": (READ + f"sys.stdout.write({LINE[:40]!r})", "middle of a line"),
    "a whole line without its end": (READ + f"sys.stdout.write({ROOT!r})", "middle of a line"),
    "words": (READ + "print('all fine')", "instead of JSON"),
    "wrong types": (READ + "print('[1, 2]')", "the document is not an object"),
    "a size that is a boolean": (
        READ + f"print({LINE.replace(str(SHARD.size), 'true')!r})",
        "'size' is not a whole number",
    ),
    "no CARs": (READ + f"print({ROOT!r})", "stored no other CAR instead of the CAR"),
    "a line after the root": (READ + f"print({ROOT!r}); print({LINE!r})", "a line follows the root"),
    "another root": (
        READ + f"print({LINE!r}); print({ROOT.replace('bafy', 'bafk')!r})",
        "stored the root bafk",
    ),
    "another size": (
        READ + f"print({LINE.replace(str(SHARD.size), '99999')!r}); print({ROOT!r})",
        rf"\(99999 bytes, piece {SHARD.piece}\) instead of the CAR {SHARD.cid} \({SHARD.size} bytes",
    ),
    "exit 1 and a stack": (
        f"sys.stderr.write({STACK % ('BlobAddError', 'no room')!r}); sys.exit(1)",
        "exit code 1: no room",
    ),
    "killed": ("os.kill(os.getpid(), 9)", "exit code -9"),
}


@pytest.mark.parametrize("what", BODIES)
def test_an_upload_that_the_client_does_not_prove_is_an_error(tmp_path: Path, what: str) -> None:
    body, said = BODIES[what]
    with pytest.raises(UnexpectedResponseError, match=said):
        publish(fake(tmp_path, body))


def test_an_upload_that_the_space_does_not_list_is_partial(tmp_path: Path) -> None:
    """The client prints the right result, but the space does not list it afterwards."""
    delivery = publish(fake(tmp_path, READ + f"print({LINE!r}); print({ROOT!r})"))
    assert delivery.state.value == "partial"  # type: ignore[attr-defined]


@pytest.mark.parametrize("message", ["fetch failed", "other side closed"])
def test_a_connection_that_breaks_is_tried_three_times(tmp_path: Path, message: str) -> None:
    stack = STACK % ("TypeError", message)
    with pytest.raises(TransientError, match=f"connection of the storacha command broke .{message}"):
        publish(fake(tmp_path, f"sys.stderr.write({stack!r}); sys.exit(1)"))
    assert (tmp_path / "log").read_text().count("'up'") == 3


@pytest.mark.parametrize(
    ("name", "message", "said"),
    [
        ("ServiceUnavailable", 'The "space/blob/add" capability is currently disabled.', "refuses writes"),
        ("Unauthorized", "Claim {} is not authorized", "does not allow this .Claim {} is not authorized"),
    ],
)
def test_a_refusal_by_the_service_is_access_denied(
    tmp_path: Path, name: str, message: str, said: str
) -> None:
    stack = STACK % (name, message)
    with pytest.raises(AccessDeniedError, match=said):
        publish(fake(tmp_path, f"sys.stderr.write({stack!r}); sys.exit(1)"))
    assert (tmp_path / "log").read_text().count("'up'") == 1


@pytest.mark.parametrize("version", ["storacha, 0.9.1", "storacha, 3.0.0", "v20.1.0", "", "w3, 7.0.0"])
def test_a_wrong_version_gets_no_upload(tmp_path: Path, version: str) -> None:
    with pytest.raises(UnexpectedResponseError, match="version"):
        publish(fake(tmp_path, READ, version=version))
    assert "'up'" not in (tmp_path / "log").read_text()


OLD_NODE = """/x/dist/index.js:7
const response = await fetch(url)
                       ^

ReferenceError: fetch is not defined
    at file:///x/dist/index.js:7:24

Node.js v16.20.2
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            f"#!/bin/sh\ncat >&2 <<'END'\n{OLD_NODE}END\nexit 1\n",
            "on Node.js 16, which is too old: fetch is not",
        ),
        (
            "#!/bin/sh\necho \"env: 'node': No such file or directory\" >&2\nexit 127\n",
            "be started: env: 'node'",
        ),
        ("#!/bin/sh\nexit 126\n", "cannot be started: no reason printed"),
        ("#!/no/such/interpreter\n", "cannot run"),
        ("no program at all", "cannot run"),
    ],
    ids=["old Node", "no Node", "not executable", "no interpreter", "garbage"],
)
def test_without_a_working_node_the_error_says_what_to_install(
    tmp_path: Path, script: str, said: str
) -> None:
    program = tmp_path / "storacha"
    program.write_text(script)
    program.chmod(0o755)
    where = target(cli=str(program))
    with pytest.raises(UnexpectedResponseError, match=said) as raised:
        publish(where)
    assert "Node.js 18 or later" in (raised.value.hint or "")
    (finding,) = (each for each in where.diagnose() if each.subject == "client")
    assert finding.ok is False
    assert "Node.js 18 or later" in finding.hint


LISTED = f'{{"root":{{"/":"{DAG.layout.root}"}},"shards":[{{"/":"{SHARD.cid}"}}]}}'
READS = {
    "half a line": (f"sys.stdout.write({LISTED[:50]!r})", UnexpectedResponseError, "middle of a line"),
    "a line without its end": (f"sys.stdout.write({LISTED!r})", UnexpectedResponseError, "middle of a line"),
    "a good line and half a line": (
        f"print({LISTED!r}); sys.stdout.write({LISTED[:9]!r})",
        UnexpectedResponseError,
        "middle of a line",
    ),
    "words": ("print('no uploads yet')", UnexpectedResponseError, "instead of JSON"),
    "bytes that are not text": (
        "sys.stdout.buffer.write(bytes([255, 254, 10]))",
        UnexpectedResponseError,
        "instead of JSON",
    ),
    "wrong types": ("print('[1]')", UnexpectedResponseError, "'root' is not a link to a CID"),
    "a root that is a number": (
        "print('{\"root\":1}')",
        UnexpectedResponseError,
        "'root' is not a link to a CID",
    ),
    "exit 1 and a stack": (
        f"sys.stderr.write({STACK % ('UploadListError', 'table is gone')!r}); sys.exit(1)",
        UnexpectedResponseError,
        "exit code 1: table is gone",
    ),
    "a connection that breaks": (
        f"sys.stderr.write({STACK % ('TypeError', 'fetch failed')!r}); sys.exit(1)",
        TransientError,
        "connection of the storacha command broke",
    ),
    "access denied": (
        f"sys.stderr.write({STACK % ('Unauthorized', 'Claim is not authorized')!r}); sys.exit(1)",
        AccessDeniedError,
        "does not allow this",
    ),
    "half a line and a kill": (
        f"sys.stdout.write({LISTED[:50]!r}); sys.stdout.flush(); os.kill(os.getpid(), 9)",
        UnexpectedResponseError,
        "exit code -9",
    ),
    "hangs": ("time.sleep(300)", TransientError, "made no progress"),
    "hangs after half a line": (
        f"sys.stdout.write({LISTED[:50]!r}); sys.stdout.flush(); time.sleep(300)",
        TransientError,
        "made no progress",
    ),
}


@pytest.mark.parametrize(("what", "command"), pairs(list(READS), ["ls", "can"], every=2))
def test_a_client_that_reads_badly_leaves_the_space_unknown(tmp_path: Path, what: str, command: str) -> None:
    """Listing uploads and querying deals yield no state then, least of all `absent` or `lost`."""
    body, error, said = READS[what]
    if command == "can" and what in ("wrong types", "a root that is a number"):
        said = "unexpected output"
    where = fake(tmp_path, body)
    program = tmp_path / "storacha"
    listing = body if command == "ls" else f"print({LISTED!r})"
    program.write_text(program.read_text().replace('"ls":\n    pass', f'"ls":\n    {listing}'))
    assert where._client is not None
    where._client._short = 2.0 if what.startswith("hangs") else 60.0
    expected = [Expected(DAG.layout.root, ("",), pieces=shard_pieces(DAG, CLIENT_SHARDING))]
    try:
        if (command, error) == (
            "can",
            AccessDeniedError,
        ):  # the uploads are known, and a note says that the deals are not
            inventory = where.observe(expected, Check.QUICK, "", QUIET)
            assert inventory.observations[DAG.layout.root].deals == ()
            assert "filecoin/info failed" in inventory.notes[0]
            return
        with pytest.raises(error, match=said):
            where.observe(expected, Check.QUICK, "", QUIET)
    finally:
        where.close()


def test_a_proof_for_another_space_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(AccessDeniedError, match="the delegation is for did:key:zOther"):
        publish(fake(tmp_path, READ, space="did:key:zOther"))


@pytest.mark.parametrize("read", ["", "sys.stdin.buffer.read(10); ", READ])
def test_a_client_that_hangs_is_killed_with_all_its_processes(tmp_path: Path, read: str) -> None:
    where = fake(tmp_path, f"os.system('sleep 300 &'); {read}time.sleep(300)")
    assert where._client is not None
    where._client._silence = 0.5
    begin = time.monotonic()
    with pytest.raises(TransientError, match="made no progress"):
        publish(where)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("command", ["up", "--version"])
def test_the_end_of_the_run_ends_a_client_that_hangs(tmp_path: Path, command: str) -> None:
    """Also one that is started afterwards, and what it has started."""
    told, budget, groups = tmp_path / "pid", RetryBudget(), list[int]()
    hangs = f"open({str(told)!r}, 'w').write(str(os.getpid())); os.system('sleep 60')"
    where = fake(tmp_path, hangs, terms=RunTerms(budget))
    if command == "--version":
        program = tmp_path / "storacha"
        program.write_text(program.read_text().replace("print('storacha, 1.6.32')", hangs))

    def end() -> None:
        wait_until("the client runs", lambda: has_text(told), 60)
        groups.append(int(told.read_text()))
        budget.end()

    thread = threading.Thread(target=end)
    thread.start()
    for _ in range(2):
        with pytest.raises(PeerError):
            where.publish(DAG, "", QUIET)
    thread.join()
    where.close()
    wait_until("nothing of it is left", lambda: not living(groups[0]))


@pytest.mark.parametrize("read", ["sys.stdin.buffer.read(10); ", READ])
def test_an_upload_can_be_interrupted_while_the_client_works(tmp_path: Path, read: str) -> None:
    """The progress raises when a run is stopped, and the run does not wait for the client."""

    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    where = fake(tmp_path, f"{read}time.sleep(300)")
    assert where._client is not None
    begin = time.monotonic()
    with pytest.raises(Stopped):
        where._client.upload([bytes(1 << 20)], 1 << 27, stop)
    assert time.monotonic() - begin < 60
    where.close()


def test_without_a_client_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    for where in (
        target({"PATH": str(tmp_path)}),
        target(cli=str(tmp_path / "none")),
        target(cli=str(tmp_path)),
    ):
        with pytest.raises(UnexpectedResponseError) as raised:
            publish(where)
        assert "npm install -g @storacha/cli@" in (raised.value.hint or "")
        assert [each.ok for each in where.diagnose() if each.subject == "client"] == [False]


def test_no_secret_is_in_an_argument_or_an_error_and_the_environment_is_small(tmp_path: Path) -> None:
    """A key that the client prints is redacted; our other variables do not reach the client."""
    body = "sys.stderr.write('Error: ' + os.environ['STORACHA_PRINCIPAL']); sys.exit(1)"
    where = fake(tmp_path, body)
    where._client._environ = {**where._client._environ, "GITHUB_TOKEN": "x"}  # type: ignore[union-attr]
    with pytest.raises(UnexpectedResponseError) as raised:
        publish(where)
    log = (tmp_path / "log").read_text()
    assert "STORACHA_PRINCIPAL" in log
    assert "GITHUB_TOKEN" not in log
    for text in (log, str(raised.value), raised.value.hint or ""):
        assert credentials.PRINCIPAL not in text
        assert credentials.PROOF not in text
    assert "[secret]" in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("KEY", "garbage", "'KEY' is not a private key"),
        ("KEY", credentials.PROOF, "'KEY' is not a private key"),
        ("PROOF", "garbage", "'PROOF' is not a delegation"),
        (
            "PROOF",
            credentials.PROOF[:-40],
            "'PROOF' is not a delegation: .* or truncated",
        ),
        ("PROOF", "m!!!", "'PROOF' is not a delegation: not base64"),
        ("PROOF", "", "'PROOF' is empty"),
    ],
)
def test_an_invalid_credential_is_an_error_that_names_its_variable(
    variable: str, value: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        target({variable: value})
    assert not value or value not in str(raised.value)


def test_without_a_bridge_the_client_is_queried_for_deals(tmp_path: Path) -> None:
    """Empty output is not a lost deal, and malformed output is an error."""
    where = fake(tmp_path, "print()")
    listed = f'{{"root":{{"/":"{DAG.layout.root}"}},"shards":[{{"/":"{SHARD.cid}"}}]}}'
    program = tmp_path / "storacha"
    program.write_text(program.read_text().replace('"ls":\n    pass', f'"ls":\n    print({listed!r})'))
    expected = [Expected(DAG.layout.root, ("",), pieces=shard_pieces(DAG, CLIENT_SHARDING))]
    (deal,) = where.observe(expected, Check.QUICK, "", QUIET).observations[DAG.layout.root].deals
    assert (deal.state.value, deal.piece) == ("aggregating", SHARD.piece)
    assert "or no longer" in deal.detail
    program.write_text(program.read_text().replace("print()", "print('{\"aggregate\":1}')"))
    with pytest.raises(PeerError):
        where.observe(expected, Check.QUICK, "", QUIET)
    where.close()


KILLED = """
import os, sys
from pathlib import Path
from reconciler.progress import QUIET
from tests.targets.storacha.test_storacha_client import DAG, fake
told = os.environ["TMPDIR"] + "/pid"
body = f"open({told!r}, 'w').write(str(os.getpid())); time.sleep(60)"
fake(Path(sys.argv[1]), body).publish(DAG, "", QUIET)
"""


def test_after_a_kill_the_next_run_removes_the_key_once_the_client_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environ = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[3])}
    told = temporary / "pid"
    kill_when(lambda: has_text(told), [sys.executable, "-c", KILLED, str(tmp_path)], environ=environ)
    deadline = time.monotonic() + 60
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (left,) = temporary.glob("reconcile-storacha-*")
    assert (left / "proof.car").exists()
    with pytest.raises(UnexpectedResponseError):
        publish(fake(tmp_path, "pass"))
    assert (left / "proof.car").exists(), "its client still runs"
    os.kill(int(told.read_text()), signal.SIGKILL)
    while left.exists():
        assert time.monotonic() < deadline
        with pytest.raises(UnexpectedResponseError):
            publish(fake(tmp_path, "pass"))
    assert list(temporary.iterdir()) == [told]
