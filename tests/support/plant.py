"""Source directories for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st

from reconciler.content.bounds import collision_key

MIB = 1 << 20

_NAMES = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8
).filter(lambda name: not name.startswith(".") and "/" not in name)
_TREES = st.dictionaries(
    st.lists(_NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=40), min_size=1, max_size=8
)


def _plantable(files: dict[str, bytes]) -> bool:
    """Return whether no path is also a directory and no two siblings collide."""
    entries = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 2)}
    parents = {path.rpartition("/")[0] for path in entries} - {""}
    keys = [(path.rpartition("/")[0], collision_key(path.rpartition("/")[2])) for path in entries]
    return not parents & files.keys() and len(set(keys)) == len(keys)


#: small trees of files: bytes by path
TREES = _TREES.filter(_plantable)


def plant(root: Path, files: Mapping[str, bytes | None]) -> Path:
    """Create `root` with these files; a path whose bytes are None becomes a directory."""
    root.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        target = root / path
        if data is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root


def noise(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes, determined by the seed, in which no two mebibytes are equal."""
    pattern = seed.to_bytes(4, "big") * (MIB // 4)
    leaves = [number.to_bytes(8, "big") + pattern[8:] for number in range(-(-size // MIB))]
    return b"".join(leaves)[:size]
