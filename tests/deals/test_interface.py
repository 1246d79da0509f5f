"""A storage provider has one name, however a service writes it."""

import pytest

from reconciler.deals.interface import parse_actor
from reconciler.errors import DataError


@pytest.mark.parametrize("text", ["f01771403", "t01771403", "1771403"])
def test_a_provider_has_one_name(text: str) -> None:
    assert parse_actor(text) == "f01771403"


@pytest.mark.parametrize(
    "text", ["", "f0", "f1abc", "f001", "-1", "f0 1", "f01\n", "١", "f0" + "1" * 30, "0x12"]
)
def test_an_invalid_provider_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        parse_actor(text)
