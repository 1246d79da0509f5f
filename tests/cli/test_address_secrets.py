"""No address with a secret is printed, whichever variable, flag or file it came from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from reconciler.index.schemas import schema_text
from reconciler.net.retry import RetryPolicy
from tests.support.command_line import CommandLine
from tests.support.http_peer import Asked, Said, http_peer

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
USER, PASSWORD, TOKEN = "us3r0815", 'p/"4ss+=\\w0rt', "t0kenq9"
SECRETS = (USER, '"4ss', "4ss+", "4ss%2B", "w0rt", TOKEN)
#: written as people do and as they should, and in the forms that are no URLs
FORMS = (
    "http://{user}:{password}@127.0.0.1:1",
    "http://{user}:{quoted}@127.0.0.1:1/x?token={token}",
    "{user}:{quoted}@127.0.0.1:1",
    "//{user}:{quoted}@127.0.0.1:1",
    "ftp://{user}:{quoted}@127.0.0.1:1",
    "http://{user}:{quoted}@127.0.0.1:port",
    "http://127.0.0.1:1/x?token={token}",
)
ADDRESSES = [
    form.format(user=USER, password=PASSWORD, quoted=quote(PASSWORD, safe=""), token=TOKEN) for form in FORMS
]

FEW = (ADDRESSES[0], ADDRESSES[1], ADDRESSES[2])  # all of them where a function of its own reads an address

FLAGS = (
    ("fetch", CID, "out", "--gateway", "{}"),
    ("fetch", CID, "out", "--gateway", "{}", "--json"),
    ("fetch", CID, "out", "--gateway", "{}", "--json-events"),
    ("fetch", CID, "out", "--kubo", "{}"),
    ("fetch", CID, "out", "--store", "{}"),
    ("fetch", CID, "out", "--car", "{}"),
    ("fetch", "{}", "out"),
    ("fetch", "{}/ipfs/" + CID, "out", "--gateway", "http://127.0.0.1:1"),
    ("resolve", "llm", "--index", "{}"),
    ("resolve", "llm", "--index", "{}", "--json"),
    ("resolve", "llm", "--index", "{}", "--offline"),
    ("resolve", "llm", "--index", "git+{}"),
    ("resolve", "{}"),
    ("resolve", "llm", "{}"),
    ("plan", "--check", "{}"),
    ("plan", "-C", "{}"),
    ("plan", "--targets", "{}"),
    ("status", "--probe", "--router", "{}", "--allow-private"),
    ("{}",),
    ("add", "other", "1.0.0", "{}"),
    ("identify", "{}"),
    ("import", "{}", "--store", "st"),
)
VARIABLES = (
    ("RECONCILE_GATEWAYS", ("fetch", CID, "out")),
    ("RECONCILE_INDEX", ("resolve", "llm")),
    ("RECONCILE_FORGE_API", ("doctor", "--forge")),
    ("RECONCILE_FORGE_GIT", ("--propose", "pull-request")),
    ("RECONCILE_CACHE", ("verify", "--cache")),
    ("SSL_CERT_FILE", ("fetch", CID, "out", "--gateway", "https://node.invalid")),
    *(
        (name, ("fetch", CID, "out", "--gateway", "http://node.invalid"))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY")
    ),
    *(
        (name, ("fetch", CID, "out", "--gateway", "https://node.invalid"))
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")
    ),
)
FORGE = {
    "RECONCILE_FORGE": "gitea",
    "RECONCILE_FORGE_REPOSITORY": "o/r",
    "RECONCILE_FORGE_BASE": "main",
    "RECONCILE_FORGE_API": "http://127.0.0.1:1",
    "RECONCILE_FORGE_GIT": "http://127.0.0.1:1/o/r.git",
    "RECONCILE_FORGE_TOKEN": "x",
}


@pytest.fixture(autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("RECONCILE_CACHE", str(home / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: 0.0)
    return home


def assert_silent(reconcile: CommandLine, *arguments: str) -> None:
    """Run a command; nothing on either stream contains a part of the secrets."""
    done = reconcile(*arguments)
    said = done.out + done.err
    found = [secret for secret in SECRETS if secret in said]
    assert not found, f"{arguments}: {said}"
    assert said.strip()


@pytest.mark.parametrize("command", FLAGS, ids=" ".join)
def test_an_address_in_a_flag_or_an_argument(reconcile: CommandLine, command: tuple[str, ...]) -> None:
    for address in ADDRESSES if command[3:4] == ("--gateway",) else FEW:
        assert_silent(reconcile, *(part.replace("{}", address) for part in command))


@pytest.mark.parametrize(("variable", "command"), VARIABLES)
def test_an_address_in_a_variable(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, variable: str, command: tuple[str, ...]
) -> None:
    for name, value in FORGE.items():
        monkeypatch.setenv(name, value)
    for address in FEW[:1] if variable.startswith("RECONCILE_FORGE") else FEW:
        monkeypatch.setenv(variable, address)
        assert_silent(reconcile, *command)


def url_keys() -> list[tuple[str, str]]:
    """Every key of targets.yaml that is an address, by kind; a new one is tried without an edit here."""
    definitions = json.loads(schema_text("targets"))["$defs"]
    kinds = definitions["target"]["properties"]["kind"]["enum"]
    return [
        (kind, key)
        for kind in kinds
        for key, value in definitions[kind].get("properties", {}).items()
        if value.get("$ref") == "#/$defs/url"
    ]


REQUIRED: Mapping[str, str] = {
    "storacha": ', space: "did:key:z6MkrtwccKRn3rbbcqXab2rcC1dBGye6MQ3aTRoveTuasdrG"',
}


@pytest.mark.parametrize(("kind", "key"), url_keys())
def test_an_address_in_the_targets_file(reconcile: CommandLine, kind: str, key: str) -> None:
    for address in ADDRESSES if kind == "kubo" else FEW:
        reconcile.write(
            "releases/targets.yaml",
            f"targets:\n  store: {{kind: {kind}, {key}: {json.dumps(address)}{REQUIRED.get(kind, '')}}}\n",
        )
        for command in (("plan",), ("doctor", "--json"), ("status", "--json")):
            assert_silent(reconcile, *command)


@pytest.mark.parametrize("key", ["index", "gateways", "kubo", "stores"])
def test_an_address_in_the_configuration_of_the_user(
    reconcile: CommandLine, own_configuration: Path, tmp_path: Path, key: str
) -> None:
    file = own_configuration / "config/reconcile/config.yaml"
    file.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for address in FEW:
        value = json.dumps(address if key == "index" else [address])
        file.write_text(f"{key}: {value}\n")
        done = reconcile("fetch", "llm" if key == "index" else CID, "out", cwd=elsewhere)
        assert not [secret for secret in SECRETS if secret in done.out + done.err], done.err


def test_an_address_in_a_redirect_or_an_error_of_a_peer(reconcile: CommandLine) -> None:
    def answer(asked: Asked) -> Said:
        if "redirect" in asked.target:
            return Said(302, b"", {"Location": ADDRESSES[1]})
        return Said(400, json.dumps({"message": f"cannot get {ADDRESSES[1]}"}).encode(), {})

    with http_peer(answer) as peer:
        for base in (peer.url, f"{peer.url}/redirect"):
            assert_silent(reconcile, "fetch", CID, "out", "--gateway", base, "--json")
            assert_silent(reconcile, "fetch", CID, "out", "--kubo", base)
            assert_silent(reconcile, "resolve", "llm", "--index", f"{base}/index.yaml?token={TOKEN}")


def test_the_remote_of_a_repository(reconcile: CommandLine) -> None:
    for arguments in (
        ("init", "-q"),
        ("remote", "add", "origin", ADDRESSES[1]),
        ("add", "-A"),
        ("commit", "-q", "-m", "start"),
    ):
        subprocess.run(["git", *arguments], cwd=reconcile.root, check=True)
    for command in (("plan", "--base", "origin/main"), ("--propose", "branch")):
        assert_silent(reconcile, *command)


@pytest.mark.parametrize("debug", ["", "1"])
def test_an_address_in_the_traceback_of_a_bug(tmp_path: Path, debug: str) -> None:
    script = (
        "import reconciler.cli.app, sys\n"
        "def broken(*a, **k):\n"
        "    try:\n"
        f"        int({ADDRESSES[1]!r})\n"
        "    except ValueError as error:\n"
        f"        raise RuntimeError('broken at ' + {ADDRESSES[1]!r}) from error\n"
        "reconciler.cli.app.app = broken\n"
        "sys.argv = ['reconcile', 'plan', '--json']\n"
        "from reconciler.cli import main\n"
        "main()\n"
    )
    file = tmp_path / "crash.py"
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, str(file)],
        env={"RECONCILE_DEBUG": debug, "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, bool(debug))
    assert "broken at" in done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("    ")]
    assert not [secret for secret in SECRETS if secret in "\n".join(lines)], done.stderr
