"""Funding of the payer's account: what is missing, and the transactions of the payer that supply it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from reconciler.deals.onchain.funding import (
    SESSION_DAYS,
    FundingGoal,
    FundingKind,
    FundingState,
    FundingStep,
    funding_call,
    missing_steps,
    needed_for_copies,
    rate_of,
    read_funding,
)
from reconciler.deals.onchain.guard import fill_target
from reconciler.deals.onchain.keys import SigningKey
from reconciler.deals.onchain.money import format_amount, parse_amount, runway
from reconciler.deals.onchain.nodes import quantity
from reconciler.deals.onchain.reader import ChainReader, ChainView
from reconciler.deals.onchain.wallet import TransactionRefusedError, UnsentCall, Wallet
from reconciler.errors import DataError, Reason, SafetyError, UsageError
from reconciler.progress import Progress
from reconciler.targets.filecoin.costs import amount, paying_account
from reconciler.targets.filecoin.options import FilecoinOptions
from reconciler.targets.pricing import FundingAction, FundingPlan, FundingReceipt, FundingWish

_KINDS: Mapping[FundingKind, str] = {
    FundingKind.DEPOSIT: "deposit {amount}, and approve the storage service{limit}",
    FundingKind.APPROVE: "approve the storage service{limit}",
    FundingKind.LOGIN: "let the session key {session} sign uploads for {days} days",
}


def plan_funding(name: str, options: FilecoinOptions, reader: ChainReader, wish: FundingWish) -> FundingPlan:
    """Return what the account that pays for the target `name` lacks. Raises RequestError, UsageError."""
    view = reader.view()
    goal = read_goal(options, view, wish)
    state = read_funding(view, options.payer, goal.session)
    steps = tuple(missing_steps(state, goal))
    now = runway(state.account, view.block.number, view.chain)
    return FundingPlan(
        paying_account(name, view, options, state.account, state.approval, now),
        amount(state.wallet),
        tuple(_action(step, goal, options) for step in steps),
        tuple(_problems(options, state, steps)),
    )


def carry_out_funding(
    name: str,
    options: FilecoinOptions,
    reader: ChainReader,
    key: SigningKey,
    wish: FundingWish,
    shown: FundingPlan,
    progress: Progress,
) -> Iterator[FundingReceipt]:
    """Yield the receipt of each action of `shown` that is still missing, once it is on the chain.

    Raises RequestError, TransactionError; UsageError for the key of another account; SafetyError when more
    is missing now than was shown.
    """
    require_payer(name, options, key)
    view = reader.view()
    goal = read_goal(options, view, wish)
    steps = tuple(missing_steps(read_funding(view, options.payer, goal.session), goal))
    actions = [_action(step, goal, options) for step in steps]
    require_shown(name, actions, shown)
    wallet = Wallet(options.nodes.first, view.chain_id, key)
    for step, action in zip(steps, actions, strict=True):
        yield send(name, wallet, action, funding_call(step, view, key, goal), progress)


def send(
    name: str, wallet: Wallet, action: FundingAction, call: UnsentCall, progress: Progress
) -> FundingReceipt:
    """Send the transaction of one action and wait for it. Raises RequestError, TransactionError."""
    with progress.task(action.text, None):
        try:
            return FundingReceipt(action, wallet.carry_out(call).hash)
        except TransactionRefusedError as error:
            hint = fill_target(error.hint or "", name)
            raise TransactionRefusedError(error.message, hint=hint or None) from None


def require_payer(name: str, options: FilecoinOptions, key: SigningKey) -> None:
    """Raise UsageError when `key` is not that of the account that pays for the target `name`."""
    if key.address != options.payer:
        raise UsageError(
            f"{name}: the key in {options.payer_key_env} is that of {key.address}, and {options.payer} pays",
            hint="give the payer's key, or correct payer in targets.yaml",
        )


def read_goal(options: FilecoinOptions, view: ChainView, wish: FundingWish) -> FundingGoal:
    """Return what `wish` asks for. Raises UsageError for an invalid amount."""
    try:
        wanted = None if wish.deposit is None else parse_amount(wish.deposit)
    except DataError as error:
        raise UsageError(f"--deposit: {error.message}", hint=error.hint) from None
    days = options.limits.min_runway_days if wish.days is None else wish.days
    session = options.key.address if options.key is not None and options.has_session_key else None
    if wanted is None and wish.days is None and not view.account(options.payer).rate:
        wanted = needed_for_copies(view, options.copies)
    return FundingGoal(wanted or 0, days, rate_of(options.limits.max_monthly), session)


def _action(step: FundingStep, goal: FundingGoal, options: FilecoinOptions) -> FundingAction:
    monthly = options.limits.max_monthly
    limit = "" if monthly is None else f" up to {format_amount(monthly)} a month"
    text = _KINDS[step.kind].format(
        amount=format_amount(step.amount), limit=limit, session=goal.session, days=SESSION_DAYS
    )
    paid: Decimal | None = amount(step.amount) if step.kind is FundingKind.DEPOSIT else None
    return FundingAction(step.kind.value, text, step.why, paid)


def _problems(
    options: FilecoinOptions, state: FundingState, steps: Sequence[FundingStep]
) -> Iterator[Reason]:
    needed = sum(step.amount for step in steps)
    if needed > state.wallet:
        yield Reason(
            f"the wallet of {options.payer} has {format_amount(state.wallet)}, and {format_amount(needed)} "
            "are to be deposited",
            f"send {format_amount(needed - state.wallet)} to {options.payer}",
        )
    if steps:
        yield from gas_problems(options)


def gas_problems(options: FilecoinOptions) -> Iterator[Reason]:
    """Yield a problem when the payer has no FIL. Raises RequestError."""
    if not gas_of(options):
        yield Reason(f"{options.payer} has no FIL to pay the gas", f"send a little FIL to {options.payer}")


def gas_of(options: FilecoinOptions) -> int:
    """Return the FIL of the payer, in attoFIL. Raises RequestError."""
    found = options.nodes.first.call("eth_getBalance", (str(options.payer), "latest"))
    return int(found.text(), 16) if len(found.text()) > 18 else quantity(found)


def require_shown(name: str, actions: Sequence[FundingAction], shown: FundingPlan) -> None:
    """Raise SafetyError for an action that is not among those of `shown`, or is about a larger amount."""
    for each in actions:
        if not any(_covers(known, each) for known in shown.actions):
            raise SafetyError(
                f"{name}: more is missing now than was shown: {each.text}",
                hint="run again: nothing was sent",
            )


def _covers(shown: FundingAction, action: FundingAction) -> bool:
    if action.amount is None or shown.amount is None:
        return (shown.kind, shown.text) == (action.kind, action.text)
    return shown.kind == action.kind and shown.amount >= action.amount
