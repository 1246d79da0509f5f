from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import bounds
from reconciler.errors import DataError


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"", "is not a file name"),
        (b".", "is not a file name"),
        (b"..", "is not a file name"),
        (b"a/b", "slash"),
        (b"/", "slash"),
        (b"a\0b", "control"),
        (b"a\nb", "control"),
        (b"\x1b[2J", "control"),
        (b"\x7f", "control"),
        ("\x85".encode(), "control"),
        (b"\xff", "UTF-8"),
        (b"\xed\xa0\x80", "UTF-8"),  # a surrogate
        (b"\xc0\xaf", "UTF-8"),  # an overlong slash
        (b"a" * 256, "longer than 255"),
        ("é".encode() * 128, "longer than 255"),
    ],
)
def test_an_invalid_name_is_refused(name, reason):
    with pytest.raises(DataError, match=reason):
        bounds.decode_name(name)


@pytest.mark.parametrize("name", ["a", "...", ".hidden", "a b", "ą", "\\", "C:", "a" * 255, "模型", "-rf"])
def test_a_valid_name_is_decoded(name):
    assert bounds.decode_name(name.encode()) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [("README", "readme"), ("é", "e\u0301"), ("É", "e\u0301"), ("straße", "STRASSE"), ("Å", "Å"), ("ſ", "S")],
)
def test_names_that_some_file_system_treats_as_equal_collide(one, other):
    assert bounds.collision_key(one) == bounds.collision_key(other)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"])), st.text(st.characters(codec="ascii")))
def test_plain_ascii_names_collide_only_by_case(one, other):
    assert (bounds.collision_key(one) == bounds.collision_key(other)) == (one.lower() == other.lower())
