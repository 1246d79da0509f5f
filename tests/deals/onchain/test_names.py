"""Names of signed calls depend on everything that the call is about, and on nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.cid import DAG_PB, hash_block
from reconciler.deals.onchain.interface import EvmAddress
from reconciler.deals.onchain.names import batch_name, data_set_name

PAYER = EvmAddress(b"\1" * 20)
ROOT, OTHER = (hash_block(DAG_PB, name) for name in (b"one", b"other"))
SET = "699b781865806e21fd2139bfc701ec5ceca8354b9144f9f9dcd08de2fceee2ac"
BATCH = "f5a052a862dc72c9ba62b04dc0393369f1c6b91dfa6de7a911de5344c9666782"


def test_the_names_never_change() -> None:
    """A change would create, and pay for, every data set and piece again."""
    name = data_set_name(314, PAYER, 7, "acme-models")
    assert f"{name:x}" == SET
    assert f"{batch_name(name, ROOT, 3):x}" == BATCH


def test_each_part_makes_another_name() -> None:
    names = {
        data_set_name(314, PAYER, 7, "acme"),
        data_set_name(314159, PAYER, 7, "acme"),
        data_set_name(314, EvmAddress(b"\2" * 20), 7, "acme"),
        data_set_name(314, PAYER, 8, "acme"),
        data_set_name(314, PAYER, 7, "acme2"),
        data_set_name(314, PAYER, 7, "acme", 1),
        batch_name(1, ROOT, 0), batch_name(2, ROOT, 0), batch_name(1, OTHER, 0), batch_name(1, ROOT, 1),
        batch_name(1, ROOT, 0, 1),
    }  # fmt: skip
    assert len(names) == 11
    assert all(0 < name < 1 << 256 for name in names)


@given(st.text(), st.text())
def test_subjects_never_collide(one: str, other: str) -> None:
    names = {data_set_name(1, PAYER, 1, subject) for subject in (one, other)}
    assert len(names) == len({one, other})
