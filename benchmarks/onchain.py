"""Measure the health of 1,000 pieces in 10 data sets on a local chain, against the limits for it.

The limits are 30 requests to the node and 2 seconds, and figures are shares of them. The chain is anvil with
the contracts of the tests; without anvil, it is the chain in memory, which shares our process.
"""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, main, seconds
from reconciler.deals.json_rpc import JsonRpc
from reconciler.deals.onchain import names
from reconciler.deals.onchain.health import judge_copy
from reconciler.deals.onchain.interface import CopyState, DataSetState
from tests.support.onchain.lab import onchain_lab
from tests.support.onchain.payer import Payer, pieces

SETS, EACH, BATCH = 10, 100, 20
REQUESTS, SECONDS = 30, 2.0


def run(quick: bool, _: Path) -> Iterator[Figure]:
    """Measure reading and judging every piece, with the block confirmed at the end."""
    anvil = shutil.which("anvil") is not None
    with onchain_lab(anvil=anvil) as lab:
        payer = Payer(lab, funds=900 * 10**18)
        wanted = [pieces(EACH, first=number * EACH) for number in range(SETS)]
        for number, batch in enumerate(wanted):
            data_set = payer.create(1, batch[:BATCH], generation=number)
            for start in range(BATCH, EACH, BATCH):
                set_name, part = payer.set_name(1, number), batch[start : start + BATCH]
                extra = payer.signer().add_pieces(set_name, names.add_name(set_name, part), part)
                lab.add(1, data_set, extra, part)
            lab.prove_period(1, data_set)
        asked: Counter[str] = Counter()
        _count_requests(asked)
        times = [seconds(lambda: _judge_all(payer, wanted)) for _ in range(2 if quick else 5)]
        requests = asked["requests"] / len(times)
        place = "anvil" if anvil else "in memory"
        detail = f"{statistics.median(times):.2f} s of {SECONDS:g} s, {place}"
        name = f"health of {SETS * EACH} pieces in {SETS} data sets"
        yield Figure(f"{name}: time, share of the limit", max(times) / SECONDS, maximum=1, detail=detail)
        detail = f"{requests:g} of {REQUESTS}"
        yield Figure(f"{name}: requests, share of the limit", requests / REQUESTS, maximum=1, detail=detail)
        payer.close()


def _judge_all(payer: Payer, wanted: list[Any]) -> None:
    view = payer.view()
    states = view.data_sets(view.data_set_ids(payer.key.address))
    found: Counter[CopyState] = Counter()
    for state, batch in zip(states.values(), wanted, strict=True):
        assert isinstance(state, DataSetState), state
        for piece in batch:
            copy = judge_copy(
                piece,
                state,
                payer=payer.key.address,
                service=view.contracts.service,
                head=view.block.number,
                period=view.proving.period,
            )
            found[copy.state] += 1
    view.confirm()
    assert found.total() == SETS * EACH
    assert found[CopyState.ABSENT] == 0


def _count_requests(asked: Counter[str]) -> None:
    """Count every request to a node from now on."""
    send = JsonRpc._post  # noqa: SLF001 - the one place through which requests go

    def counted(self: JsonRpc, body: object, limit: int) -> Any:
        asked["requests"] += 1
        return send(self, body, limit)

    JsonRpc._post = counted  # type: ignore[method-assign]  # noqa: SLF001


if __name__ == "__main__":
    main(run)
