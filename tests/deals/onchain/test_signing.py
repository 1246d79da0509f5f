"""Digests, signatures, extraData and calldata are those of the official SDK; keys never show."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.content import piece_cid
from reconciler.deals.onchain import calls
from reconciler.deals.onchain.interface import Contracts, EvmAddress
from reconciler.deals.onchain.keys import TypedDomain, checksum_text, load_key, open_key
from reconciler.deals.onchain.signing import (
    MAX_SET_METADATA,
    UploadSigner,
    create_and_add,
    service_domain,
    sign_permit,
)
from reconciler.deals.onchain.wallet import login_call, revoke_call, terminate_call
from reconciler.errors import DataError, UsageError
from reconciler.net.auth import Secret
from tests.support.onchain.lab import KEYS
from tests.support.onchain.payer import ending_consent, key, piece, pieces, removal_consent

FILES = sorted((Path(__file__).parents[1] / "vectors/onchain").glob("*.json"))
ADDRESS = EvmAddress(bytes(range(20)))


def vectors(kind: str) -> Any:
    """A parameter for each vector of one kind."""
    found = [json.loads(file.read_bytes()) for file in FILES if file.name.rpartition("-")[0] == kind]
    return pytest.mark.parametrize("case", found, ids=[str(number) for number in range(1, len(found) + 1)])


def signer_of(case: dict[str, Any]) -> UploadSigner:
    opened = open_key(Secret(case["key"]), "the vector's key")
    payer = EvmAddress.parse(case["payer"]) if "payer" in case else opened.address
    return UploadSigner(payer, opened, service_domain(case["chain_id"], EvmAddress.parse(case["service"])))


def entries(found: list[dict[str, str]]) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in found}


def test_there_are_enough_vectors() -> None:
    assert len(FILES) == 7 * 12


@vectors("create")
def test_the_creation_of_a_data_set_is_signed_as_by_the_sdk(case: dict[str, Any]) -> None:
    signer, metadata, name = signer_of(case), entries(case["metadata"]), int(case["client_id"])
    payee = EvmAddress.parse(case["payee"])
    assert signer.create_data_set(name, payee, metadata) == bytes.fromhex(case["extra_data"][2:])


@vectors("add")
def test_the_addition_of_pieces_is_signed_as_by_the_sdk(case: dict[str, Any]) -> None:
    signer = signer_of(case)
    wanted = [piece_cid.parse(each["cid"]) for each in case["pieces"]]
    metadata = [entries(each["metadata"]) for each in case["pieces"]]
    extra = signer.add_pieces(int(case["client_id"]), int(case["nonce"]), wanted, metadata)
    assert extra == bytes.fromhex(case["extra_data"][2:])


@vectors("create-and-add")
def test_creating_and_adding_at_once_is_signed_as_by_the_sdk(case: dict[str, Any]) -> None:
    signer, name = signer_of(case), int(case["client_id"])
    create = signer.create_data_set(name, EvmAddress.parse(case["payee"]), entries(case["metadata"]))
    wanted = [piece_cid.parse(each["cid"]) for each in case["pieces"]]
    metadata = [entries(each["metadata"]) for each in case["pieces"]]
    add = signer.add_pieces(name, int(case["nonce"]), wanted, metadata)
    assert create_and_add(create, add) == bytes.fromhex(case["extra_data"][2:])


@vectors("remove")
def test_the_removal_of_pieces_is_signed_as_by_the_sdk(case: dict[str, Any]) -> None:
    """Only tests remove pieces."""
    extra = removal_consent(signer_of(case), int(case["client_id"]), case["piece_ids"])
    assert extra == bytes.fromhex(case["extra_data"][2:])


def contracts(**addresses: EvmAddress) -> Contracts:
    names = ("service", "view", "verifier", "payments", "token", "registry", "sessions")
    return Contracts(*(addresses.get(name, ADDRESS) for name in names), "1.3.1", "3.4.0")


@vectors("terminate")
def test_the_ending_of_a_data_set_is_signed_and_called_as_by_viem(case: dict[str, Any]) -> None:
    number = int(case["data_set"])
    assert ending_consent(signer_of(case), number) == bytes.fromhex(case["extra_data"][2:])
    assert terminate_call(contracts(), number).data == bytes.fromhex(case["calldata"][2:])


@vectors("deposit")
def test_a_deposit_with_a_permit_is_signed_and_called_as_by_the_sdk(case: dict[str, Any]) -> None:
    signing = open_key(Secret(case["key"]), "the vector's key")
    token, spender = EvmAddress.parse(case["token"]), EvmAddress.parse(case["spender"])
    permit = sign_permit(
        signing,
        TypedDomain(case["name"], case["version"], case["chain_id"], token),
        contracts(payments=spender),
        value=int(case["amount"]),
        nonce=int(case["nonce"]),
        deadline=int(case["deadline"]),
    )
    assert "0x" + (permit.r + permit.s + bytes((permit.v,))).hex() == case["signature"]
    service, allowances = EvmAddress.parse(case["service"]), map(int, case["allowances"])
    data = calls.DEPOSIT.data(
        token, signing.address, permit.value, permit.deadline, permit.v, permit.r, permit.s, service,
        *allowances,
    )  # fmt: skip
    assert data == bytes.fromhex(case["calldata"][2:])


@vectors("session")
def test_a_session_key_is_granted_and_revoked_as_by_the_sdk(case: dict[str, Any]) -> None:
    session, permissions = (
        EvmAddress.parse(case["session"]),
        [bytes.fromhex(p[2:]) for p in case["permissions"]],
    )
    login = calls.LOGIN.data(session, int(case["expires"]), permissions, case["origin"])
    assert login == bytes.fromhex(case["login"][2:])
    assert calls.REVOKE.data(session, permissions, case["origin"]) == bytes.fromhex(case["revoke"][2:])
    assert login_call(contracts(), session, 5).data.startswith(calls.LOGIN.selector)
    assert revoke_call(contracts(), session).data.startswith(calls.REVOKE.selector)


def signer() -> UploadSigner:
    return UploadSigner(ADDRESS, key(), service_domain(314, ADDRESS))


@pytest.mark.parametrize(
    "metadata",
    [
        {f"key{number}": "" for number in range(MAX_SET_METADATA + 1)},
        {"k" * 33: ""}, {"ä" * 17: ""}, {"": "value"}, {"key": "v" * 97}, {"key": "ä" * 49},
    ],
)  # fmt: skip
def test_metadata_that_the_contract_refuses_is_not_signed(metadata: dict[str, str]) -> None:
    with pytest.raises(DataError):
        signer().create_data_set(1, ADDRESS, metadata)
    assert signer().create_data_set(1, ADDRESS, {"k" * 32: "v" * 96})


def test_a_piece_takes_three_entries_and_an_addition_at_least_one_piece() -> None:
    four = {str(number): "" for number in range(4)}
    for wanted, metadata in (([piece(1)], [four]), ([], []), (pieces(2), [{}])):
        with pytest.raises(DataError):
            signer().add_pieces(1, 2, wanted, metadata)


BAD_KEYS = (
    "zz" * 32,
    "12" * 31,
    "12" * 33,
    "0x" + "00" * 32,
    "0x" + "ff" * 32,
    "0X" + "12" * 32,
    "0x 12",
    "é" * 64,
)


@pytest.mark.parametrize("value", BAD_KEYS)
def test_a_malformed_key_is_one_error_that_does_not_quote_it(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_key("FILECOIN_KEY", {"FILECOIN_KEY": value})
    error: BaseException | None = caught.value
    assert "'FILECOIN_KEY'" in caught.value.message
    shown = f"{caught.value.message} {caught.value.hint}"
    assert value not in shown
    while error is not None:  # neither does anything that a traceback would show
        assert error.__suppress_context__ or error.__context__ is None
        error = error.__cause__


@pytest.mark.parametrize(
    "value", [KEYS[0], KEYS[0][2:], KEYS[0].upper().replace("0X", "0x"), f" {KEYS[0]}\n"]
)
def test_a_key_is_read_in_every_usual_spelling(value: str) -> None:
    assert load_key("K", {"K": value}).address == key().address


@pytest.mark.parametrize("environ", [{}, {"K": ""}, {"K": " "}])
def test_a_missing_key_names_the_variable(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="'K'"):
        load_key("K", environ)


def test_a_key_never_shows() -> None:
    opened = key()
    digits = KEYS[0][2:]
    for text in (repr(opened), str(opened), f"{opened}", repr(signer()), repr(vars(type(opened)))):
        assert digits not in text.lower()
        assert str(int(digits, 16)) not in text
    with pytest.raises(TypeError):
        pickle.dumps(opened)
    with pytest.raises(TypeError):
        copy.copy(opened)


def test_an_address_is_written_with_its_checksum() -> None:
    text = "0x8408502033C418E1bbC97cE9ac48E5528F371A9f"
    assert checksum_text(EvmAddress.parse(text)) == text
    assert str(EvmAddress.parse(text)) == text.lower()


@pytest.mark.parametrize(
    "text", ["", "0x12", "8408502033C418E1bbC97cE9ac48E5528F371A9f", "0x" + "g" * 40, "f0123"]
)
def test_an_address_has_forty_digits(text: str) -> None:
    with pytest.raises(DataError):
        EvmAddress.parse(text)


def test_signing_leaves_the_recursion_limit_alone() -> None:
    """A dependency raises it to 100,000: deeply nested JSON would then end the process (see `keys`)."""
    code = (
        "import sys; before = sys.getrecursionlimit()\n"
        "from reconciler.deals.onchain.keys import load_key\n"
        "assert 'eth_account' not in sys.modules\n"
        f"load_key('K', {{'K': '{KEYS[0]}'}})\n"
        "assert 'eth_account' in sys.modules and sys.getrecursionlimit() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_signing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eth_account", None)
    with pytest.raises(UsageError, match="needs the extra `filecoin`"):
        load_key("K", {"K": KEYS[0]})
