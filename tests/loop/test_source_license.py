"""Licences and formats of a hub become words that an index may have."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.index.load import parse_index
from reconciler.loop.source_license import spdx_license, weights_format
from tests.support.scratch import PROJECT


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("MIT", "MIT"),
        ("cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"),
        ("bsd-3-clause", "BSD-3-Clause"),
        ("llama3.1", "LicenseRef-llama3.1"),
        ("gemma", "LicenseRef-gemma"),
        ("my license / v2\n", "LicenseRef-my-license---v2"),
        ("other", None),
        ("unknown", None),
        ("", None),
        ("///", None),
    ],
)
def test_a_license_is_one_of_spdx_or_a_reference(given: str, wanted: str | None) -> None:
    assert spdx_license(given) == wanted


@given(st.text(max_size=300))
def test_any_license_of_a_hub_is_accepted_by_the_index(text: str) -> None:
    found = spdx_license(text)
    if found is None:
        return
    model = f'{{license: {json.dumps(found)}, versions: {{"1.0.0": {{path: w}}}}}}'
    index = f"schema: 1\nid: a\nmodels: {{m: {model}}}\n"
    (version,) = parse_index(index, PROJECT / "index.yaml").versions()
    assert version.license == found
    assert spdx_license(found.removeprefix("LicenseRef-")) == found


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ([("a.safetensors", 10), ("b.bin", 9)], "safetensors"),
        ([("a.safetensors", 10), ("b.bin", 7), ("c.PT", 7)], "pytorch"),
        ([("m.gguf", 0)], "gguf"),
        ([("README.md", 10), ("noextension", 3)], None),
        ([], None),
    ],
)
def test_the_format_is_that_of_most_bytes(files: list[tuple[str, int]], wanted: str | None) -> None:
    assert weights_format(files) == wanted
