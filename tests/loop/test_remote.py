"""A version from a remote source is the one that the same files in a directory give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.content.bundle import make_bundle
from reconciler.content.identify import identify
from reconciler.content.patterns import FilePatterns
from reconciler.content.scan import scan
from reconciler.errors import Where
from reconciler.index.label import Label
from reconciler.index.model import SourceSpec, Version
from reconciler.index.version_source import SourceReference
from reconciler.loop.remote import RemoteVersions
from reconciler.loop.stream_cache import StreamCache
from reconciler.progress import QUIET
from tests.support.memory_source import COMMIT, MemorySource
from tests.support.plant import TREES, plant

MIB = 1 << 20


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=TREES,
    large=st.integers(0, 3 * MIB),
    piece=st.sampled_from([1000, 300_000, MIB, 5 * MIB]),
    exclude=st.sampled_from([(), ("*.bin",), ("deep-copies/",)]),
    data=st.data(),
)
def test_a_streamed_version_has_the_root_and_the_sums_of_the_directory(
    tmp_path: Path,
    files: dict[str, bytes],
    large: int,
    piece: int,
    exclude: tuple[str, ...],
    data: st.DataObject,
) -> None:
    zeros = bytes(large)
    files = {**files, "weight-files/w.safetensors": zeros, "deep-copies/w.bin": zeros, "another-file": b"k"}
    lfs = data.draw(st.sets(st.sampled_from(sorted(files))))
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    patterns = FilePatterns((), exclude)
    listing = scan(plant(tmp_path / "root", files), include_hidden=False, patterns=patterns)
    wanted = identify(make_bundle(listing, model="m", version="1.0.0"), cache=None)
    source = MemorySource(files, frozenset(lfs), piece=piece)
    version = Version(
        "m",
        "1.0.0",
        Where("index.yaml"),
        source=SourceReference("hf", f"a/b@{COMMIT}"),
        patterns=patterns,
        license="MIT",
    )
    specs = {"hf": SourceSpec("hf", "huggingface", {}, Where("sources.yaml"))}
    with pytest.MonkeyPatch.context() as patch:
        source.install(patch)
        remote = RemoteVersions(
            specs, tmp_path, {}, StreamCache(None), QUIET, repository=tmp_path, index_id="acme"
        )
        found, sinks = remote.stream(version, version.inputs, (), Label.of("acme", version.ref))
    assert sinks == []
    assert found.dag.identity == wanted.identity
    assert list(found.dag.layout) == list(wanted.layout)
    for position in range(len(wanted.layout)):
        assert found.dag.read(position) == wanted.read(position)
