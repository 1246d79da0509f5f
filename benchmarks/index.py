"""An index of 10,000 versions: reading and validating it, against PyYAML's C loader on the same text.

Run `python benchmarks/index.py`; prints one line of JSON. Ratios are of the best of several alternating runs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from reconciler.content import cid as cids
from reconciler.index.load import load_index

VERSIONS = 10_000
PER_MODEL = 20
RUNS = 5
LIMIT = 2.0


def make_index(versions: int) -> str:
    """A plain index as people write it: a path, a date and a CID for each version."""
    lines = ["schema: 1", "id: bench", "defaults: {targets: [store]}", "models:"]
    for number in range(versions):
        model, version = f"model-{number // PER_MODEL:04}", f"1.{number % PER_MODEL}.0"
        if number % PER_MODEL == 0:
            lines += [
                f"  {model}:",
                "    format: safetensors",
                '    channels: {stable: "1.0.0"}',
                "    versions:",
            ]
        lines += [f'      "{version}":', f"        path: weights/{model}/{version}"]
        lines += [
            '        created_at: "2026-05-07T00:00:00Z"',
            f"        cid: {cids.of(cids.DAG_PB, str(number).encode())}",
        ]
    return "\n".join(lines) + "\n"


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    text = make_index(VERSIONS)
    with tempfile.TemporaryDirectory() as directory:
        file, stamps = Path(directory, "index.yaml"), Path(directory, "cache")
        file.write_text(text, encoding="utf-8")
        load_index(file, stamps=stamps)  # also imports what the first load imports
        yaml_loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        plain, full, stamped = [], [], []
        for _ in range(RUNS):
            plain.append(seconds(lambda: yaml.load(text, yaml_loader)))
            full.append(seconds(lambda: load_index(file)))
            stamped.append(seconds(lambda: load_index(file, stamps=stamps)))
    base = min(plain)
    figures = {
        "versions": VERSIONS,
        "bytes": len(text),
        "yaml_c_loader_s": round(base, 3),
        "load_and_validate_s": round(min(full), 3),
        "load_and_validate_ratio": round(min(full) / base, 2),
        "limit": LIMIT,
        "load_with_stamp_ratio": round(min(stamped) / base, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
