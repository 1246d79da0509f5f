from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import varint
from reconciler.errors import DataError


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_varint_is_decoded_at_any_offset(value, before, behind):
    encoded = varint.encode(value)

    assert varint.decode(before + encoded + behind, len(before)) == (value, len(before) + len(encoded))
    assert varint.size(value) == len(encoded)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [  # from the unsigned-varint specification
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (255, "ff01"),
        (300, "ac02"),
        (16384, "808001"),
        (2**63 - 1, "ffffffffffffffff7f"),
    ],
)
def test_the_examples_of_the_specification_are_encoded(value, encoded):
    assert varint.encode(value).hex() == encoded


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "truncated"),
        ("80", "truncated"),
        ("8000", "minimal"),
        ("ff00", "minimal"),
        ("ff" * 9 + "01", "nine bytes"),
        ("80" * 20, "nine bytes"),
    ],
)
def test_a_varint_that_is_not_minimal_or_too_long_is_refused(data, reason):
    with pytest.raises(DataError, match=reason):
        varint.decode(bytes.fromhex(data))


@pytest.mark.parametrize("value", [-1, 2**63])
def test_a_number_out_of_range_is_a_value_error(value):
    with pytest.raises(ValueError, match="out of range"):
        varint.encode(value)
