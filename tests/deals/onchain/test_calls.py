"""The selectors of calls and errors, and the permissions of session keys, are hashes of the signatures."""

from __future__ import annotations

import re

import pytest

from reconciler.deals.onchain import abi, calls, guard, reverts
from reconciler.deals.onchain.calls import Call
from reconciler.deals.onchain.interface import SigningScope
from reconciler.deals.onchain.signing import PERMISSIONS
from tests.support.onchain.contracts import PERMISSIONS as TYPES
from tests.support.onchain.ethereum import encode, keccak
from tests.support.onchain.lab import UNIT

CALLS = {name: call for name, call in vars(calls).items() if isinstance(call, Call)}


@pytest.mark.parametrize("name", CALLS)
def test_a_selector_is_the_hash_of_the_signature(name: str) -> None:
    assert CALLS[name].selector == keccak(text=CALLS[name].signature)[:4]


@pytest.mark.parametrize("selector", reverts.ERRORS, ids=lambda selector: reverts.ERRORS[selector].name)
def test_an_error_is_found_by_the_hash_of_its_signature_and_worded(selector: bytes) -> None:
    error = reverts.ERRORS[selector]
    assert selector == keccak(text=error.signature)[:4]
    samples = {"uint256": 7, "address": "0x" + "11" * 20, "bool": True, "string": "Cid too short"}
    kinds = [kind.name for kind in error.inputs]
    data = selector + encode(kinds, [samples[kind] for kind in kinds])
    reason = reverts.explain_revert(data)
    assert reason.text
    assert reason.text == reason.text.strip(".")
    assert reverts.explain_revert(b"", f"exit=[33], revert reason=[0x{data.hex()}]") == reason
    alone = reason.text if isinstance(error.text, str) else f"it refused with {error.name}"
    assert reverts.explain_revert(selector) == reverts.Reason(alone, reason.hint), "without arguments"


def test_the_commands_in_hints_can_be_run_once_the_target_is_named() -> None:
    hints = [guard.fill_target(error.hint, "filecoin") for error in reverts.ERRORS.values()]
    named = {match for hint in hints for match in re.findall(r"reconcile \w+(?: \w+)?", hint)}
    assert named == {"reconcile fund filecoin"}


def test_an_unknown_error_is_named_by_its_bytes_and_one_without_a_reason_is_said_to_have_none() -> None:
    unknown = reverts.explain_revert(b"\1\2\3\4" + bytes(32))
    assert unknown.text == "it refused with an error that this version does not know: 0x01020304"
    assert reverts.explain_revert(b"").text == "it refused without a reason"
    assert reverts.explain_revert(b"", "out\nof gas").text == "out of gas"
    assert reverts.find_revert("0xdeadbeef 0x12 none of them") == b""


def test_amounts_are_in_the_text_of_a_shortfall() -> None:
    data = keccak(text="InsufficientLockupFunds(address,uint256,uint256)")[:4]
    data += encode(["address", "uint256", "uint256"], ["0x" + "11" * 20, UNIT, UNIT // 2])
    assert reverts.explain_revert(data).text == "1 USDFC are needed, and 0.5 USDFC are available"


@pytest.mark.parametrize("scope", SigningScope)
def test_the_permission_of_a_session_key_is_the_hash_of_the_type(scope: SigningScope) -> None:
    assert PERMISSIONS[scope] == keccak(text=TYPES[scope.value])


def test_newer_words_of_a_data_set_are_none_in_an_older_contract() -> None:
    words = [0, 0, 0, "0x" + "11" * 20, "0x" + "11" * 20, "0x" + "11" * 20, 0, 5, 0, 1]
    kinds = ["uint256"] * 3 + ["address"] * 3 + ["uint256"] * 4
    assert calls.DATA_SET.answer(encode(kinds, words))[-2:] == (None, None)
    older = encode([*kinds, "uint256"], [*words, 9])
    assert calls.DATA_SET.answer(older)[-2:] == (9, None)
    newer = encode([*kinds, "uint256", "uint256", "uint256"], [*words, 9, 8, 7])
    assert calls.DATA_SET.answer(newer)[-2:] == (9, 8)
    with pytest.raises(abi.DataError):
        calls.DATA_SET.answer(encode(kinds, words)[:-32])
