"""`log:` and `anchor:` in targets.yaml: what they mean, and what they must not contain."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError
from reconciler.index.log_settings import (
    AnchorSettings,
    AuditSettings,
    LogSettings,
    WitnessSpec,
    read_audit_settings,
)
from reconciler.index.targets_file import read_targets

KEY = "example.org/acme+1b64bcad+AZmRSFZl3qkD6zWvT9Wk7aPD3rcOdCnkl+r1wzRyTFBf"
WITNESS = "w1+0676ad42+BFLd/e8LvCuvM1TPjy29lj2jnmKFBCkEd+7vi2yC3ih8"
TARGETS = "targets: {store: {kind: store, path: store}}\n"


def read(tmp_path: Path, text: str) -> AuditSettings:
    file = tmp_path / "targets.yaml"
    file.write_text(TARGETS + text)
    return read_audit_settings(read_targets(file)[1], "targets.yaml")


def test_without_the_keys_there_is_neither(tmp_path: Path) -> None:
    assert read(tmp_path, "") == AuditSettings()
    assert read_audit_settings(b"", "targets.yaml") == AuditSettings()


def test_a_log_with_witnesses_needs_all_of_them_by_default(tmp_path: Path) -> None:
    witness = f'{{key: "{WITNESS}", url: "https://w.example/"}}'
    found = read(tmp_path, f'log: {{key: "{KEY}", key_env: LOG_KEY, witnesses: [{witness}, {witness}]}}\n')
    spec = WitnessSpec(WITNESS, "https://w.example/")
    assert found.log == LogSettings(KEY, "LOG_KEY", (spec, spec), 2)
    found = read(tmp_path, f'log: {{key: "{KEY}", quorum: 0, witnesses: [{witness}]}}\n')
    assert found.log == LogSettings(KEY, "", (spec,), 0)


@pytest.mark.parametrize(
    ("rpc", "expected"),
    [('"http://a/"', ("http://a/",)), ('["http://a/", "http://b/"]', ("http://a/", "http://b/"))],
)
def test_an_anchor_has_one_node_or_several(tmp_path: Path, rpc: str, expected: tuple[str, ...]) -> None:
    sender = "0x" + "AB" * 20
    text = f'anchor: {{chain: 314, rpc: {rpc}, key_env: K, sender: "{sender}", max_fee: 5}}\n'
    assert read(tmp_path, text).anchor == AnchorSettings(314, expected, "K", "", sender.lower(), 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log: {}\n", "key"),
        ('log: {key: "x"}\n', "is not a verifier key"),
        (f'log: {{key: "{KEY}", key_env: "PRIVATE+KEY+x"}}\n', "is not the name of an environment variable"),
        (f'log: {{key: "{KEY}", witnesses: [{{key: "{WITNESS}"}}]}}\n', "url"),
        (
            f'log: {{key: "{KEY}", witnesses: [{{key: "{WITNESS}", url: "https://u:hunter2@w/"}}]}}\n',
            "user name or password",
        ),
        (
            'anchor: {chain: 1, rpc: "https://a/?key=hunter2", key_env: K}\n',
            "query or fragment",
        ),
        ('anchor: {chain: 0, rpc: "https://a/", key_env: K}\n', "chain"),
        ("anchor: {chain: 1, rpc: [], key_env: K}\n", "rpc"),
        ('anchor: {chain: 1, rpc: "https://a/", key_env: K, sender: "0x1"}\n', "is not an address"),
    ],
)
def test_invalid_settings_are_refused_without_showing_a_secret(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(InvalidIndexError, match=message) as caught:
        read(tmp_path, text)
    assert "hunter2" not in str(caught.value)
