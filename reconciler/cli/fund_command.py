"""The command `fund`: what an account lacks before a target can be paid, and the transactions for it."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.options import Directory, Json, TargetsFile
from reconciler.errors import ExitCode, SafetyError, UsageError
from reconciler.index.locations import find_layout

if TYPE_CHECKING:
    from reconciler.index.locations import RepositoryLayout
    from reconciler.targets.interface import Target
    from reconciler.targets.pricing import FundingPlan, FundingReceipt

fund_command = typer.Typer()


@fund_command.command()
def fund(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Name of a target in targets.yaml.")],
    deposit: Annotated[
        str | None,
        typer.Option(
            "--deposit",
            metavar="AMOUNT",
            help="Amount that shall be available in the account, such as '5 USDFC'; only what is missing is "
            "deposited (default: what the first version needs).",
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            "--days",
            metavar="N",
            min=0,
            max=36_500,
            help="Days that the account shall last at its present rate (default: min_runway_days).",
        ),
    ] = None,
    stop: Annotated[
        bool,
        typer.Option(
            "--stop",
            help="End what this index keeps on the target instead: revoke the session key, end its data "
            "sets, which are kept and paid for another 30 days, and withdraw what nothing else is paid from.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Send the transactions without asking (default: ask on a terminal).")
    ] = False,
    as_json: Json = False,
    directory: Directory = None,
    targets: TargetsFile = None,
) -> int:
    """Show what the account that pays for a target lacks, and supply it; or end its storage.

    Deposits, approves the storage service and lets the session key sign uploads, as far as each is missing.
    Every transaction is shown first, and sent only after a confirmation or with --yes. The payer's key is
    read from the environment, and only then.
    """
    from reconciler.loop.workspace import run_lock
    from reconciler.render.costs import funding_text, receipt_text
    from reconciler.render.documents import funding_document
    from reconciler.targets.pricing import Fundable, FundingWish

    if stop and (deposit is not None or days is not None):
        raise UsageError("--stop deposits nothing", hint="give neither --deposit nor --days")
    layout = find_layout(directory, None, targets)
    wish = FundingWish(deposit, days, _stopped_index(layout, target) if stop else None)
    done: list[FundingReceipt] = []
    layout.make_state()
    with (
        run_lock(layout.state, "reconcile fund"),
        out.progress() as progress,
        closing(_open(layout, target)) as opened,
    ):
        if not isinstance(opened, Fundable):
            raise UsageError(
                f"the target {target!r} has no account", hint="only targets of kind filecoin are paid"
            )
        plan = opened.plan_funding(wish)
        if not as_json:
            out.result(funding_text(target, plan))
        refused = _refusal(plan, yes=yes, as_json=as_json)
        if refused is None and plan.actions:
            try:
                for receipt in opened.fund(wish, plan, progress):
                    done.append(receipt)
                    if not as_json:
                        out.result(receipt_text(receipt))
            finally:
                if as_json and done:
                    out.result_json(funding_document(target, plan, done))
        elif as_json:
            out.result_json(funding_document(target, plan, done))
    if refused is None:
        return ExitCode.OK
    return out.show_failure(refused.message, hint=refused.hint, code=refused.exit_code, document=not as_json)


def _stopped_index(layout: RepositoryLayout, target: str) -> str:
    """Return the id of the index whose storage on `target` shall end.

    Raises SafetyError while versions list the target: the next run would store them again.
    """
    from reconciler.index.load import load_index

    index = load_index(layout.index_file, stamps=layout.cache)
    kept = [version.ref for version in index.versions() if target in version.targets and not version.retired]
    if kept:
        more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        raise SafetyError(
            f"{kept[0]}{more} shall still be kept on {target!r}, and the next run would store it again",
            hint=f"remove {target!r} from the targets of these versions, or retire them",
        )
    return index.id


def _open(layout: RepositoryLayout, name: str) -> Target:
    from reconciler.index.targets_file import load_targets
    from reconciler.targets.open import open_target

    specs = {spec.name: spec for spec in load_targets(layout.targets_file)}
    if name not in specs:
        raise UsageError(f"unknown target {name!r}", hint=f"the targets are {', '.join(specs)}")
    return open_target(specs[name], root=layout.root, environ=os.environ)


def _refusal(plan: FundingPlan, *, yes: bool, as_json: bool) -> SafetyError | None:
    """Return why nothing is sent; None when the user agrees, or nothing is missing."""
    if not plan.actions:
        return None
    if plan.problems:
        first = plan.problems[0]
        return SafetyError(f"nothing was sent: {first.text}", hint=first.hint)
    if yes:
        return None
    if not as_json and sys.stdin.isatty() and typer.confirm("Send these transactions?", err=True):
        return None
    return SafetyError("nothing was sent", hint="run again with --yes to send these transactions")
