from __future__ import annotations

import shutil
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.content.patterns import FilePatterns
from reconciler.content.remote_listing import remote_listing
from reconciler.content.scan import SourceFile, scan
from tests.support.plant import plant

NAMES = st.sampled_from(["a", "b.bin", ".hidden", "onnx", "deep", "x.safetensors"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(
    st.sampled_from(["*.bin", "onnx/", "!onnx/b.bin", "/a", "deep/**", "**/x.safetensors", "!*.bin", ".*"]),
    max_size=3,
).map(tuple)


def _never(file: SourceFile, size: int, offset: int) -> bytes:
    raise AssertionError("a listing reads nothing")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.sets(PATHS, min_size=1), include=PATTERNS, exclude=PATTERNS, hidden=st.booleans())
def test_a_listing_selects_what_a_scan_of_the_same_files_selects(
    tmp_path: Path, paths: set[str], include: tuple[str, ...], exclude: tuple[str, ...], hidden: bool
) -> None:
    files = {path: b"1" for path in paths if not any(other.startswith(path + "/") for other in paths)}
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    patterns = FilePatterns(include, exclude)
    scanned = scan(plant(tmp_path / "root", files), include_hidden=hidden, patterns=patterns)
    listed = remote_listing(
        "hub:org/name",
        [(path, 1) for path in files],
        include_hidden=hidden,
        patterns=patterns,
        read_span=_never,
    )
    assert [file.path for file in listed.files] == [file.path for file in scanned.files]
    assert listed.hidden == scanned.hidden
    assert listed.excluded == scanned.excluded
    assert listed.unused == scanned.unused
    with_files = {file.path for file in scanned.files}
    assert list(listed.directories) == [
        directory
        for directory in scanned.directories
        if any(path.startswith(directory + "/") for path in with_files)
    ]
