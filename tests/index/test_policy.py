"""The policy for deals: its fields, its inheritance, and one error with its line for an invalid one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.errors import InvalidIndexError
from reconciler.index import schemas
from reconciler.index.model import DealPolicy
from tests.index.samples import index_of

INDEX = """\
schema: 1
id: acme
{top}
models:
  m:
    {model}
    versions: {{"1.0.0": {{path: a}}}}
  n: {{versions: {{"1.0.0": {{path: b}}}}}}
"""


def policies(top: str = "", model: str = "") -> list[DealPolicy | None]:
    return [version.deals for version in index_of(INDEX.format(top=top, model=model)).versions()]


def test_an_index_without_a_policy_requires_no_deals() -> None:
    assert policies() == [None, None]


def test_a_model_may_override_the_policy_of_the_index() -> None:
    own = "policy: {deals: {min: 3, providers: 2, renew_before: 45d}}"
    three = DealPolicy(3, 2, timedelta(days=45))
    one = DealPolicy(1, 1, timedelta(days=30))
    assert policies(top=own) == [three, three]
    assert policies(model=own) == [three, None]
    assert policies(top="policy: {deals: {min: 1}}", model=own) == [three, one]


BAD = [
    ("policy:", "policy"),
    ("policy: {}", "deals"),
    ("policy: {deals: }", "deals"),
    ("policy: {deals: []}", "deals"),
    ("policy: {deals: {}}", "min"),
    ("policy: {deals: {providers: 1}}", "min"),
    ("policy: {deals: {min: 0}}", "min"),
    ("policy: {deals: {min: 101}}", "min"),
    ("policy: {deals: {min: -1}}", "min"),
    ("policy: {deals: {min: 1.5}}", "min"),
    ('policy: {deals: {min: "2"}}', "min"),
    ("policy: {deals: {min: [2]}}", "min"),
    ("policy: {deals: {min: 2, providers: 0}}", "providers"),
    ("policy: {deals: {min: 2, providers: 3}}", "3 providers cannot have 2 deals"),
    ("policy: {deals: {min: 2, renew_before: 30}}", "30"),
    ("policy: {deals: {min: 2, renew_before: 0d}}", "0d"),
    ("policy: {deals: {min: 2, renew_before: 30 days}}", "30 days"),
    ("policy: {deals: {min: 2, renew_before: 10000d}}", "10000d"),
    ("policy: {deals: {min: 2, renew_before: {}}}", "renew_before"),
]


@pytest.mark.parametrize(("bad", "said"), BAD)
@pytest.mark.parametrize("place", ["top", "model"])
def test_an_invalid_policy_is_an_error_with_its_line(bad: str, said: str, place: str) -> None:
    with pytest.raises(InvalidIndexError) as caught:
        policies(**{place: bad})
    line = 3 if place == "top" else 6
    assert f"releases/index.yaml:{line}: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(("bad", "said"), BAD)
def test_a_forged_stamp_does_not_hide_an_invalid_policy(
    monkeypatch: pytest.MonkeyPatch, bad: str, said: str
) -> None:
    monkeypatch.setattr(schemas, "problems", lambda name, tree: [])
    with pytest.raises(InvalidIndexError):
        policies(top=bad)


def test_unknown_keys_of_a_policy_get_a_suggestion() -> None:
    with pytest.raises(InvalidIndexError) as caught:
        policies(top="policy: {deals: {min: 2, provider: 2}}")
    assert "providers" in str(caught.value.hint)
