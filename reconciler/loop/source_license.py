"""Licences and formats as a Hugging Face Hub names them, in the words of an index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

#: SPDX identifiers whose case the Hub does not keep; the Hub's identifiers are in lower case
_SPDX = (
    "AFL-3.0",
    "AGPL-3.0",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "CC0-1.0",
    "CC-BY-2.0",
    "CC-BY-2.5",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-2.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-ND-3.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-2.0",
    "CC-BY-NC-SA-3.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "CDLA-Sharing-1.0",
    "ECL-2.0",
    "EPL-1.0",
    "EPL-2.0",
    "EUPL-1.1",
    "EUPL-1.2",
    "GFDL",
    "GPL-2.0",
    "GPL-3.0",
    "ISC",
    "LGPL-2.1",
    "LGPL-3.0",
    "LPPL-1.3c",
    "MIT",
    "MPL-2.0",
    "MS-PL",
    "NCSA",
    "ODbL-1.0",
    "OFL-1.1",
    "OSL-3.0",
    "PDDL-1.0",
    "PostgreSQL",
    "Unlicense",
    "WTFPL",
    "Zlib",
)
_BY_LOWER = {text.lower(): text for text in _SPDX} | {"odbl": "ODbL-1.0", "pddl": "PDDL-1.0"}
_NOTHING = frozenset({"", "other", "unknown"})
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_MAX_LENGTH = 100

#: the format that files of a suffix have; of several, the one with the most bytes counts
_FORMATS = {
    ".safetensors": "safetensors",
    ".gguf": "gguf",
    ".onnx": "onnx",
    ".bin": "pytorch",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".h5": "keras",
    ".keras": "keras",
    ".msgpack": "flax",
    ".tflite": "tflite",
    ".parquet": "parquet",
}


def spdx_license(identifier: str) -> str | None:
    """Return the SPDX expression for a licence identifier of the Hub; None where it names no licence.

    An identifier that SPDX does not know becomes a LicenseRef.
    """
    text = identifier.strip()
    if text.lower() in _NOTHING:
        return None
    if (known := _BY_LOWER.get(text.lower())) is not None:
        return known
    name = "".join(character if character in _CHARACTERS else "-" for character in text)[:_MAX_LENGTH]
    return f"LicenseRef-{name.strip('-')}" if name.strip("-") else None


def weights_format(files: Iterable[tuple[str, int]]) -> str | None:
    """Return the format of the files, pairs of path and size; None when no suffix is known."""
    sizes: dict[str, int] = {}
    for path, size in files:
        name = _FORMATS.get(PurePosixPath(path).suffix.lower())
        if name is not None:
            sizes[name] = sizes.get(name, 0) + size
    return max(sizes, key=lambda name: (sizes[name], name)) if sizes else None
