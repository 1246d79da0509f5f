"""TLS that fails in the middle: of an upload, of an addition, of a pull, and between two requests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.retry import RetryBudget
from reconciler.progress import QUIET
from reconciler.targets.interface import State
from tests.support.certificates import self_signed, server_context
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import large_file
from tests.support.tls_front import Cut, TlsFront, tls_front
from tests.targets.filecoin.test_publish_faults import assert_paid_once

LABEL = Label("reconciler/acme/model@1.0.0")
DAY = dt.timedelta(days=1)
UPLOAD, ADD, PULL, SERVE = (
    b"PUT /pdp/",
    b"POST /pdp/data-sets/create-and-add",
    b"/pdp/piece/pull",
    b"GET /piece/",
)


@pytest.fixture
def fronts(
    cloud: OnchainStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[int, TlsFront]]:
    """Providers 1 and 2 are reached through TLS, with a certificate that is trusted."""
    file = self_signed(tmp_path / "provider.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert cloud.lab.fake is not None
    with ExitStack() as stack:
        made = {}
        for number in (1, 2):
            front = stack.enter_context(tls_front(cloud.providers[number].url, server_context(file)))
            cloud.lab.fake.contracts.providers[number - 1]["url"] = front.url
            made[number] = front
        yield made


#: what is cut off: at provider 1 in one copy, at a provider in two copies
UPLOADS = {
    "in mid-upload": Cut(UPLOAD, after=70_000),
    "in mid-upload with a reset": Cut(UPLOAD, after=70_000, reset=True),
    "in mid-upload twice": Cut(UPLOAD, after=1),
    "the answer to an upload": Cut(UPLOAD, answer=True),
    "the answer to an addition": Cut(ADD, answer=True),
    "the answer to an addition in its middle": Cut(ADD, after=20, answer=True),
}
PULLS = {
    "the bytes of a pull": (1, Cut(SERVE, after=50_000, answer=True)),
    "a question about a pull": (2, Cut(PULL, skip=1)),
    "the answer about a pull": (2, Cut(PULL, answer=True)),
}
PLACES = {"at an upload": (1, UPLOAD), "at an addition": (1, ADD), "at a pull": (2, PULL)}


def first_of(cases: Mapping[str, object]) -> list[Any]:
    """The cases, of which all but the first are slow."""
    return [
        pytest.param(case, id=name, marks=pytest.mark.slow if number else ())
        for number, (name, case) in enumerate(cases.items())
    ]


@pytest.mark.parametrize("cut", first_of(UPLOADS))
def test_an_upload_that_is_cut_off_ends_in_the_same_run(
    cloud: OnchainStorage, fronts: dict[int, TlsFront], cut: Cut
) -> None:
    fronts[1].cuts += [cut] * (2 if cut.after == 1 else 1)
    target = cloud.target(providers=[1], budget=RetryBudget())
    assert target.publish(large_file("cut off"), LABEL, QUIET).state is State.HELD
    assert fronts[1].cuts == []
    assert_paid_once(cloud, 1, 1)


@pytest.mark.parametrize("pull", first_of(PULLS))
def test_a_pull_that_is_cut_off_ends_with_both_copies(
    cloud: OnchainStorage, fronts: dict[int, TlsFront], pull: tuple[int, Cut]
) -> None:
    number, cut = pull
    fronts[number].cuts.append(cut)
    target = cloud.target(copies=2, providers=[1, 2], budget=RetryBudget())
    assert target.publish(large_file("pulled"), LABEL, QUIET).state is State.HELD
    assert fronts[number].cuts == []
    assert_paid_once(cloud, 1)


@pytest.mark.parametrize("place", first_of(PLACES))
def test_a_certificate_that_expires_in_the_middle_is_named_and_nothing_is_sent_past_it(
    cloud: OnchainStorage, fronts: dict[int, TlsFront], tmp_path: Path, place: tuple[int, bytes]
) -> None:
    number, marker = place
    expired = self_signed(tmp_path / "expired.pem", since=-9 * DAY, until=-DAY)
    fronts[number].cuts.append(Cut(marker, renewed=server_context(expired)))
    dag = large_file("expires")
    target = cloud.target(copies=2, providers=[1, 2], budget=RetryBudget())
    with pytest.raises(PeerError, match=rf"provider {number} .*its certificate is refused"):
        target.publish(dag, LABEL, QUIET)
    assert not cloud.added[number]
    fronts[number].context = server_context(tmp_path / "provider.pem")
    assert cloud.target(copies=2, providers=[1, 2]).publish(dag, LABEL, QUIET).state is State.HELD
    assert_paid_once(cloud, 1)
