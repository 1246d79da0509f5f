"""Sizes, counts, and untrusted text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.render.words import count, plain, size


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1 << 20, "1.0 MiB"),
        (1_065_353_216, "1016.0 MiB"),
        (16 << 30, "16.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (3 << 60, "3072.0 PiB"),
    ],
)
def test_sizes_are_binary_with_one_decimal(number: int, text: str) -> None:
    assert size(number) == text


def test_counts_know_their_plural() -> None:
    assert [count(n, "block") for n in (0, 1, 2, 1024)] == ["0 blocks", "1 block", "2 blocks", "1,024 blocks"]
    assert count(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("weights/größe-模型.bin", "weights/größe-模型.bin"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("txt\u202efdp.exe", r"txt\u202efdp.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("line\u2028separator", r"line\u2028separator"),
        ("\udcff", r"\udcff"),
        ("::error::x", r"\x3a:error::x"),
        ("  ::add-mask::x", r"  \x3a:add-mask::x"),
        ("##[group]x", r"\x23#[group]x"),
        ("x ##vso[task.complete]", r"x \x23#vso[task.complete]"),
        ("a::b ## c #1", "a::b ## c #1"),
    ],
)
def test_what_would_act_is_shown(hostile: str, shown: str) -> None:
    assert plain(hostile) == shown


@given(st.text())
def test_whatever_comes_it_is_one_printable_line_that_orders_nothing(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert not re.search(r"^\s*::|##\w*\[", shown)
