"""The sample models are what they claim to be, and `--check` notices when they are not."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import pytest

from tests.support.scratch import PROJECT
from tests.support.scripts import check

VERSIONS = sorted((PROJECT / "weights" / "tiny-lm").iterdir())


def header(file: Path) -> tuple[dict[str, Any], int]:
    """The tensors of a safetensors file, and how many bytes follow its header."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = json.loads(data[8 : 8 + length])
    tensors.pop("__metadata__")
    return tensors, len(data) - 8 - length


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_the_weights_are_a_whole_safetensors_file(version: Path) -> None:
    tensors, size = header(version / "model.safetensors")
    spans = sorted(tuple(tensor["data_offsets"]) for tensor in tensors.values())
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    for tensor in tensors.values():
        start, end = tensor["data_offsets"]
        assert tensor["dtype"] == "F16"
        assert end - start == 2 * prod(tensor["shape"])


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_configuration_tokenizer_and_weights_agree(version: Path) -> None:
    tensors, _ = header(version / "model.safetensors")
    config = json.loads((version / "config.json").read_text())
    vocabulary = json.loads((version / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(config["vocab_size"]))
    assert tensors["transformer.wte.weight"]["shape"] == [config["vocab_size"], config["n_embd"]]
    assert tensors["transformer.wpe.weight"]["shape"] == [config["n_positions"], config["n_embd"]]
    layers = {name.split(".")[2] for name in tensors if name.startswith("transformer.h.")}
    assert layers == {str(layer) for layer in range(config["n_layer"])}


def test_the_versions_differ_in_their_weights() -> None:
    assert len({(version / "model.safetensors").read_bytes() for version in VERSIONS}) == len(VERSIONS) > 1


def test_check_names_every_file_that_differs(scratch_clone: Path) -> None:
    assert check(scratch_clone / "scripts" / "make_sample.py") == (0, "")
    folder = scratch_clone / "weights" / "tiny-lm" / "1.0.0"
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").unlink()
    (folder / "extra").touch()
    code, error = check(scratch_clone / "scripts" / "make_sample.py")
    assert code == 1
    assert "1.0.0/config.json: differs" in error
    assert "1.0.0/tokenizer.json: missing" in error
    assert "1.0.0/extra: not part of the sample" in error
