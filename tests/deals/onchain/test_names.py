"""Names of signed calls depend on everything that the call is about, and on nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.deals.onchain.interface import EvmAddress
from reconciler.deals.onchain.names import add_name, data_set_name
from tests.support.onchain.payer import pieces

PAYER = EvmAddress(b"\1" * 20)
P = pieces(3)
SET = "699b781865806e21fd2139bfc701ec5ceca8354b9144f9f9dcd08de2fceee2ac"
ADD = "7e825eb02fcdfb7a4ef208bffc4645ee0180d475850fb35fd2e7362135b7844c"


def test_the_names_never_change() -> None:
    """A change would create, and pay for, every data set and piece again."""
    name = data_set_name(314, PAYER, 7, "acme-models")
    assert f"{name:x}" == SET
    assert f"{add_name(name, P):x}" == ADD


def test_each_part_makes_another_name() -> None:
    names = {
        data_set_name(314, PAYER, 7, "acme"),
        data_set_name(314159, PAYER, 7, "acme"),
        data_set_name(314, EvmAddress(b"\2" * 20), 7, "acme"),
        data_set_name(314, PAYER, 8, "acme"),
        data_set_name(314, PAYER, 7, "acme2"),
        data_set_name(314, PAYER, 7, "acme", 1),
        add_name(1, P), add_name(2, P), add_name(1, P[:2]), add_name(1, P[::-1]), add_name(1, P, 1),
    }  # fmt: skip
    assert len(names) == 11
    assert all(0 < name < 1 << 256 for name in names)


@given(st.text(), st.text())
def test_subjects_never_collide(one: str, other: str) -> None:
    names = {data_set_name(1, PAYER, 1, subject) for subject in (one, other)}
    assert len(names) == len({one, other})
