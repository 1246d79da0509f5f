"""The commands of docs/filecoin.md lead to a proven copy, run in order on a local chain."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.targets.filecoin.waits import DEFAULT_WAITS
from tests.support.command_line import CommandLine
from tests.support.documents import Command, blocks
from tests.support.onchain.lab import KEYS, OWNERS
from tests.support.onchain.storage import OnchainStorage, onchain_storage
from tests.support.scratch import PROJECT

PAGE = PROJECT / "docs/filecoin.md"
CLAIMS = re.compile(r"\[`(?P<name>\w+)`\]\((?P<file>\.\./reconciler/[\w/]+\.py)\)")
PAGES = [PAGE, PROJECT / "docs/leaving-storacha.md"]


@pytest.fixture
def cloud() -> Iterator[OnchainStorage]:
    with onchain_storage(funds=0) as running:
        yield running


@pytest.fixture
def reconcile(
    cloud: OnchainStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[CommandLine]:
    made = CommandLine(tmp_path, monkeypatch, capsys)
    made.releases()
    index = made.root / "releases/index.yaml"
    index.write_text(index.read_text().replace("targets: [store]", "targets: [filecoin]"))
    entry = {
        "kind": "filecoin",
        "network": "devnet",
        "rpc": [cloud.lab.url],
        "contract": cloud.lab.service,
        "payer": OWNERS[0],
        "key_env": "FILECOIN_SESSION_KEY",
        "copies": 2,
        "max_upload": "1 USDFC",
        "max_monthly": "5 USDFC",
        "min_runway_days": 30,
    }
    store = {"kind": "store", "path": ".reconcile/store"}
    made.write("releases/targets.yaml", json.dumps({"targets": {"filecoin": entry, "store": store}}))
    monkeypatch.setenv("FILECOIN_SESSION_KEY", KEYS[3])
    monkeypatch.setenv("FILECOIN_PAYER_KEY", KEYS[0])
    before = DEFAULT_WAITS.interval
    object.__setattr__(DEFAULT_WAITS, "interval", 0.0)
    yield made
    object.__setattr__(DEFAULT_WAITS, "interval", before)


def commands() -> list[Command]:
    return [command for block in blocks(PAGE) for command in block.commands]


def test_the_page_leads_to_a_proven_copy(cloud: OnchainStorage, reconcile: CommandLine) -> None:
    printed = {}
    for command in commands():
        program, *arguments = shlex.split(command.text)
        assert program == "reconcile"
        if "status" in arguments:
            cloud.prove()
        if "--stop" in arguments:
            index = reconcile.root / "releases/index.yaml"
            index.write_text(index.read_text().replace("targets: [filecoin]", "targets: [store]"))
        done = reconcile(*arguments)
        assert done.code == command.exit_code, f"line {command.line}: {done.out}\n{done.err}"
        printed[command.line] = done.out
        assert not any(key[2:] in done.out + done.err for key in KEYS)
    plan, status = (
        next(text for line, text in printed.items() if word in text) for word in ("costs ", "active")
    )
    assert "costs " in plan
    assert "account " + OWNERS[0] in status
    assert status.count("    active  pdp:") == 4, "two copies of each of two versions"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_claim_about_safety_names_code_that_is_there(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if "../reconciler/" in line]
    assert len(rows) > 3
    for row in rows:
        links = list(CLAIMS.finditer(row))
        assert links, row
        for link in links:
            file = page.parent / link["file"]
            assert file.is_file(), row
            code = file.read_text()
            assert re.search(rf"^\s*(?:def |class )?{link['name']}\b", code, re.MULTILINE), link["name"]
