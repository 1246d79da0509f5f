"""No secret is ever printed: all credentials contain a canary, all peers echo it, all output is searched."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from reconciler.forges.open import KINDS as FORGES
from reconciler.targets.storacha.delegation import read_proof
from reconciler.trust.note import new_note_key
from tests.support.canary import CANARY, forms, leaks
from tests.support.command_line import INDEX, RUN, CommandLine
from tests.support.echo_peer import STATUSES, echo_peer
from tests.targets.storacha.credentials import PROOF

SCHEMAS = Path(__file__).parents[2] / "schemas"

#: every option of targets.yaml that names a credential, as kind and path; a new one has to be tried below
CREDENTIALS = {
    ("anchor", "key_env"),
    ("anchor", "rpc_token_env"),
    ("filecoin", "key_env"),
    ("filecoin", "payer_key_env"),
    ("filecoin", "rpc_token_env"),
    ("ipfs-cluster", "nodes/token_env"),
    ("ipfs-cluster", "token_env"),
    ("kubo", "token_env"),
    ("log", "key_env"),
    ("pinning-service", "token_env"),
    ("storacha", "bridge_auth_env"),
    ("storacha", "bridge_secret_env"),
    ("storacha", "principal_env"),
    ("storacha", "proof_env"),
    ("storacha", "rpc_token_env"),
}

TARGETS = """\
targets:
  store: {{kind: store, path: .reconcile/store}}
  node: {{kind: kubo, api: "{url}", token_env: CANARY_BEARER}}
  proxied: {{kind: kubo, api: "{url}", token_env: CANARY_BASIC, auth: basic}}
  cluster:
    kind: ipfs-cluster
    api: "{url}"
    token_env: CANARY_BASIC
    auth: basic
    nodes: [{{api: "{url}", token_env: CANARY_BEARER}}]
  pins: {{kind: pinning-service, endpoint: "{url}", token_env: CANARY_BEARER}}
  read:
    kind: storacha
    space: "did:key:z6MkrtwccKRn3rbbcqXab2rcC1dBGye6MQ3aTRoveTuasdrG"
    endpoint: "{url}"
    service: "did:web:up.example"
    bridge_secret_env: CANARY_BEARER
    bridge_auth_env: STORACHA_AUTH
    rpc: "{url}/rpc/v1"
    rpc_token_env: CANARY_BEARER
  garbage:
    kind: storacha
    space: "did:key:z6MkrtwccKRn3rbbcqXab2rcC1dBGye6MQ3aTRoveTuasdrG"
    principal_env: CANARY_BEARER
    proof_env: CANARY_BEARER
  chain:
    kind: filecoin
    network: devnet
    payer: "0x00000000000000000000000000000000000000aa"
    contract: "0x00000000000000000000000000000000000000bb"
    rpc: ["{url}/rpc/v1"]
    rpc_token_env: CANARY_BEARER
  keys:
    kind: filecoin
    network: devnet
    contract: "0x00000000000000000000000000000000000000bb"
    rpc: ["{url}/rpc/v1"]
    key_env: CANARY_BEARER
    payer_key_env: CANARY_BEARER
"""
CREDENTIAL_HEADERS = ("authorization", "x-auth-secret")
COMMANDS = (
    ("plan", "--json"),
    ("plan", "--format", "markdown"),
    ("status",),
    ("doctor",),
    ("doctor", "--json"),
    ("adopt",),
    ("--json",),
    (),
    ("--propose", "pull-request"),
)

#: a released version whose bytes are not on this machine, so that commands ask the targets for it
ELSEWHERE = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
READERS = (
    ("apply", "plan.json"),
    ("fetch", "llm@0.9.0", "out"),
    ("fetch", "llm@0.9.0", "out", "--json"),
    ("get", ELSEWHERE, "out"),
    ("put", "weights/llm/1.0.0", "--target", "node"),
    ("put", "weights/llm/1.0.0", "--target", "cluster"),
    ("verify", "llm@0.9.0"),
    ("export", "llm@0.9.0", "out.car"),
    ("status", "--probe", "--router", "{url}", "--allow-private"),
    ("doctor", "--forge"),
    ("doctor", "--forge", "--json"),
)

Run = Callable[[CommandLine, tuple[str, ...], Mapping[str, str]], str]
NOTHING_ELSE: Mapping[str, str] = {}

GIT = """\
#!{python}
import os, sys
with open({log!r}, "a") as log:
    log.write(repr(sys.argv) + "\\n")
os.execv({git!r}, sys.argv)
"""


@pytest.fixture
def released(reconcile: CommandLine) -> CommandLine:
    """A repository with one commit, as every forge requires."""
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "start")):
        subprocess.run(["git", *arguments], cwd=reconcile.root, check=True)
    return reconcile


@pytest.fixture
def arguments(tmp_path: Path) -> Iterator[Path]:
    """A log of the arguments of every git that runs, and a PATH that finds the logging one first."""
    log, git = tmp_path / "arguments", shutil.which("git")
    shim = tmp_path / "bin/git"
    shim.parent.mkdir()
    shim.write_text(GIT.format(python=sys.executable, log=str(log), git=git))
    shim.chmod(0o755)
    log.touch()
    yield log


def authorization() -> str:
    """A delegation as the bridge of Storacha takes it: what it opens is a secret too, and no canary fits."""
    car = read_proof(PROOF).car
    return "u" + base64.urlsafe_b64encode(car).decode().rstrip("=")


def environment(url: str, forge: str, arguments: Path) -> dict[str, str]:
    return {
        "CANARY_BEARER": CANARY,
        "CANARY_BASIC": f"someone:{CANARY}",
        "STORACHA_AUTH": authorization(),
        "RECONCILE_FORGE": forge,
        "RECONCILE_FORGE_REPOSITORY": "o/r",
        "RECONCILE_FORGE_BASE": "main",
        "RECONCILE_FORGE_API": url,
        "RECONCILE_FORGE_GIT": f"{url}/o/r.git",
        "RECONCILE_FORGE_TOKEN": CANARY,
        "PATH": f"{arguments.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }


def found_in(root: Path) -> dict[str, list[str]]:
    """Return the files below `root` and the git objects that contain a form of the canary."""
    places = {
        str(path.relative_to(root)): leaks(path.read_bytes()) for path in root.rglob("*") if path.is_file()
    }
    objects = subprocess.run(
        ["git", "cat-file", "--batch-all-objects", "--batch", "--unordered"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    places["git objects"] = leaks(objects.stdout)
    return {place: found for place, found in places.items() if found}


def run(released: CommandLine, command: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """Run it in this process; return everything it printed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        done = released(*command)
    assert done.code in (0, 1, 2, 5), done.err
    return done.out + done.err


def run_as_process(released: CommandLine, command: tuple[str, ...], environ: Mapping[str, str]) -> str:
    done = subprocess.run(
        [*RUN, *command],
        cwd=released.root,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1, 2, 5), done.stderr
    return done.stdout + done.stderr


def test_the_canary_is_found_in_each_of_its_forms() -> None:
    """The search itself, without which nothing below could fail."""
    for name, form in forms().items():
        assert len(form) > 20
        assert name in leaks(f"… {form} …")
    for user in ("a", "me", "you", "oauth2", "x-access-token"):
        assert leaks(base64.b64encode(f"{user}:{CANARY}".encode()))
    assert not leaks("[secret] C4nary")


def test_every_option_that_names_a_credential_is_tried() -> None:
    schema = json.loads((SCHEMAS / "targets.schema.json").read_text())
    found = set()
    for kind, definition in schema["$defs"].items():
        for name, option in definition.get("properties", {}).items():
            nested = option.get("items", {}).get("properties", {})
            found |= {(kind, f"{name}/{key}") for key, value in nested.items() if _names_one(value)}
            if _names_one(option):
                found.add((kind, name))
    assert found == CREDENTIALS


def _names_one(option: object) -> bool:
    return isinstance(option, dict) and option.get("$ref") == "#/$defs/env"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(("status", "kind"), [(401, "json"), (200, "text")])
def test_an_echoed_secret_is_never_printed(
    released: CommandLine, arguments: Path, command: tuple[str, ...], status: int, kind: str
) -> None:
    check(released, arguments, command, status, kind, "github")


@pytest.mark.parametrize("command", READERS, ids=" ".join)
@pytest.mark.parametrize(("status", "kind", "debug"), [(401, "json", ""), (200, "text", "1")])
def test_who_wants_bytes_or_applies_a_plan_gives_nothing_away(
    released: CommandLine, arguments: Path, command: tuple[str, ...], status: int, kind: str, debug: str
) -> None:
    edited = INDEX.replace('      "1.0.0":', f'      "0.9.0": {{cid: {ELSEWHERE}}}\n      "1.0.0":')
    released.write("releases/index.yaml", edited)
    check(
        released,
        arguments,
        command,
        status,
        kind,
        "github",
        first=("plan", "-o", "plan.json") if "plan.json" in command else (),
        everywhere=command[0] in ("status", "apply"),
        environ={"RECONCILE_DEBUG": debug},
    )


LOG = """\
log: {{key: "{key}", key_env: CANARY_BEARER}}
anchor: {{chain: 31337, rpc: "{url}", key_env: CANARY_BEARER, rpc_token_env: CANARY_BEARER}}
"""


@pytest.mark.parametrize("kind", ["json", "text"])
@pytest.mark.parametrize(
    "command", [("audit", "checkpoint"), ("audit", "--chain"), ("put", "weights/llm/1.0.0", "--anchor"), ()]
)
def test_keys_of_a_log_and_an_anchor_are_never_printed(
    released: CommandLine, arguments: Path, command: tuple[str, ...], kind: str
) -> None:
    pytest.importorskip("cryptography")
    _, key = new_note_key("example.org/models")
    with echo_peer(200, kind) as peer:
        released.write("releases/targets.yaml", LOG.format(key=key, url=peer.url))
        said = run(released, command, environment(peer.url, "github", arguments))
        for asked in peer.asked:
            assert not leaks(asked.target + asked.body.decode())
    assert said
    assert not leaks(said), said
    assert not found_in(released.root)


def test_no_credential_goes_to_the_router_of_a_probe(released: CommandLine, arguments: Path) -> None:
    """Here the router and the targets are two peers; `check` could not tell them apart."""
    assert released("--only", "llm@1.0.0").code == 0
    with echo_peer(200, "json") as peer, echo_peer(200, "json") as router:
        released.write("releases/targets.yaml", TARGETS.format(url=peer.url))
        command = ("status", "--probe", "--router", router.url, "--allow-private")
        said = run(released, command, environment(peer.url, "github", arguments))
    assert router.asked
    for asked in router.asked:
        assert not leaks(asked.target + json.dumps(asked.headers) + asked.body.decode())
    assert not leaks(said)


@pytest.mark.slow
@pytest.mark.parametrize("forge", FORGES)
@pytest.mark.parametrize("kind", ["json", "html", "text"])
@pytest.mark.parametrize("status", STATUSES)
def test_no_status_and_no_body_gives_it_away(
    released: CommandLine, arguments: Path, status: int, kind: str, forge: str
) -> None:
    for command in (("plan", "--json"), ("doctor",), ("--propose", "pull-request", "--json")):
        check(released, arguments, command, status, kind, forge, run=run_as_process)


@pytest.mark.parametrize("forge", ["gitlab", pytest.param("gitea", marks=pytest.mark.slow)])
def test_git_is_given_the_token_neither_in_an_argument_nor_in_an_address(
    released: CommandLine, arguments: Path, forge: str
) -> None:
    command = ("--propose", "pull-request", "--only", "store")
    check(released, arguments, command, 403, "text", forge, everywhere=False, run=run_as_process)
    assert "ls-remote" in arguments.read_text()


def check(
    released: CommandLine,
    arguments: Path,
    command: tuple[str, ...],
    status: int,
    kind: str,
    forge: str,
    *,
    first: tuple[str, ...] = (),
    everywhere: bool = True,
    environ: Mapping[str, str] = NOTHING_ELSE,
    run: Run = run,
) -> None:
    """Run `command` (`first`, another one) against a peer that echoes, and search all that it left.

    `everywhere`: it asks every target, the bridge of Storacha too.
    """
    with echo_peer(status, kind) as peer:
        released.write("releases/targets.yaml", TARGETS.format(url=peer.url))
        index = (released.root / "releases/index.yaml").read_text()
        released.write(
            "releases/index.yaml",
            index.replace("[store]", "[store, node, proxied, cluster, pins, read, garbage]"),
        )
        environ = environment(peer.url, forge, arguments) | environ
        said = run(released, first, environ) if first else ""
        said += run(released, tuple(part.format(url=peer.url) for part in command), environ)
        sent = [asked for asked in peer.asked if leaks(asked.headers.get("authorization", ""))]
        assert sent, "no request carried the canary, so nothing was tried"
        if everywhere:
            assert any(leaks(asked.headers.get("x-auth-secret", "")) for asked in peer.asked)
        for asked in peer.asked:
            others = {name: value for name, value in asked.headers.items() if name not in CREDENTIAL_HEADERS}
            assert not leaks(asked.target + json.dumps(others)), "in an address or a header of its own"
            assert not leaks(asked.body), "in a request's body"
    assert not leaks(said), said
    assert authorization()[:40] not in said
    assert not found_in(released.root)
    assert not leaks(arguments.read_text()), "in an argument of git"


@pytest.mark.parametrize("debug", [pytest.param("", marks=pytest.mark.slow), "1"])
def test_a_crash_shows_no_secret(released: CommandLine, arguments: Path, tmp_path: Path, debug: str) -> None:
    """A bug on its own shows a traceback; the secret in its frames and its message stays hidden."""
    crash = tmp_path / "crash.py"
    crash.write_text(
        "from reconciler.net.client import HttpClient\n"
        "def broken(self, *a, **k):\n"
        "    raise RuntimeError('broken with', self.secrets, self.__dict__)\n"
        "HttpClient.request = HttpClient.stream = broken\n"
        "from reconciler.cli import main\n"
        "main()\n"
    )
    with echo_peer(401, "json") as peer:
        released.write("releases/targets.yaml", TARGETS.format(url=peer.url))
        index = (released.root / "releases/index.yaml").read_text()
        released.write("releases/index.yaml", index.replace("[store]", "[node, proxied]"))
        done = subprocess.run(
            [sys.executable, str(crash), "plan"],
            cwd=released.root,
            env={**os.environ, **environment(peer.url, "github", arguments), "RECONCILE_DEBUG": debug},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == bool(debug)
    assert "broken with" in done.stderr
    assert not leaks(done.stdout + done.stderr), done.stderr
