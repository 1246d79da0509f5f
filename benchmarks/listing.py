"""Measure the listing of a Hugging Face repository of many files, against the official client.

The hub is a server of the tests within this process, so both times include the server's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from huggingface_hub import HfApi

from benchmarks.measure import Figure, in_turn, main
from reconciler.sources.interface import HUGGING_FACE
from reconciler.sources.open import open_source
from tests.support.hub_server import HubRepository, hub_server

NAME = "acme/many"
LONGEST = 5  # seconds for 20,000 files


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """List 20,000 files, or 2,000 if `quick`."""
    count = 2_000 if quick else 20_000
    files = {f"shards/{number // 500}/part-{number}.bin": b"%d" % number for number in range(count)}
    with hub_server() as hub:
        repository = hub.add(HubRepository.make(NAME, files))

        def listed() -> None:
            location = f"{NAME}@{repository.commit}"
            environ = {"HF_ENDPOINT": hub.url}
            with closing(open_source(HUGGING_FACE, location, root=directory, environ=environ)) as source:
                if len(source.list().files) != count:
                    raise RuntimeError("files are missing")

        def official() -> None:
            api = HfApi(endpoint=hub.url, token=False)
            if len([*api.list_repo_tree(NAME, revision=repository.commit, recursive=True)]) < count:
                raise RuntimeError("files are missing")

        timing = in_turn(listed, official, rounds=3)
        before = hub.requests("tree")
        listed()
        pages = hub.requests("tree") - before
    detail = f"{timing.subject:.2f} s against {timing.baseline:.2f} s"
    yield Figure(f"list {count:,} files / {LONGEST} s", timing.subject / LONGEST, maximum=1.0, detail=detail)
    yield Figure("the same / the official client", timing.ratio, detail=detail)
    yield Figure("pages requested", pages, maximum=count / 1_000)


if __name__ == "__main__":
    main(run)
