"""A payer on a local chain, with the package under test: views, signatures, deposits, and data sets with
pieces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from reconciler.content.piece_cid import PieceCid, capacity
from reconciler.deals.onchain import names
from reconciler.deals.onchain.health import judge_copy
from reconciler.deals.onchain.interface import CopyState, DataSetState, PieceCopy
from reconciler.deals.onchain.keys import SigningKey, load_key
from reconciler.deals.onchain.networks import open_nodes
from reconciler.deals.onchain.nodes import ChainNodes
from reconciler.deals.onchain.reader import ChainReader, ChainView
from reconciler.deals.onchain.signing import UploadSigner, create_and_add, service_domain
from reconciler.deals.onchain.wallet import Wallet, deposit_call
from reconciler.errors import Reason
from tests.support.onchain.ethereum import encode
from tests.support.onchain.lab import CHAIN_ID, KEYS, UNIT, OnchainLab

SUBJECT = "acme-models"
PERIOD, WINDOW = 24, 4  #: epochs, a tenth of those of the calibration network: blocks take time


def piece(number: int, height: int = 9, padding: int = 100) -> PieceCid:
    """A piece CID that differs for each `number`; no bytes have it."""
    root = bytearray(hashlib.sha256(f"piece {number}".encode()).digest())
    root[31] &= 0x3F
    return PieceCid(bytes(root), height, min(padding, capacity(height) - 1))


def pieces(count: int, first: int = 1) -> list[PieceCid]:
    """So many different pieces."""
    return [piece(number) for number in range(first, first + count)]


def options(lab: OnchainLab) -> dict[str, object]:
    """The keys of targets.yaml for this chain."""
    return {"network": "devnet", "rpc": lab.url, "contract": lab.service}


def key(number: int = 0) -> SigningKey:
    """One of the chain's rich accounts; number 0 is the payer."""
    return load_key("FILECOIN_KEY", {"FILECOIN_KEY": KEYS[number]})


def addition_number(data_set_name: int, wanted: Sequence[PieceCid], attempt: int = 0) -> int:
    """A number for adding pieces to a data set, which the contracts take once."""
    text = f"{data_set_name} {attempt} " + " ".join(map(str, wanted))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def removal_consent(signer: UploadSigner, client_id: int, piece_ids: Sequence[int]) -> bytes:
    """The `extraData` that lets a provider schedule the removal of pieces."""
    types = {"SchedulePieceRemovals": (("clientDataSetId", "uint256"), ("pieceIds", "uint256[]"))}
    message = {"clientDataSetId": client_id, "pieceIds": list(piece_ids)}
    return encode(["bytes"], [signer.key.sign_typed(signer.domain, types, message)])


def ending_consent(signer: UploadSigner, data_set: int) -> bytes:
    """The `extraData` that lets a provider end a data set, by its id on the chain, at once."""
    types = {"TerminateService": (("dataSetId", "uint256"),)}
    return encode(["bytes"], [signer.key.sign_typed(signer.domain, types, {"dataSetId": data_set})])


class Payer:
    """The payer of a lab, with 5 USDFC deposited and the service approved unless `funds` is 0."""

    def __init__(self, lab: OnchainLab, funds: int = 5 * UNIT) -> None:
        self.lab = lab
        if lab.cloud:
            lab.tell("configure(uint64,uint256)", PERIOD, WINDOW)
        self.key = key()
        self.nodes: ChainNodes = open_nodes(options(lab), {}, name="filecoin")
        self.reader = ChainReader(self.nodes)
        self.wallet = Wallet(self.nodes.first, CHAIN_ID, self.key, pause=lambda _: None)
        if funds:
            self.wallet.carry_out(deposit_call(self.view(), self.key, funds))

    def view(self) -> ChainView:
        """The contracts as of the newest block."""
        return self.reader.view()

    def signer(self, session: SigningKey | None = None) -> UploadSigner:
        """Signs for the payer, with its own key or a session key."""
        domain = service_domain(CHAIN_ID, self.nodes.network.service)
        return UploadSigner(self.key.address, session or self.key, domain)

    def set_name(self, provider: int, generation: int = 0) -> int:
        """The client's id of our data set with a provider."""
        return names.data_set_name(CHAIN_ID, self.key.address, provider, SUBJECT, generation)

    def create(
        self,
        provider: int,
        wanted: Sequence[PieceCid],
        generation: int = 0,
        metadata: Mapping[str, str] | None = None,
        session: SigningKey | None = None,
    ) -> int:
        """Let a provider create our data set with pieces; return its id."""
        signer, name = self.signer(session), self.set_name(provider, generation)
        (found,) = self.view().providers([provider]).values()
        assert not isinstance(found, Reason)
        create = signer.create_data_set(
            name, found.payee, {"source": "reconcile"} if metadata is None else metadata
        )
        add = signer.add_pieces(name, addition_number(name, wanted), wanted)
        return self.lab.create_and_add(provider, create_and_add(create, add), wanted)

    def add(self, provider: int, data_set: int, wanted: Sequence[PieceCid], attempt: int = 0) -> None:
        """Let a provider add pieces to our data set."""
        name = self.set_name(provider)
        extra = self.signer().add_pieces(name, addition_number(name, wanted, attempt), wanted)
        self.lab.add(provider, data_set, extra, wanted)

    def remove(self, provider: int, data_set: int, ids: Sequence[int]) -> None:
        """Let a provider schedule the removal of pieces."""
        extra = removal_consent(self.signer(), self.set_name(provider), ids)
        self.lab.schedule_removals(provider, data_set, ids, extra)

    def end_at_once(self, provider: int, data_set: int) -> None:
        """Let a provider end a data set with our consent."""
        self.lab.terminate(provider, data_set, ending_consent(self.signer(), data_set))

    def state(self, data_set: int) -> DataSetState | Reason:
        """What the chain says about a data set."""
        return self.view().data_sets([data_set])[data_set]

    def copy(self, data_set: int, wanted: PieceCid, recorded_id: int | None = None) -> PieceCopy:
        """The copy of a piece in a data set, as judged at the newest block."""
        view = self.view()
        return judge_copy(
            wanted,
            view.data_sets([data_set])[data_set],
            payer=self.key.address,
            service=view.contracts.service,
            head=view.block.number,
            period=view.proving.period,
            recorded_id=recorded_id,
        )

    def health(self, data_set: int, wanted: PieceCid) -> CopyState:
        """The state of that copy."""
        return self.copy(data_set, wanted).state

    def close(self) -> None:
        """Close connections."""
        self.nodes.close()
