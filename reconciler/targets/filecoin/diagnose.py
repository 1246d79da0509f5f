"""Diagnosis of the storage of one payer: chain, contracts, account, key and providers. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from reconciler.deals.onchain.funding import RENEW_SESSION_DAYS
from reconciler.deals.onchain.guard import fill_target
from reconciler.deals.onchain.interface import (
    EPOCHS_PER_DAY,
    UPLOAD_SCOPES,
    DataSetState,
    StorageProvider,
)
from reconciler.deals.onchain.money import format_amount, needed_to_create, runway
from reconciler.deals.onchain.reader import ChainReader
from reconciler.errors import PeerError, Reason
from reconciler.targets.filecoin.clients import ProviderClients
from reconciler.targets.filecoin.fund import gas_of
from reconciler.targets.filecoin.holdings import Holdings, read_holdings
from reconciler.targets.filecoin.options import FilecoinOptions
from reconciler.targets.filecoin.provider import describe_provider
from reconciler.targets.interface import Diagnosis

_PROVIDERS = 5  # of the registry that are asked when targets.yaml names none
_FUND = "run reconcile fund TARGET"


def diagnose_storage(
    name: str, options: FilecoinOptions, reader: ChainReader, clients: ProviderClients
) -> Iterator[Diagnosis]:
    """Yield the findings; a failure of a node, a contract or a provider is a finding as well."""
    try:
        holdings = read_holdings(reader, options.payer)
    except PeerError as error:
        yield _failed("chain", error)
        return
    view = holdings.view
    contracts = view.contracts
    yield Diagnosis(
        "chain",
        ok=True,
        text=f"{view.chain.name} (chain {view.chain_id}), epoch {view.block.number}; "
        f"FilecoinWarmStorageService {contracts.service_version}, PDPVerifier {contracts.verifier_version}",
    )
    for note in contracts.notes:
        yield Diagnosis("chain", ok=None, text=note)
    for check in (_contracts, _account, _key, _data_sets, _providers):
        try:
            yield from (_naming(each, name) for each in check(options, holdings, clients))
        except PeerError as error:
            yield _failed(check.__name__.strip("_").replace("_", " "), error)


def _contracts(_: FilecoinOptions, holdings: Holdings, __: ProviderClients) -> Iterator[Diagnosis]:
    for name in holdings.view.paused():
        yield Diagnosis(
            "contracts",
            ok=False,
            text=f"{name} is paused by its operators",
            hint="nothing can be published now; what is stored stays stored: wait and run again",
        )


def _account(options: FilecoinOptions, holdings: Holdings, _: ProviderClients) -> Iterator[Diagnosis]:
    view = holdings.view
    account, approval = view.account(options.payer), view.approval(options.payer)
    now = runway(account, view.block.number, view.chain)
    wallet = format_amount(view.balance(options.payer))
    text = (
        f"{options.payer}: {format_amount(account.funds)} deposited, {format_amount(now.available)} "
        f"available, {wallet} in the wallet"
    )
    needed = needed_to_create(view.prices)
    if account.rate and not now.epochs:
        yield Diagnosis("balance", ok=False, text=f"{text}; the account is exhausted", hint=_FUND)
    elif not account.rate and now.available < needed:
        text += f"; a data set needs {format_amount(needed)}"
        yield Diagnosis("balance", ok=False, text=text, hint=_FUND)
    else:
        days = now.epochs // EPOCHS_PER_DAY
        short = bool(account.rate) and days < options.limits.min_runway_days
        if account.rate:
            until = "" if now.exhausted is None else f", until {now.exhausted:%Y-%m-%d}"
            text += f"; it lasts {days} days{until}"
        hint = f"{_FUND} --days {options.limits.min_runway_days}" if short else ""
        yield Diagnosis("balance", ok=not short, text=text, hint=hint)
    if not gas_of(options):
        yield Diagnosis(
            "gas",
            ok=None,
            text=f"{options.payer} has no FIL",
            hint="deposits and session keys need some; publishing needs none",
        )
    if not approval.approved:
        yield Diagnosis("allowance", ok=False, text="the storage service is not approved", hint=_FUND)
        return
    lacking = [
        f"{what}: {format_amount(used)} of {format_amount(allowed)} used"
        for what, used, allowed in (
            ("an epoch", approval.rate_used, approval.rate_allowance),
            ("lockup", approval.lockup_used, approval.lockup_allowance),
        )
        if used >= allowed
    ]
    if approval.max_lockup_period < view.prices.lockup_period:
        lacking.append(f"lockup for {approval.max_lockup_period} of {view.prices.lockup_period} epochs")
    yield Diagnosis(
        "allowance",
        ok=not lacking,
        text="; ".join(lacking) or "the storage service is approved",
        hint=_FUND if lacking else "",
    )


def _key(options: FilecoinOptions, holdings: Holdings, _: ProviderClients) -> Iterator[Diagnosis]:
    if options.key is None:
        yield Diagnosis("key", ok=None, text="no key_env: the storage is only read")
        return
    if not options.has_session_key:
        yield Diagnosis(
            "key",
            ok=None,
            text="the payer's own key, which may do everything with its money",
            hint="use a session key, which may only upload: set payer, and key_env to another key",
        )
        return
    view = holdings.view
    granted = view.expiries(options.payer, options.key.address, UPLOAD_SCOPES)
    now = datetime.fromtimestamp(view.block.timestamp, UTC)
    for scope in UPLOAD_SCOPES:
        end = granted.get(scope)
        if end is None:
            text, ok = f"{options.key.address} was never allowed to sign {scope.value}", False
        else:
            over = end < now
            text = f"{scope.value} {'ended' if over else 'until'} {end:%Y-%m-%d %H:%M} UTC"
            ok = not over
        soon = end is not None and ok and end < now + timedelta(days=RENEW_SESSION_DAYS)
        yield Diagnosis(
            "session key",
            ok=None if soon else ok,
            text=text,
            hint="" if ok and not soon else f"{_FUND} to grant it",
        )


def _data_sets(_: FilecoinOptions, holdings: Holdings, __: ProviderClients) -> Iterator[Diagnosis]:
    running = 0
    for number, state in holdings.data_sets.items():
        if not isinstance(state, DataSetState):
            text = f"data set {number} cannot be understood: {state.text}"
            yield Diagnosis("data sets", ok=False, text=text, hint=state.hint)
        elif state.live and not state.account.end:
            running += 1
    yield Diagnosis("data sets", ok=True, text=f"{running} running of {len(holdings.data_sets)}")


def _providers(options: FilecoinOptions, holdings: Holdings, clients: ProviderClients) -> Iterator[Diagnosis]:
    for number, provider in _asked(options, holdings).items():
        if not isinstance(provider, StorageProvider):
            hint = provider.hint or "name providers of the registry in targets.yaml"
            yield Diagnosis(f"provider {number}", ok=False, text=provider.text, hint=hint)
            continue
        name = describe_provider(provider)
        if not provider.active or not provider.url:
            what = "is no longer active" if not provider.active else "states no address"
            yield Diagnosis(name, ok=False, text=what, hint="use another provider")
            continue
        try:
            clients(provider).ping()
        except PeerError as error:
            hint = (
                error.hint
                or "another provider is used for new copies; its copies go on being judged by the chain"
            )
            yield Diagnosis(name, ok=False, text=error.message, hint=hint)
        else:
            yield Diagnosis(name, ok=True, text=provider.url)


def _asked(options: FilecoinOptions, holdings: Holdings) -> dict[int, StorageProvider | Reason]:
    """Return the providers to ask: named ones, those with data sets of ours, else the first endorsed ones."""
    view = holdings.view
    ids = dict.fromkeys((*options.providers, *holdings.providers))
    if not options.providers and len(ids) < options.copies:
        ids |= dict.fromkeys(sorted(view.endorsed_ids() or view.provider_ids())[:_PROVIDERS])
    return view.providers(ids)


def _naming(found: Diagnosis, name: str) -> Diagnosis:
    return replace(found, hint=fill_target(found.hint, name))


def _failed(subject: str, error: PeerError) -> Diagnosis:
    return Diagnosis(subject, ok=False, text=error.message, hint=error.hint or "")
