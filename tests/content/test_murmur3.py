from __future__ import annotations

import pytest

from reconciler.content.hamt import murmur3_x64_64


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # first halves of MurmurHash3_x64_128, seed 0, as the reference implementation prints them
        (b"", 0x0000000000000000),
        (b"hello", 0xCBD8A7B341BD9B02),
        (b"hello, world", 0x342FAC623A5EBC8E),
        (b"The quick brown fox jumps over the lazy dog.", 0xCD99481F9EE902C9),
    ],
)
def test_the_hash_is_that_of_the_reference_implementation(data, expected):
    assert murmur3_x64_64(data) == expected
