"""A repository with one large version for Filecoin Onchain Cloud, and its commands in other processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.support.large_files import MIB, sparse_file
from tests.support.onchain.lab import KEYS, OnchainLab

#: what such a process needs in its environment
ENVIRONMENT = {"FILECOIN_KEY": KEYS[0]}
#: the code of a process: a directory, the exit code that is expected, and the arguments of `reconcile`
RUN = """
import os, sys
os.chdir(sys.argv[1])
expected, sys.argv[1:] = int(sys.argv[2]), sys.argv[3:]
from reconciler.cli import main
try:
    main()
except SystemExit as done:
    assert done.code == expected, done.code
"""
_INDEX = """\
schema: 1
id: acme
defaults: {targets: [filecoin]}
models:
  llm: {license: MIT, versions: {"1.0.0": {path: weights, created_at: "2026-05-07T00:00:00Z"}}}
"""


def write_repository(root: Path, lab: OnchainLab, sizes: Mapping[str, int]) -> None:
    """Write an index with llm@1.0.0, whose sparse files have these `sizes` in bytes, and its target with two
    copies.
    """
    (root / "releases").mkdir(parents=True)
    (root / "releases/index.yaml").write_text(_INDEX)
    entry = {
        "kind": "filecoin",
        "network": "devnet",
        "rpc": [lab.url],
        "contract": lab.service,
        "key_env": "FILECOIN_KEY",
        "copies": 2,
    }
    (root / "releases/targets.yaml").write_text(json.dumps({"targets": {"filecoin": entry}}))
    first = 0
    for name, size in sizes.items():
        sparse_file(root / "weights" / name, size, first)
        first += -(-size // MIB)
