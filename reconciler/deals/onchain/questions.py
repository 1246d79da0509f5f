"""Questions to contracts as of one block: encoding, batching and strict decoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.deals.onchain.calls import Call
from reconciler.deals.onchain.interface import ChainBlock, EvmAddress
from reconciler.deals.onchain.nodes import CallAnswer, ChainNodes, ContractCall, Revert
from reconciler.deals.onchain.reverts import explain_revert
from reconciler.errors import DataError, Reason
from reconciler.net.errors import UnexpectedResponseError


@dataclass(frozen=True, slots=True)
class ContractQuestion:
    """One call of one contract."""

    contract: EvmAddress
    call: Call
    arguments: tuple[Any, ...] = ()


#: the values of an answer, or why there are none
Values = tuple[Any, ...] | Revert | Reason


class BlockReader:
    """Questions about one block: encoding, batching and decoding."""

    def __init__(self, nodes: ChainNodes, block: ChainBlock) -> None:
        self.nodes = nodes
        self.block = block

    def ask(self, questions: Sequence[ContractQuestion]) -> list[Values]:
        """Return the answers, decoded; a Revert or a Reason where there is none."""
        if not questions:
            return []
        sent = [ContractCall(each.contract, each.call.data(*each.arguments)) for each in questions]
        return [
            _decoded(question, answer)
            for question, answer in zip(questions, self.nodes.read(sent, self.block), strict=True)
        ]

    def values(self, questions: Iterable[ContractQuestion]) -> list[tuple[Any, ...]]:
        """Return the answers. Raises RequestError when one is missing."""
        asked = list(questions)
        return [
            self.require(question, answer) for question, answer in zip(asked, self.ask(asked), strict=True)
        ]

    def value(self, question: ContractQuestion) -> tuple[Any, ...]:
        """Return the answer to one question. Raises RequestError."""
        return self.values([question])[0]

    def require(self, question: ContractQuestion, answer: Values) -> tuple[Any, ...]:
        """Return `answer`. Raises RequestError when there is none."""
        if isinstance(answer, tuple):
            return answer
        reason = explain_revert(answer.data, answer.text) if isinstance(answer, Revert) else answer
        raise UnexpectedResponseError(
            self.nodes.first.name,
            f"{question.call.name} of the contract {question.contract}: {reason.text}",
            hint=reason.hint or "check network and contract in targets.yaml, and that the node is in sync",
        )


def _decoded(question: ContractQuestion, answer: CallAnswer) -> Values:
    if not isinstance(answer, bytes):
        return answer
    try:
        return question.call.answer(answer)
    except DataError as error:
        return Reason(
            f"{question.call.name} cannot be understood: {error.message}",
            "check network and contract in targets.yaml; a newer version of this program may be needed",
        )


def given(answer: Values) -> tuple[Any, ...]:
    """Return the values of an answer. Raises DataError when there are none."""
    if isinstance(answer, tuple):
        return answer
    reason = explain_revert(answer.data, answer.text) if isinstance(answer, Revert) else answer
    raise DataError(reason.text, hint=reason.hint or None)
