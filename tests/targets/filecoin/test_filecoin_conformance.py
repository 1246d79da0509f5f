"""The suite of all targets, against four providers over contracts in memory, and over those on anvil."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import pytest

from reconciler.content import car
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.progress import QUIET
from reconciler.targets.interface import Check
from tests.conformance.targets import Damage, TargetSuite
from tests.support.http_peer import Said
from tests.support.onchain.storage import OnchainStorage, onchain_storage
from tests.support.shapes import SHAPES

CAR_LIMIT = 60_000  # bytes: three shards for the largest shape


class FilecoinSubject:
    """The storage of one payer; a stranger is a second target with it, because pieces have no names.

    With `copies`, so many providers have every piece, and damage is done to all of them.
    """

    def __init__(self, cloud: OnchainStorage, copies: int) -> None:
        self.cloud = cloud
        self.copies = copies
        self.target = cloud.target(copies=copies, max_bytes=CAR_LIMIT)

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        block = dag.read(dag.layout.find(cid) or 0)
        for provider in self.cloud.providers.values():
            for piece, data in list(provider.pieces.items()):
                if not data.startswith(car.header(dag.layout.root)):
                    continue
                if kind is Damage.ALL_LOST:
                    del provider.pieces[piece]
                else:
                    provider.pieces[piece] = data.replace(block, bytes(len(block)))

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        theirs = self.cloud.target(copies=self.copies, max_bytes=CAR_LIMIT)
        theirs.publish(dag, "reconciler/other/model@1.0.0", QUIET)

    def serve(self, dag: Dag) -> Sequence[str]:
        raise AssertionError("providers fetch nothing by CID")

    def snapshot(self) -> object:
        sets = {
            number: tuple(found.pieces) if self.cloud.lab.fake else ()
            for number, found in (
                self.cloud.lab.fake.contracts.sets.items() if self.cloud.lab.fake is not None else ()
            )
        }
        return sets, {number: dict(each.pieces) for number, each in self.cloud.providers.items()}

    def make_unreachable(self) -> None:
        assert self.cloud.lab.fake is not None
        self.cloud.lab.fake.refuse = lambda _: Said(503, b"down", {"Content-Type": "text/plain"})


class FilecoinSuite(TargetSuite):
    seen_at: ClassVar[Mapping[Damage, Check]] = {
        Damage.CORRUPT_LEAF: Check.FULL,
        Damage.LOST_INNER: Check.FULL,
        Damage.ALL_LOST: Check.SAMPLE,
    }
    vague = frozenset({Damage.LOST_INNER})
    repair_slack = 1025 * 6
    copies: ClassVar[int] = 1

    @pytest.fixture
    def subject(self, cloud: OnchainStorage) -> FilecoinSubject:
        return FilecoinSubject(cloud, self.copies)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Leave out an empty directory: providers accept no piece of 100 bytes."""
        if "damage" in metafunc.fixturenames:
            metafunc.parametrize("damage", list(self.seen_at), ids=lambda kind: kind.name.lower())
        if "shape" in metafunc.fixturenames:
            metafunc.parametrize("shape", [shape for shape in SHAPES if shape != "empty directory"])


@pytest.mark.slow
class TestOneCopy(FilecoinSuite):
    pass


@pytest.mark.slow
class TestTwoCopies(FilecoinSuite):
    copies = 2


@pytest.mark.anvil
@pytest.mark.slow
class TestOnAnvil(FilecoinSuite):
    copies = 2
    test_an_unreachable_target_is_unknown_not_absent = None  # type: ignore[assignment]  # no way to hide anvil

    @pytest.fixture
    def cloud(self) -> Iterator[OnchainStorage]:
        with onchain_storage(anvil=True) as running:
            yield running
