"""The CID of a whole CAR."""

import hashlib

import pytest

from reconciler.content.car import CarCid, parse_car_cid
from reconciler.errors import DataError


def test_the_cid_of_a_car_reads_back() -> None:
    cid = CarCid(hashlib.sha256(b"a CAR").digest())
    assert str(cid).startswith("bagbaiera")
    assert parse_car_cid(str(cid)) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "bagbaiera",
        "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
        str(CarCid(bytes(32))).upper(),
        str(CarCid(bytes(32)))[:-1],
        str(CarCid(bytes(32))) + "a",
        str(CarCid(bytes(32)))[:-1] + "b",
        "b" * 10_000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        parse_car_cid(text)
