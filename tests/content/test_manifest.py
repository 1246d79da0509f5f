from __future__ import annotations

from reconciler.content import manifest
from reconciler.content.manifest import ReleaseInfo

FILES = ["SHA256SUMS", "b.json", "a/é.bin"]


def test_the_bytes_are_a_contract() -> None:
    release = ReleaseInfo("my-llm", "1.2.0", "safetensors", "2026-05-07T00:00:00Z")
    assert manifest.render(release, FILES).decode() == (
        "{\n"
        '  "created_at": "2026-05-07T00:00:00Z",\n'
        '  "files": [\n'
        '    "SHA256SUMS",\n'
        '    "a/é.bin",\n'
        '    "b.json"\n'
        "  ],\n"
        '  "format": "safetensors",\n'
        '  "model": "my-llm",\n'
        '  "version": "1.2.0"\n'
        "}\n"
    )


def test_what_the_index_leaves_out_is_left_out() -> None:
    text = manifest.render(ReleaseInfo("m", "1.0.0"), []).decode()
    assert "format" not in text
    assert "created_at" not in text


def test_ours_passes_our_check() -> None:
    release = ReleaseInfo("m", "1.0.0", "gguf", "2026-05-07T00:00:00Z")
    manifest.check(manifest.render(release, FILES), release, [*FILES, manifest.NAME])


def test_one_by_hand_may_say_more_and_leave_out_the_version_and_the_sums() -> None:
    by_hand = b'{"model": "m", "files": ["b.json", "a/\\u00e9.bin"], "author": {"name": "someone"}}'
    manifest.check(by_hand, ReleaseInfo("m", "1.0.0"), [*FILES, manifest.NAME])
