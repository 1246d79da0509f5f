"""The end of storage: the transactions of the payer that stop what an index keeps from being paid for.

The session key is revoked first, so that no run stores anything again; then the data sets of the index are
ended, which keeps and pays their pieces for another 30 days; and what is not locked is withdrawn, unless
something else is paid from the same account. Each is made only where it is missing, so doing it again later
withdraws the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reconciler.deals.onchain.interface import (
    EPOCHS_PER_DAY,
    DataSetState,
    SigningScope,
    StorageProvider,
)
from reconciler.deals.onchain.keys import SigningKey
from reconciler.deals.onchain.money import format_amount, runway
from reconciler.deals.onchain.reader import ChainReader, ChainView
from reconciler.deals.onchain.wallet import UnsentCall, Wallet, revoke_call, terminate_call, withdraw_call
from reconciler.progress import Progress
from reconciler.targets.filecoin.add import is_of_index
from reconciler.targets.filecoin.costs import amount, paying_account
from reconciler.targets.filecoin.fund import gas_problems, require_payer, require_shown, send
from reconciler.targets.filecoin.holdings import read_holdings
from reconciler.targets.filecoin.options import FilecoinOptions
from reconciler.targets.filecoin.provider import describe_provider
from reconciler.targets.pricing import FundingAction, FundingPlan, FundingReceipt

_MARGIN = 120  # epochs, an hour: what is paid while the transactions are sent stays in the account
_DUST = 10**16  # less than this, a hundredth of a dollar, is not worth the gas


class StopKind(StrEnum):
    """What one transaction of the payer is for."""

    REVOKE = "revoke"  #: of the session key
    END = "end"  #: of a data set
    WITHDRAW = "withdraw"  #: of what is available


@dataclass(frozen=True, slots=True)
class _StopStep:
    """One transaction, as `action` says it; `data_set` is the id of the one to end, 0 for none."""

    action: FundingAction
    data_set: int = 0


def plan_stop(name: str, options: FilecoinOptions, reader: ChainReader, index: str) -> FundingPlan:
    """Return what is left to stop of the storage of the index with id `index`, on the target `name`.

    Raises RequestError, and PeerError when a data set cannot be understood.
    """
    view = reader.view()
    account, approval = view.account(options.payer), view.approval(options.payer)
    now = runway(account, view.block.number, view.chain)
    actions = tuple(step.action for step in _steps(name, options, reader, index))
    return FundingPlan(
        paying_account(name, view, options, account, approval, now),
        amount(view.balance(options.payer)),
        actions,
        tuple(gas_problems(options)) if actions else (),
        stops=True,
    )


def carry_out_stop(
    name: str,
    options: FilecoinOptions,
    reader: ChainReader,
    key: SigningKey,
    index: str,
    shown: FundingPlan,
    progress: Progress,
) -> Iterator[FundingReceipt]:
    """Yield the receipt of each action of `shown` that is still left, once it is on the chain.

    No more is withdrawn than was shown, and nothing while the account still pays for something. Raises
    RequestError, TransactionError; UsageError for the key of another account; SafetyError when something else
    would end than was shown.
    """
    require_payer(name, options, key)
    steps = _steps(name, options, reader, index)
    ending = [step for step in steps if step.action.kind != StopKind.WITHDRAW]
    require_shown(name, [step.action for step in ending], shown)
    wallet = Wallet(options.nodes.first, reader.view().chain_id, key)
    for step in ending:
        yield send(name, wallet, step.action, _call(step, options, reader.view()), progress)
    for action in shown.actions:
        if action.kind == StopKind.WITHDRAW and action.amount is not None:
            view = reader.view()
            left = min(_available(options, view), int(action.amount.scaleb(18)))
            if left and not view.account(options.payer).rate:
                yield send(name, wallet, action, withdraw_call(view, left), progress)


def _steps(name: str, options: FilecoinOptions, reader: ChainReader, index: str) -> Sequence[_StopStep]:
    """Return what is left to do, in order."""
    holdings = read_holdings(reader, options.payer)
    holdings.require_known(name)
    view, payer = holdings.view, options.payer
    found: list[_StopStep] = []
    session = options.key.address if options.key is not None and options.has_session_key else None
    if session is not None:
        granted = view.expiries(payer, session, tuple(SigningScope))
        ends = [end for end in granted.values() if end.timestamp() >= view.block.timestamp]
        if ends:
            why = f"it may sign until {max(ends):%Y-%m-%d}"
            found.append(
                _StopStep(FundingAction(StopKind.REVOKE.value, f"revoke the session key {session}", why))
            )
    running = {
        number: state
        for number, state in holdings.data_sets.items()
        if isinstance(state, DataSetState) and _runs(state)
    }
    own = {number: state for number, state in running.items() if is_of_index(state, index)}
    for number, state in own.items():
        provider = holdings.providers.get(state.account.provider_id)
        found.append(_StopStep(_ending(state, provider, view), number))
    others = len(running) > len(own) or (not own and view.account(payer).rate)
    available = 0 if others else _available(options, view)
    if available:
        text = f"withdraw {format_amount(available)} to the wallet of {payer}"
        found.append(
            _StopStep(FundingAction(StopKind.WITHDRAW.value, text, "it is not locked", amount(available)))
        )
    return found


def _runs(state: DataSetState) -> bool:
    return bool(state.account.rail) and state.live and not state.account.end


def _ending(state: DataSetState, provider: object, view: ChainView) -> FundingAction:
    where = (
        describe_provider(provider)
        if isinstance(provider, StorageProvider)
        else f"provider {state.account.provider_id}"
    )
    days = view.prices.lockup_period // EPOCHS_PER_DAY
    return FundingAction(
        StopKind.END.value,
        f"end data set {state.account.id} with {where}",
        f"{_count(len(state.pieces))} kept and paid for another {days} days",
    )


def _count(pieces: int) -> str:
    return "its one piece is" if pieces == 1 else f"its {pieces} pieces are"


def _available(options: FilecoinOptions, view: ChainView) -> int:
    """Return what can be withdrawn now and in an hour."""
    account = view.account(options.payer)
    now = runway(account, view.block.number, view.chain)
    left = now.available - account.rate * _MARGIN
    return left if left >= _DUST else 0


def _call(step: _StopStep, options: FilecoinOptions, view: ChainView) -> UnsentCall:
    if step.data_set:
        return terminate_call(view.contracts, step.data_set)
    assert options.key is not None  # noqa: S101 - only then there is such a step
    return revoke_call(view.contracts, options.key.address)
