"""Media types by extension or first bytes, the same on every machine."""

from __future__ import annotations

import pytest

from reconciler.gateway.representation import media_type


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        (b"config.json", b"", "application/json"),
        (b"model.safetensors", b"text", "application/octet-stream"),
        (b"README.MD", b"", "text/markdown; charset=utf-8"),
        (b"index.html", b"", "text/html; charset=utf-8"),
        (b"picture.png", b"", "image/png"),
        (b"LICENSE", b"Apache License\n", "text/plain; charset=utf-8"),
        (b"LICENSE", "grüße".encode()[:-1], "text/plain; charset=utf-8"),
        (b"", b"", "text/plain; charset=utf-8"),
        (b"weights", b"\x00\x01", "application/octet-stream"),
        (b"weights", b"\xff\xfe" * 10, "application/octet-stream"),
        (b"\xff.unknown", b"\x1b[31m", "application/octet-stream"),
    ],
)
def test_types(name: bytes, head: bytes, kind: str) -> None:
    assert media_type(name, lambda: head) == kind
