"""Which names a bundle may have: the same rule for packing, reading and unpacking.

dag-pb names are raw bytes. A bundle must be the same directory for every consumer, so a name is UTF-8 without
control characters, no path, and differs from its siblings by more than case or Unicode normalisation.
"""

from __future__ import annotations

import unicodedata

from reconciler.errors import DataError

MAX_NAME = 255  #: bytes; what common file systems take


def decode(name: bytes) -> str:
    """The text of one file or directory name. Raises DataError when it is not one."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise DataError(f"name {name!r} is not UTF-8") from None
    if text in ("", ".", ".."):
        raise DataError(f"{text!r} is no file name")
    if "/" in text:
        raise DataError(f"name {text!r} contains a slash")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise DataError(f"name {text!r} contains a control character")
    if len(name) > MAX_NAME:
        raise DataError(f"name {text[:40]!r}… is longer than {MAX_NAME} bytes")
    return text


def collision_key(name: str) -> str:
    """Equal for two names that some file system takes for the same (Unicode canonical caseless match)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
