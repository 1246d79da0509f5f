"""transformers, datasets' hub client and the `hf` command as consumers of the door for the Hub.

They are in an environment of their own, which the command `transformers` on PATH belongs to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.doors import DoorServer, door_server
from tests.support.releases import Releases

pytestmark = [pytest.mark.transformers, pytest.mark.slow]

SAVE = """
import sys
from transformers import BertConfig, BertModel
config = BertConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=100
)
BertModel(config).save_pretrained(sys.argv[1])
"""
COMPARE = """
import sys
import torch
from transformers import AutoModel, BertModel
ours = AutoModel.from_pretrained("acme/bert", revision=sys.argv[2]).state_dict()
theirs = BertModel.from_pretrained(sys.argv[1]).state_dict()
assert set(ours) == set(theirs)
assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
print("equal", len(ours))
"""


@dataclass(frozen=True)
class Consumer:
    """An environment with transformers, its settings, and the saved model."""

    bin: Path
    environ: Mapping[str, str]
    saved: Path
    server: DoorServer

    def run(self, program: str, *arguments: str, **settings: str) -> str:
        done = subprocess.run(
            [self.bin / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={**self.environ, **settings},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consumer]:
    home = tmp_path_factory.mktemp("transformers")
    place = Path(shutil.which("transformers") or "").resolve().parent
    subprocess.run([place / "python", "-c", SAVE, home / "saved"], check=True, capture_output=True)
    releases = Releases(home / "repository")
    releases.add("acme/bert@1.0.0", {file.name: file.read_bytes() for file in (home / "saved").iterdir()})
    releases.apply()
    with door_server(home, "hf", releases=releases) as server:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HOME": str(home / "hub"),
            "HF_ENDPOINT": server.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        yield Consumer(place, environ, home / "saved", server)


def test_transformers_loads_the_same_tensors_and_again_offline(consumer: Consumer) -> None:
    for revision, offline in (("1.0.0", "0"), ("main", "0"), ("1.0.0", "1")):
        arguments = ("-c", COMPARE, str(consumer.saved), revision)
        assert consumer.run("python", *arguments, HF_HUB_OFFLINE=offline).startswith("equal ")


def test_the_hf_command_downloads_and_verifies(consumer: Consumer, tmp_path: Path) -> None:
    out = consumer.run("hf", "download", "acme/bert", "--revision", "1.x", "--local-dir", str(tmp_path))
    assert str(tmp_path) in out
    for file in consumer.saved.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    consumer.run("hf", "download", "acme/bert", "config.json")
    consumer.run("hf", "download", "acme/bert")
    assert "All checksums match" in consumer.run("hf", "cache", "verify", "acme/bert")
