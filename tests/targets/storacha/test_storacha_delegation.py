"""Reading delegations: a real one, and damaged ones, which are an error or change nothing."""

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
    UcanCapability,
    read_archive,
    read_authorization,
    read_principal,
    read_proof,
)
from tests.support.storacha_service import StorachaService
from tests.targets.storacha.credentials import AGENT, PRINCIPAL, PROOF, SPACE


def test_a_proof_has_an_issuer_an_audience_and_capabilities() -> None:
    proof = read_proof(PROOF)
    assert (proof.issuer, proof.audience, proof.expires) == (SPACE, AGENT, None)
    assert {each.resource for each in proof.capabilities} == {SPACE}
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
def test_a_granted_ability_covers_others(granted: str, asked: str, covered: bool) -> None:
    assert Delegation("i", "a", (UcanCapability(granted, SPACE),), None, b"").allows(asked, SPACE) is covered


@pytest.mark.storacha
def test_an_authorization_of_the_bridge_with_an_expiration(service: StorachaService) -> None:
    made = service.delegate(("upload/list",), secret="s", expiration=1_990_000_000)
    delegation = read_authorization(made.authorization)
    assert delegation == read_proof(made.proof)
    assert delegation.issuer == service.space
    assert delegation.capabilities == (UcanCapability("upload/list", service.space),)
    assert delegation.expires == datetime(2033, 1, 22, 9, 46, 40, tzinfo=UTC)
    assert delegation.is_expired(datetime(2034, 1, 1, tzinfo=UTC))
    assert not delegation.is_expired(datetime(2033, 1, 1, tzinfo=UTC))


CAR = read_proof(PROOF).car


@given(at=st.integers(0, len(CAR) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error_or_changes_no_field(at: int, bit: int) -> None:
    """Blocks are verified against their CIDs; only the header and unused bytes are left."""
    damaged = bytearray(CAR)
    damaged[at] ^= 1 << bit
    try:
        read = read_archive(bytes(damaged))
    except DataError:
        return
    whole = read_archive(CAR)
    assert (read.issuer, read.audience, read.capabilities, read.expires) == (
        whole.issuer,
        whole.audience,
        whole.capabilities,
        whole.expires,
    )


@given(st.integers(0, len(CAR) - 1))
def test_a_truncated_archive_is_an_error(length: int) -> None:
    with pytest.raises(DataError):
        read_archive(CAR[:length])


@given(st.binary(max_size=200))
def test_bytes_are_cbor_or_a_data_error(data: bytes) -> None:
    with contextlib.suppress(DataError):
        dag_cbor.decode(data)


@given(st.text(max_size=100))
def test_text_is_a_credential_or_a_data_error(text: str) -> None:
    for read in (read_proof, read_principal, read_authorization):
        for prefix in ("", "m", "M", "u"):
            with pytest.raises(DataError):
                read(prefix + text)


def test_an_account_delegates_every_resource() -> None:
    assert Delegation("i", "a", (UcanCapability("*", "ucan:*"),), None, b"").allows("upload/add", SPACE)


def test_cbor_does_not_nest_for_ever() -> None:
    with pytest.raises(DataError, match="nested too deeply"):
        dag_cbor.decode(b"\x81" * 1000)


def test_a_bare_car_is_no_proof() -> None:
    with pytest.raises(DataError, match=r"not the identity CID|padded|truncated"):
        read_proof("m" + base64.b64encode(CAR).decode())
