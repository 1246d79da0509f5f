"""The media type of a file: by its name, else by its first bytes; the same on every machine."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable

_BY_NAME = mimetypes.MimeTypes(filenames=())  # the table of the language, not that of this machine
_MORE = {
    ".safetensors": "application/octet-stream",
    ".gguf": "application/octet-stream",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".jsonl": "application/jsonl",
    ".wasm": "application/wasm",
}


def media_type(name: bytes, head: Callable[[], bytes]) -> str:
    """The Content-Type for a file called `name`, whose first bytes `head` gives when they are needed."""
    text = name.decode("utf-8", "replace").lower()
    suffix = text[text.rfind(".") :] if "." in text else ""
    kind = _MORE.get(suffix) or _BY_NAME.guess_type(f"file{suffix}", strict=True)[0]
    if kind is None:
        kind = "text/plain" if _is_text(head()) else "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:  # the sample may end within a character
            return False
        text = data[: error.start].decode()
    return all(character >= " " or character in "\t\n\r\f" for character in text)
