"""Measure sealed weights against the same weights in the clear: publishing, fetching, and random reads."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main, peak_memory
from reconciler.content.age.keys import AgeIdentity
from reconciler.content.bundle import make_bundle
from reconciler.content.dag import Dag
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.content.sealing.seal_key import SealKey
from reconciler.content.sealing.sealed_dag import identify_sealed
from reconciler.index.seal_keys import write_wrapped_key

MIB = 1 << 20
KEY = AgeIdentity(b"benchmark of a key".ljust(32))
INDEX = "schema: 1\nid: benchmark\nmodels:\n  m: {{license: MIT, {seal}versions: {{'1.0.0': {{path: w}}}}}}\n"
SEAL = f'seal: {{recipients: ["{KEY.recipient.text}"]}}, '
RUN = "import os, sys; os.chdir(sys.argv[1]); os.environ['RECONCILE_IDENTITY'] = sys.argv[2]; "
RUN += "sys.argv[1:] = sys.argv[3:]; from reconciler.cli import main as run\n"
RUN += "try: run()\nexcept SystemExit as done: assert done.code == 0\n"
FETCH = ("fetch", "m@1.0.0", "out", "--no-cache", "--check", "full")


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Time random bytes into and out of a store, with and without sealing, in turn."""
    size = 512 if quick else 2048
    weights = directory / "w"
    weights.mkdir()
    with (weights / "weights.bin").open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
    places = {"sealed": directory / "sealed", "plain": directory / "plain"}

    def tidy() -> None:
        for name, place in places.items():
            for part in (".reconcile", "releases"):
                shutil.rmtree(place / part, ignore_errors=True)
            (place / "releases").mkdir(parents=True)
            seal = SEAL if name == "sealed" else ""
            index = place / "releases/index.yaml"
            index.write_text(INDEX.format(seal=seal))
            if seal:
                write_wrapped_key(index, "m", 1, SealKey(KEY), [KEY.recipient])
        os.sync()

    def tidy_fetched() -> None:
        for place in places.values():
            shutil.rmtree(place / "out", ignore_errors=True)
        os.sync()

    for place in places.values():
        shutil.copytree(weights, place / "w", copy_function=os.link)
    peaks: list[int] = []

    def act(name: str, *arguments: str) -> None:
        peak = peak_memory(RUN, str(places[name]), KEY.text, *arguments)[0]
        if name == "sealed":
            peaks.append(peak)

    tidy()
    rounds = 2
    timing = in_turn(lambda: act("sealed"), lambda: act("plain"), rounds=rounds, between=tidy)
    detail = f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"
    yield Figure(f"publish {size} MiB sealed / plain", timing.ratio, minimum=0.6, detail=detail)
    tidy()
    for name in places:
        act(name)
    tidy_fetched()
    timing = in_turn(
        lambda: act("sealed", *FETCH), lambda: act("plain", *FETCH), rounds=rounds, between=tidy_fetched
    )
    detail = f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"
    yield Figure(f"fetch {size} MiB sealed / plain", timing.ratio, minimum=0.6, detail=detail)
    yield Figure("peak memory when sealed / limit of 128 MiB", max(peaks) / (128 * MIB), maximum=1)
    yield _random_reads(weights, quick)


def _random_reads(weights: Path, quick: bool) -> Figure:
    """Return the figure of leaves that are read in random order."""
    bundle = make_bundle(scan(weights, include_hidden=False), model="m", version="1.0.0")
    plain = identify(bundle, cache=None)
    sealed = identify_sealed(bundle, SealKey(KEY), hides_names=False, cache=None)
    count = 100 if quick else 500

    def read(dag: Dag) -> None:
        leaves = [position for position in range(len(dag.layout)) if dag.layout.block_size(position) == MIB]
        for position in random.Random(1).sample(leaves, min(count, len(leaves))):
            dag.read(position)

    timing = in_turn(lambda: read(sealed), lambda: read(plain), rounds=5)
    detail = f"{count / timing.subject:.0f} a second against {count / timing.baseline:.0f}"
    return Figure("random reads of 1 MiB sealed / plain", timing.ratio, minimum=0.5, detail=detail)


if __name__ == "__main__":
    main(run)
