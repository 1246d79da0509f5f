from __future__ import annotations

import pytest

from reconciler.content import manifest
from reconciler.content.manifest import ReleaseInfo

FILES = ["SHA256SUMS", "b.json", "a/é.bin"]


def test_the_bytes_of_a_manifest_never_change() -> None:
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


def test_fields_that_the_index_omits_are_omitted() -> None:
    text = manifest.render(ReleaseInfo("m", "1.0.0"), []).decode()
    assert "format" not in text
    assert "created_at" not in text


def test_a_generated_manifest_passes_the_check() -> None:
    release = ReleaseInfo("m", "1.0.0", "gguf", "2026-05-07T00:00:00Z")
    check(manifest.render(release, FILES), release)


def test_a_manifest_by_hand_may_have_more_fields_and_omit_version_and_sums() -> None:
    by_hand = b'{"model": "m", "files": ["b.json", "a/\\u00e9.bin"], "author": {"name": "someone"}}'
    check(by_hand, ReleaseInfo("m", "1.0.0"))


@pytest.mark.parametrize("text", ["\ufeff{}", "{}", " \r\n{}\r\n"])
def test_a_manifest_may_have_a_byte_order_mark_and_names_in_another_unicode_form(text: str) -> None:
    by_hand = '{"model": "m", "files": ["b.json", "a/e\u0301.bin"]}'
    check(text.format(by_hand).encode(), ReleaseInfo("m", "1.0.0"))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "App", "icons": [], "start_url": "/"}',
        '{"manifest_version": 3, "name": "x", "version": "1.0"}',
        '{"schemaVersion": 2, "config": {}, "layers": []}',
        '{"fileFormatVersion": "1.0.0", "itemInfoEntries": {}, "rootModelIdentifier": "x"}',
        '{"model": "m", "files": [{"path": "a"}]}',
        '{"model": {"name": "m"}, "files": ["a"]}',
        '{"model": "m"}',
        '{"files": ["a"]}',
        '{"model": "m", "model": "m", "files": []}',
        "[]",
        "null",
        "{",
        "[" * 100_000,
        "\udcff",
        "",
    ],
)
def test_the_manifest_of_another_program_is_not_ours(text: str) -> None:
    assert manifest.parse(text.encode("utf-8", "surrogateescape")) is None


def check(data: bytes, release: ReleaseInfo) -> None:
    found = manifest.parse(data)
    assert found is not None
    manifest.check_release(found, release)
    manifest.check_files(found, [*FILES, manifest.NAME])
