from __future__ import annotations

import pytest

from tests.support.command_line import CommandLine
from tests.support.seals import identity

INDEX = """\
schema: 1
id: acme
models:
  m:
    license: MIT
    seal: {{recipients: [{key}], names: {names}}}
    versions: {{"1.0.0": {{path: w}}}}
"""


@pytest.fixture(params=["plain", "sealed"])
def fetched(
    empty: CommandLine, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> CommandLine:
    """Return a repository with a sealed version, and its plain files in `d`; names are sealed or not."""
    empty.write("releases/index.yaml", INDEX.format(key=identity().recipient.text, names=request.param))
    for path, data in {"a.bin": b"a" * 70_000, "sub/b.json": b"{}", ".hidden": b"h"}.items():
        empty.write(f"w/{path}", data)
    monkeypatch.setenv("RECONCILE_IDENTITY", identity().text)
    for arguments in (["seal", "m"], ["--json"], ["fetch", "m@1.0.0", "d"]):
        assert empty(*arguments).code == 0
    return empty


def test_plain_files_are_verified_by_sealing_them(fetched: CommandLine) -> None:
    done = fetched("verify", "d")
    assert done.out.startswith("ok: m@1.0.0 bafybei")
    assert fetched("verify", "d", "--json").document["ok"]


def test_every_difference_is_listed_by_plain_name(fetched: CommandLine) -> None:
    fetched.write("d/a.bin", b"b" * 70_000)
    fetched.write("d/more", b"")
    found = fetched("verify", "d", "--json").document
    kinds = {each["path"]: each["kind"] for each in found["differences"]}
    assert kinds == {"a.bin": "changed", "more": "extra"}
    (fetched.root / "d/sub/b.json").unlink()
    (fetched.root / "d/more").unlink()
    done = fetched("verify", "d")
    assert done.code == 1
    assert "changed  a.bin" in done.out
    assert "missing  " in done.out


def test_private_key_is_needed(fetched: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECONCILE_IDENTITY")
    done = fetched("verify", "d")
    assert (done.code, "no private key is at hand to compare" in done.err) == (2, True)
    fetched.write("other.key", identity(2).text)
    refused = fetched("verify", "d", "--identity", "other.key")
    assert (refused.code, "cannot be opened: it is sealed for other keys" in refused.err) == (2, True)
    fetched.write("me.key", identity().text)
    assert fetched("verify", "d", "--identity", "me.key").code == 0
