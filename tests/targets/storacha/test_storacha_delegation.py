"""Reading delegations: what a real one says, and that no damage to one goes unnoticed or crashes."""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import dag_cbor
from reconciler.errors import DataError
from reconciler.targets.storacha.delegation import (
    Delegation,
    Grant,
    read_archive,
    read_authorization,
    read_principal,
    read_proof,
)
from tests.support.storacha_service import StorachaService
from tests.targets.storacha.credentials import AGENT, PRINCIPAL, PROOF, SPACE


def test_a_proof_says_who_may_do_what() -> None:
    proof = read_proof(PROOF)
    assert (proof.issuer, proof.audience, proof.expires) == (SPACE, AGENT, None)
    assert {grant.resource for grant in proof.grants} == {SPACE}
    assert proof.allows("space/blob/add", SPACE)
    assert proof.allows("upload/list", SPACE)
    assert not proof.allows("plan/get", SPACE)
    assert not proof.allows("upload/list", AGENT)
    assert read_principal(PRINCIPAL) == AGENT


@pytest.mark.parametrize(
    ("granted", "asked", "covered"),
    [
        ("*", "upload/add", True),
        ("upload/*", "upload/add", True),
        ("upload/add", "upload/add", True),
        ("upload/add", "upload/list", False),
        ("up*", "upload/add", False),
        ("upload/*", "uploads/add", False),
    ],
)
def test_what_covers_a_capability(granted: str, asked: str, covered: bool) -> None:
    assert Delegation("i", "a", (Grant(granted, SPACE),), None, b"").allows(asked, SPACE) is covered


@pytest.mark.storacha
def test_the_bridge_and_a_time_limit(service: StorachaService) -> None:
    made = service.delegate(("upload/list",), secret="s", expiration=1_990_000_000)
    delegation = read_authorization(made.authorization)
    assert delegation == read_proof(made.proof)
    assert delegation.issuer == service.space
    assert delegation.grants == (Grant("upload/list", service.space),)
    assert delegation.expires == datetime(2033, 1, 22, 9, 46, 40, tzinfo=UTC)
    assert delegation.expired(datetime(2034, 1, 1, tzinfo=UTC))
    assert not delegation.expired(datetime(2033, 1, 1, tzinfo=UTC))


CAR = read_proof(PROOF).car


@given(at=st.integers(0, len(CAR) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error_or_changes_nothing_that_is_said(at: int, bit: int) -> None:
    """Blocks are held to their CIDs; what is left is the header and bytes that nobody reads."""
    damaged = bytearray(CAR)
    damaged[at] ^= 1 << bit
    try:
        read = read_archive(bytes(damaged))
    except DataError:
        return
    whole = read_archive(CAR)
    assert (read.issuer, read.audience, read.grants, read.expires) == (
        whole.issuer,
        whole.audience,
        whole.grants,
        whole.expires,
    )


@given(st.integers(0, len(CAR) - 1))
def test_an_archive_that_is_cut_short_is_an_error(length: int) -> None:
    with pytest.raises(DataError):
        read_archive(CAR[:length])


@given(st.binary(max_size=200))
def test_bytes_are_cbor_or_one_clear_error(data: bytes) -> None:
    with contextlib.suppress(DataError):
        dag_cbor.decode(data)


@given(st.text(max_size=100))
def test_text_is_a_credential_or_one_clear_error(text: str) -> None:
    for read in (read_proof, read_principal, read_authorization):
        for prefix in ("", "m", "M", "u"):
            with pytest.raises(DataError):
                read(prefix + text)


def test_an_account_delegates_every_resource() -> None:
    assert Delegation("i", "a", (Grant("*", "ucan:*"),), None, b"").allows("upload/add", SPACE)


def test_cbor_does_not_nest_for_ever() -> None:
    with pytest.raises(DataError, match="nested too deeply"):
        dag_cbor.decode(b"\x81" * 1000)


def test_a_bare_car_is_no_proof() -> None:
    with pytest.raises(DataError, match=r"not the identity CID|padded|cut short"):
        read_proof("m" + base64.b64encode(CAR).decode())
