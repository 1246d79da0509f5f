"""One consistent view of the contracts, as of one block.

    view = ChainReader(nodes).view()
    view.account(payer), view.data_sets(view.data_set_ids(payer)), ...
    view.confirm()

`view` asks the service where its other contracts are, in every run, because its view contract moves with each
release and an old one goes on answering. All questions of one method are asked in batches, so that the number
of requests does not grow with the number of pieces. RequestError is raised when nothing can be known; what
cannot be known about one data set or provider is a Reason in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from reconciler.deals.chain import CHAINS, EPOCH, Chain
from reconciler.deals.onchain import calls
from reconciler.deals.onchain.answers import (
    MAX_PAGES,
    PAGE,
    BegunState,
    begin_state,
    finish_state,
    read_price_list,
    read_provider,
)
from reconciler.deals.onchain.health import RECENT_PERIODS
from reconciler.deals.onchain.interface import (
    Approval,
    ChainBlock,
    Contracts,
    DataSetState,
    EvmAddress,
    Landed,
    PayAccount,
    PriceList,
    ProvingTerms,
    SigningScope,
    StorageProvider,
)
from reconciler.deals.onchain.nodes import ChainNodes, Revert
from reconciler.deals.onchain.questions import BlockReader, ContractQuestion, Values
from reconciler.deals.onchain.signing import PERMISSIONS
from reconciler.errors import DataError, Reason
from reconciler.net.errors import UnexpectedResponseError, sanitize

#: versions whose answers this module understands
KNOWN_SERVICE = ("1.3", "1.4")
KNOWN_VERIFIER = ("3.4", "3.5")

T = TypeVar("T")

_PERIODS_AHEAD = 3  # more than a provider can ever be ahead: it is two when it proved early
_VERSION = re.compile(r"(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})(?:[-+].*)?")


class ChainReader:
    """Opens views of the contracts of one network."""

    def __init__(self, nodes: ChainNodes) -> None:
        self._nodes = nodes

    def view(self) -> ChainView:
        """Return a view as of the newest block.

        Raises RequestError when too few nodes answer or agree, when there is no such service, and when a
        contract has a version that this program does not know.
        """
        block = self._nodes.pin()
        service = self._nodes.network.service
        asking = BlockReader(self._nodes, block)
        where = (
            calls.VIEW,
            calls.VERIFIER,
            calls.PAYMENTS,
            calls.TOKEN,
            calls.REGISTRY,
            calls.SESSIONS,
        )
        *addresses, version = asking.values(
            ContractQuestion(service, call) for call in (*where, calls.VERSION)
        )
        view, verifier, payments, token, registry, sessions = (found[0] for found in addresses)
        asked = asking.ask(
            [
                ContractQuestion(verifier, calls.VERSION),
                ContractQuestion(view, calls.NEXT_UPGRADE),
                ContractQuestion(verifier, calls.NEXT_UPGRADE),
                ContractQuestion(view, calls.PDP_CONFIG),
                ContractQuestion(view, calls.PRICE_LIST),
            ]
        )
        verifier_version = asking.require(ContractQuestion(verifier, calls.VERSION), asked[0])[0]
        contracts = Contracts(
            service,
            view,
            verifier,
            payments,
            token,
            registry,
            sessions,
            _known(version[0], KNOWN_SERVICE, "FilecoinWarmStorageService", self._nodes.first.name),
            _known(verifier_version, KNOWN_VERIFIER, "PDPVerifier", self._nodes.first.name),
            tuple(_announced(("FilecoinWarmStorageService", "PDPVerifier"), asked[1:3]))
            + tuple(reason.text for reason in self._nodes.left_out),
        )
        period, window, *_ = asking.require(ContractQuestion(view, calls.PDP_CONFIG), asked[3])
        prices = asking.require(ContractQuestion(view, calls.PRICE_LIST), asked[4])
        if not 0 < window <= period:
            raise UnexpectedResponseError(
                self._nodes.first.name,
                f"states a proving period of {period} epochs with a window of {window}",
            )
        return ChainView(asking, contracts, read_price_list(prices), ProvingTerms(period, window))


class ChainView:
    """The contracts of one network at one block, opened by `ChainReader.view`.

    All methods raise RequestError when the chain cannot be read.
    """

    def __init__(
        self, asking: BlockReader, contracts: Contracts, prices: PriceList, proving: ProvingTerms
    ) -> None:
        self._asking = asking
        self.contracts = contracts
        self.prices = prices
        self.proving = proving
        network = asking.nodes.network
        self.chain_id = network.chain_id
        self.endorsed_contract = network.endorsed
        self.chain: Chain = network.chain
        if network.chain.name not in CHAINS:  # a devnet begins whenever it is started
            now = datetime.fromtimestamp(self.block.timestamp, UTC)
            self.chain = Chain(network.chain.name, now - self.block.number * EPOCH)

    @property
    def block(self) -> ChainBlock:
        """The block at which everything is read; its number is the epoch."""
        return self._asking.block

    def confirm(self) -> None:
        """Check that the block of this view is still on the chain.

        Raises TransientError when it was replaced: what was read may not be true, and must be read again.
        """
        self._asking.nodes.confirm(self.block)

    def account(self, payer: EvmAddress) -> PayAccount:
        """Return the payer's account in FilecoinPay; without any funds when there is none."""
        contracts = self.contracts
        question = ContractQuestion(contracts.payments, calls.ACCOUNT, (contracts.token, payer))
        return PayAccount(*self._asking.value(question))

    def approval(self, payer: EvmAddress) -> Approval:
        """Return what the payer allows the service to take."""
        contracts = self.contracts
        arguments = (contracts.token, payer, contracts.service)
        return Approval(*self._asking.value(ContractQuestion(contracts.payments, calls.APPROVAL, arguments)))

    def balance(self, owner: EvmAddress) -> int:
        """Return the tokens in a wallet, which are not deposited yet."""
        return int(self._asking.value(ContractQuestion(self.contracts.token, calls.BALANCE, (owner,)))[0])

    def expiries(
        self, payer: EvmAddress, signer: EvmAddress, scopes: Sequence[SigningScope]
    ) -> dict[SigningScope, datetime]:
        """Return until when `signer` may sign for `payer`, for each scope that it was ever granted (UTC).

        It may when that is not before the time of the block.
        """
        questions = (
            ContractQuestion(self.contracts.sessions, calls.EXPIRY, (payer, signer, PERMISSIONS[scope]))
            for scope in scopes
        )
        found = zip(scopes, self._asking.values(questions), strict=True)
        return {scope: _moment(values[0]) for scope, values in found if values[0]}

    def nonces(self, payer: EvmAddress, numbers: Iterable[int]) -> dict[int, Landed | None]:
        """Return for each number of a signed call where it landed; None when it has not been used."""
        wanted = list(dict.fromkeys(numbers))
        questions = (
            ContractQuestion(self.contracts.view, calls.CLIENT_NONCES, (payer, each)) for each in wanted
        )
        found = (int(values[0]) for values in self._asking.values(questions))
        return {
            number: Landed(packed & (1 << 128) - 1, packed >> 128) if packed else None
            for number, packed in zip(wanted, found, strict=True)
        }

    def data_set_ids(self, payer: EvmAddress) -> tuple[int, ...]:
        """Return the ids of all data sets that a payer has, also of those that were terminated."""
        view = self.contracts.view
        (total,) = self._asking.value(ContractQuestion(view, calls.CLIENT_DATA_SETS_LENGTH, (payer,)))
        pages = -(-total // PAGE)
        if pages > MAX_PAGES:
            raise UnexpectedResponseError(
                self._asking.nodes.first.name, f"states {total} data sets of one payer"
            )
        questions = (
            ContractQuestion(view, calls.CLIENT_DATA_SETS, (payer, page * PAGE, PAGE))
            for page in range(pages)
        )
        return tuple(number for (page,) in self._asking.values(questions) for number in page)

    def data_sets(self, ids: Iterable[int]) -> dict[int, DataSetState | Reason]:
        """Return the state of each data set; a Reason for one whose state cannot be known.

        A data set that does not exist has the rail 0.
        """
        wanted = list(dict.fromkeys(ids))
        first = self._asking.ask([question for each in wanted for question in self._first_questions(each)])
        size = len(first) // len(wanted) if wanted else 0
        begun = {
            each: self._begin(each, first[number * size : (number + 1) * size])
            for number, each in enumerate(wanted)
        }
        questions: dict[int, list[ContractQuestion]] = {
            each: self._second_questions(found)
            for each, found in begun.items()
            if isinstance(found, BegunState)
        }
        answers = iter(self._asking.ask([question for asked in questions.values() for question in asked]))
        states: dict[int, DataSetState | Reason] = {}
        for each, found in begun.items():
            if isinstance(found, BegunState):
                given = [next(answers) for _ in questions[each]]
                states[each] = _explained(lambda found=found, given=given: finish_state(found, given), each)  # type: ignore[misc]
            else:
                states[each] = found
        return states

    def paused(self) -> tuple[str, ...]:
        """Return the names of the contracts that their operators have stopped."""
        contracts = self.contracts
        named = {
            "FilecoinWarmStorageService": contracts.service,
            "PDPVerifier": contracts.verifier,
            "FilecoinPay": contracts.payments,
        }
        answers = self._asking.ask([ContractQuestion(each, calls.PAUSED) for each in named.values()])
        return tuple(name for name, found in zip(named, answers, strict=True) if found == (True,))

    def provider_ids(self) -> tuple[int, ...]:
        """Return the ids of all active providers in the registry."""
        found: list[int] = []
        for _ in range(MAX_PAGES):
            ids, more = self._asking.value(
                ContractQuestion(self.contracts.registry, calls.ACTIVE_PROVIDERS, (len(found), PAGE))
            )
            found += ids
            if not more or not ids:
                break
        return tuple(dict.fromkeys(found))

    def endorsed_ids(self) -> frozenset[int]:
        """Return the ids of the endorsed providers; none where the network has no such list."""
        if self.endorsed_contract is None:
            return frozenset()
        question = ContractQuestion(self.endorsed_contract, calls.ENDORSED_PROVIDERS)
        return frozenset(self._asking.value(question)[0])

    def approved_ids(self) -> frozenset[int]:
        """Return the ids of the providers that the service has approved."""
        found: list[int] = []
        for _ in range(MAX_PAGES):
            question = ContractQuestion(self.contracts.view, calls.APPROVED_PROVIDERS, (len(found), PAGE))
            (ids,) = self._asking.value(question)
            found += ids
            if len(ids) < PAGE:
                break
        return frozenset(found)

    def providers(self, ids: Iterable[int]) -> dict[int, StorageProvider | Reason]:
        """Return the providers with these ids; a Reason for one that is not registered or not understood."""
        wanted = list(dict.fromkeys(ids))
        questions = [ContractQuestion(self.contracts.registry, calls.PROVIDER, (each, 0)) for each in wanted]
        found: dict[int, StorageProvider | Reason] = {}
        for each, answer in zip(wanted, self._asking.ask(questions), strict=True):
            if isinstance(answer, Revert):
                found[each] = Reason(f"there is no provider {each} that stores pieces")
            elif isinstance(answer, Reason):
                found[each] = answer
            else:
                found[each] = read_provider(*answer[0])
        return found

    def token_domain(self, owner: EvmAddress) -> tuple[str, str, int]:
        """Return the token's name and version, and the owner's next nonce, as a permit needs them."""
        token = self.contracts.token
        name, version, nonce = self._asking.ask(
            [
                ContractQuestion(token, calls.TOKEN_NAME),
                ContractQuestion(token, calls.TOKEN_VERSION),
                ContractQuestion(token, calls.TOKEN_NONCE, (owner,)),
            ]
        )
        found_name = self._asking.require(ContractQuestion(token, calls.TOKEN_NAME), name)[0]
        found_nonce = self._asking.require(ContractQuestion(token, calls.TOKEN_NONCE), nonce)[0]
        return (
            str(found_name),
            "1" if isinstance(version, Revert | Reason) else str(version[0]),
            int(found_nonce),
        )

    def _first_questions(self, number: int) -> list[ContractQuestion]:
        view, verifier = self.contracts.view, self.contracts.verifier
        return [
            ContractQuestion(view, calls.DATA_SET, (number,)),
            ContractQuestion(verifier, calls.LIVE, (number,)),
            ContractQuestion(view, calls.ACTIVATION, (number,)),
            ContractQuestion(view, calls.DEADLINE, (number,)),
            ContractQuestion(view, calls.PROVEN_THIS_PERIOD, (number,)),
            ContractQuestion(view, calls.DATA_SET_METADATA, (number,)),
            # from here on only for a data set that is live
            ContractQuestion(verifier, calls.LISTENER, (number,)),
            ContractQuestion(verifier, calls.LEAVES, (number,)),
            ContractQuestion(verifier, calls.CHALLENGED, (number,)),
            ContractQuestion(verifier, calls.REMOVALS, (number,)),
            ContractQuestion(verifier, calls.NEXT_PIECE, (number,)),
            ContractQuestion(verifier, calls.PIECE_COUNT, (number,)),
        ]

    def _begin(self, number: int, answers: Sequence[Values]) -> BegunState | DataSetState | Reason:
        latest = self.block.number + _PERIODS_AHEAD * self.proving.period
        return _explained(lambda: begin_state(number, answers, self._recent_periods, latest), number)

    def _second_questions(self, begun: BegunState) -> list[ContractQuestion]:
        state, verifier = begun.state, self.contracts.verifier
        number = state.account.id
        pages = [
            ContractQuestion(verifier, calls.PIECES, (number, start, PAGE))
            for start in range(0, begun.next_piece, PAGE)
        ]
        return pages + [
            ContractQuestion(self.contracts.view, calls.PROVEN_PERIODS, (number, period))
            for period in begun.periods
        ]

    def _recent_periods(self, activation: int) -> range:
        """Return the numbers of the current proving period and of the finished ones before it that count."""
        if not activation or self.block.number <= activation:
            return range(0)
        current = (self.block.number - activation - 1) // self.proving.period
        return range(max(0, current - RECENT_PERIODS), current + 1)


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _known(version: str, known: Sequence[str], contract: str, node: str) -> str:
    match = _VERSION.fullmatch(version)
    if match is None or f"{match[1]}.{match[2]}" not in known:
        raise UnexpectedResponseError(
            node,
            f"{contract} has the version {sanitize(version, limit=32)!r}, which this program does not know",
            hint=f"update this program; it knows {' and '.join(f'{each}.x' for each in known)}",
        )
    return version


def _announced(names: Sequence[str], answers: Sequence[Values]) -> Iterable[str]:
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, tuple) and answer[0]:
            yield f"an upgrade of {name} to {answer[0]} was announced for epoch {answer[1]}"


def _explained(make: Callable[[], T], number: int) -> T | Reason:
    """Return what `make` returns, or why that cannot be known about data set `number`."""
    try:
        return make()
    except DataError as error:
        return Reason(f"data set {number}: {error.message}", error.hint or "")
