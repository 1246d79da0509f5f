"""Measure loading an index of 10,000 versions against PyYAML's C loader on the same text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.measure import Figure, in_turn, main
from reconciler.content import cid as cids
from reconciler.index.load import load_index

VERSIONS = 10_000
PER_MODEL = 20


def run(quick: bool, scratch: Path) -> Iterator[Figure]:
    text = make_index(VERSIONS // 4 if quick else VERSIONS)
    file, stamps = scratch / "index.yaml", scratch / "cache"
    file.write_text(text, encoding="utf-8")
    load_index(file, stamps=stamps)  # imports all modules, and writes the stamp
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    for name, cache, maximum in (
        ("load and validate 10,000 versions, to the C YAML loader", None, 2.0),
        ("the same, unchanged since the last validation", stamps, None),
    ):
        timing = in_turn(
            lambda cache=cache: load_index(file, stamps=cache),  # type: ignore[misc]
            lambda: yaml.load(text, loader),
            rounds=7,
        )
        detail = f"{timing.subject:.2f} s to {timing.baseline:.2f} s"
        yield Figure(name, 1 / timing.ratio, maximum=maximum, detail=detail)


def make_index(versions: int) -> str:
    """Return an index with a path, a date and a CID for each version."""
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
        cid = cids.hash_block(cids.DAG_PB, str(number).encode())
        lines += [f'      "{version}":', f"        path: weights/{model}/{version}"]
        lines += ['        created_at: "2026-05-07T00:00:00Z"', f"        cid: {cid}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(run)
