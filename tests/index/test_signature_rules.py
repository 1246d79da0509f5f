"""What an index may demand of its own releases: `signatures`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError
from reconciler.index.load import load_index
from reconciler.index.signature_rules import SignerSpec


def index(tmp_path: Path, signatures: object) -> Path:
    file = tmp_path / "index.yaml"
    file.write_text(json.dumps({"schema": 1, "id": "acme", "signatures": signatures, "models": {}}))
    return file


def test_files_are_relative_to_the_index(tmp_path: Path) -> None:
    rule = load_index(
        index(tmp_path, {"signed_by": [{"key": "keys/acme.pem"}], "models": ["acme/*"]})
    ).signatures
    assert rule is not None
    assert rule.signers == (SignerSpec(key=tmp_path / "keys/acme.pem"),)
    assert rule.covers("Acme/LLM")
    assert not rule.covers("other")


@pytest.mark.parametrize(
    ("signatures", "message"),
    [
        ({}, "signed_by"),
        ({"signed_by": []}, "signed_by"),
        ({"signed_by": [{"key": "k"}], "index": "x"}, "index"),
        ({"signed_by": [{"key": "k"}], "mode": "off"}, "mode"),
        ({"signed_by": [{"key": "k"}] * 9}, "signed_by"),
        ({"signed_by": [{"key": "k"}], "threshold": 0}, "threshold"),
        ({"signed_by": [{"key": "k"}], "threshold": 2}, "from 1 to the 1 signers"),
        ({"signed_by": [{"key": "/etc/shadow"}]}, "key"),
        ({"signed_by": [{"key": "../../secret.pem"}]}, "key"),
        ({"signed_by": [{"key": "keys/../../secret.pem"}]}, "key"),
        ({"signed_by": [{"authority": "/etc/ssl/ca.pem"}]}, "authority"),
        ({"signed_by": [{"identity": "a", "issuer": "b", "trusted_root": "/dev/zero"}]}, "trusted_root"),
        ([{"signed_by": [{"key": "k"}]}], "signatures"),
    ],
)
def test_an_invalid_demand_is_an_error_with_its_line(
    tmp_path: Path, signatures: object, message: str
) -> None:
    with pytest.raises(InvalidIndexError, match=message) as raised:
        load_index(index(tmp_path, signatures))
    assert "index.yaml:1" in str(raised.value)
