"""Filecoin Onchain Cloud on a local chain, for tests: what its operators, providers and the clock do.

    with onchain_lab() as lab: ...          # the contracts in memory (fake_chain)
    with onchain_lab(anvil=True) as lab: ...  # OnchainCloud.sol on anvil

`lab.url` is the JSON-RPC address, `lab.service` the address of the storage service. KEYS[0] is the payer,
KEYS[1] and KEYS[2] are providers 1 and 2. Everything goes through JSON-RPC from unlocked accounts, so both
chains are driven in the same way; eth-abi encodes, so that nothing of the package under test takes part.
"""

from __future__ import annotations

import copy
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconciler.content.piece_cid import PieceCid
from tests.support.onchain.contracts import ADDRESSES, types_of
from tests.support.onchain.ethereum import Account, decode, encode, keccak
from tests.support.onchain.fake_chain import FakeChain, fake_chain

CHAIN_ID = 31415926  # the one that devnets of Filecoin Onchain Cloud use
#: the first accounts of anvil; everybody knows them
KEYS = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
)
OWNERS = tuple(str(Account.from_key(key).address).lower() for key in KEYS)
PAYER = OWNERS[0]
UNIT = 10**18
_ADD = "addPieces(uint256,address,(bytes)[],bytes)"
_NOBODY = "0x" + "00" * 20
NOWHERE = ("http://127.0.0.1:1/", "http://127.0.0.1:2/")  #: where no provider answers
_CODE = Path(__file__).with_name("OnchainCloud.hex")
_DEPOSIT = 10**17  # of FIL, for each data set


class LabError(Exception):
    """The chain refused a call of the lab; `data` is what the contract answered."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message")), error.get("data"))
        data = error.get("data")
        self.data = data if isinstance(data, str) else ""


@dataclass
class OnchainLab:
    """A chain with the contracts; `cloud` answers what only a test calls. `fake` is None on anvil."""

    url: str
    cloud: str
    service: str = ""
    endorsed: str = ""
    verifier: str = ""
    view: str = ""
    fake: FakeChain | None = None

    # --- JSON-RPC

    def rpc(self, method: str, *parameters: Any) -> Any:
        """Return the result of one call."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        if "error" in answer:
            raise LabError(answer["error"])
        return answer["result"]

    def read(self, to: str, signature: str, outputs: str, *arguments: Any) -> Any:
        """Call a function of a contract; one value is returned as it is, several as a tuple."""
        found = self.rpc("eth_call", {"to": to, "data": _call(signature, arguments)}, "latest")
        values = decode(types_of(f"({outputs})"), bytes.fromhex(found[2:]))
        return values[0] if len(values) == 1 else values

    def encoded(self, signature: str, *arguments: Any) -> str:
        """Return the data of a call."""
        return _call(signature, arguments)

    def send(self, sender: str, to: str, signature: str, *arguments: Any, value: int = 0) -> dict[str, Any]:
        """Send a transaction from an unlocked account, and return its receipt."""
        call = {"from": sender, "to": to, "data": _call(signature, arguments), "value": hex(value)}
        receipt = self.receipt(self.rpc("eth_sendTransaction", call | {"gas": hex(60_000_000)}))
        if receipt["status"] != "0x1":
            self.rpc("eth_call", call, "latest")
            raise LabError({"message": "reverted"})
        return dict(receipt)

    def receipt(self, digest: str) -> dict[str, Any]:
        """Wait for the receipt of a transaction."""
        while (found := self.rpc("eth_getTransactionReceipt", digest)) is None:
            time.sleep(0.01)
        return dict(found)

    def tell(self, signature: str, *arguments: Any) -> None:
        """Call a function that only a test has, such as `mint(address,uint256)`."""
        self.send(OWNERS[3], self.cloud, signature, *arguments)

    def snapshot(self) -> str:
        """Remember the state of anvil, for `revert`."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, name: str) -> None:
        """Return to a snapshot."""
        self.rpc("evm_revert", name)

    # --- the clock

    @property
    def head(self) -> int:
        """The newest epoch."""
        return int(self.rpc("eth_blockNumber"), 16)

    def mine(self, blocks: int = 1) -> None:
        """Let so many epochs pass."""
        self.rpc("anvil_mine", hex(blocks))

    def mine_to(self, epoch: int) -> None:
        """Let time pass until the newest epoch is `epoch`."""
        if epoch > self.head:
            self.mine(epoch - self.head)

    # --- a provider, by its number from 1

    def create_and_add(self, provider: int, extra: bytes, pieces: Sequence[PieceCid]) -> int:
        """Create a data set with pieces; return its id."""
        self._add(provider, 0, extra, pieces, _DEPOSIT)
        return self.newest_set()

    def create(self, provider: int, extra: bytes) -> int:
        """Create an empty data set; return its id."""
        arguments = (self.service, extra)
        self.send(OWNERS[provider], self.verifier, "createDataSet(address,bytes)", *arguments, value=_DEPOSIT)
        return self.newest_set()

    def add(self, provider: int, data_set: int, extra: bytes, pieces: Sequence[PieceCid]) -> None:
        """Add pieces to a data set."""
        self._add(provider, data_set, extra, pieces, 0)

    def _add(
        self, provider: int, data_set: int, extra: bytes, pieces: Sequence[PieceCid], value: int
    ) -> None:
        cids = [(bytes(piece),) for piece in pieces]
        listener = _NOBODY if data_set else self.service
        self.send(OWNERS[provider], self.verifier, _ADD, data_set, listener, cids, extra, value=value)

    def newest_set(self, payer: str = PAYER) -> int:
        """The id of the newest data set of a payer."""
        total = self.read(self.view, "getClientDataSetsLength(address)", "uint256", payer)
        signature = "clientDataSets(address,uint256,uint256)"
        return int(self.read(self.view, signature, "uint256[]", payer, total - 1, 1)[0])

    def next_period(self, provider: int, data_set: int) -> None:
        """Begin the next proving period."""
        activated = self.read(self.view, "provingActivationEpoch(uint256)", "uint256", data_set)
        if activated and self.read(self.view, "provingDeadline(uint256)", "uint256", data_set):
            challenge = self.read(self.view, "nextPDPChallengeWindowStart(uint256)", "uint256", data_set)
        else:
            period, window, *_ = self.read(self.view, "getPDPConfig()", "uint64,uint256,uint256,uint256")
            # this transaction is a block of its own
            challenge = self.head + 1 + period - window + (1 if activated else 0)
        self.send(
            OWNERS[provider],
            self.verifier,
            "nextProvingPeriod(uint256,uint256,bytes)",
            data_set,
            challenge,
            b"",
        )

    def prove(self, provider: int, data_set: int) -> None:
        """Wait for the challenge, and prove that the pieces are there."""
        challenge = self.read(self.verifier, "getNextChallengeEpoch(uint256)", "uint256", data_set)
        self.mine_to(challenge)
        proofs = [(bytes(32), [])] * 5
        signature = "provePossession(uint256,(bytes32,bytes32[])[])"
        self.send(OWNERS[provider], self.verifier, signature, data_set, proofs)

    def prove_period(self, provider: int, data_set: int) -> None:
        """Begin a period, and prove in it."""
        self.next_period(provider, data_set)
        self.prove(provider, data_set)

    def schedule_removals(self, provider: int, data_set: int, ids: Sequence[int], extra: bytes) -> None:
        """Schedule the removal of pieces."""
        signature = "schedulePieceDeletions(uint256,uint256[],bytes)"
        self.send(OWNERS[provider], self.verifier, signature, data_set, list(ids), extra)

    def terminate(self, provider: int, data_set: int, extra: bytes = b"") -> None:
        """End a data set: at once with the payer's consent in `extra`, in 30 days without."""
        self.send(OWNERS[provider], self.service, "terminateService(uint256,bytes)", data_set, extra)

    def delete(self, provider: int, data_set: int) -> None:
        """Delete a data set that has ended."""
        self.send(OWNERS[provider], self.verifier, "deleteDataSet(uint256,bytes)", data_set, b"")


def _call(signature: str, arguments: Sequence[Any]) -> str:
    return "0x" + (keccak(text=signature)[:4] + encode(types_of(signature), arguments)).hex()


def set_up(lab: OnchainLab, urls: Sequence[str] = NOWHERE) -> OnchainLab:
    """Find the contracts, register providers with these URLs, and give the payer a thousand USDFC."""
    lab.service, lab.endorsed = lab.read(lab.cloud, "doors()", "address,address")
    lab.verifier = lab.read(lab.service, "pdpVerifierAddress()", "address")
    lab.view = lab.read(lab.service, "viewContractAddress()", "address")
    for provider, (url, name) in enumerate(
        zip(urls, ("alpha", "beta", "gamma", "delta"), strict=False), start=1
    ):
        lab.tell("register(address,string,string)", OWNERS[provider], name, url)
    lab.tell("mint(address,uint256)", PAYER, 1000 * UNIT)
    return lab


def deployed_lab(environ: Mapping[str, str]) -> OnchainLab | None:
    """Return the deployment that ONCHAIN_RPC and ONCHAIN_SERVICE name; None without them.

    It is one of the real contracts on anvil, whose accounts are unlocked: the payer has tokens, providers 1
    and 2 are registered, the precompiles of Filecoin are replaced. What only a test calls is not there.
    """
    if not {"ONCHAIN_RPC", "ONCHAIN_SERVICE"} <= environ.keys():
        return None
    lab = OnchainLab(environ["ONCHAIN_RPC"], "", service=environ["ONCHAIN_SERVICE"].lower())
    lab.verifier = lab.read(lab.service, "pdpVerifierAddress()", "address")
    lab.view = lab.read(lab.service, "viewContractAddress()", "address")
    return lab


@contextmanager
def onchain_lab(*, anvil: bool = False, urls: Sequence[str] = NOWHERE, **fields: Any) -> Iterator[OnchainLab]:
    """Run the contracts on a chain of their own, with providers at `urls`; `fields`: those of FakeChain."""
    if anvil:
        with _anvil() as url:
            yield set_up(OnchainLab(url, _deploy(url)), urls)
        return
    with fake_chain(**fields) as node:
        yield set_up(OnchainLab(node.url, ADDRESSES["cloud"], fake=node), urls)


@contextmanager
def copied_lab(lab: OnchainLab) -> Iterator[OnchainLab]:
    """Run a copy of a chain in memory, which is faster than doing again what was done on it."""
    node = lab.fake
    assert node is not None
    with fake_chain(
        contracts=copy.deepcopy(node.contracts),
        times=list(node.times),
        nonces=dict(node.nonces),
        done=dict(node.done),
    ) as copied:
        yield replace(lab, url=copied.url, fake=copied)


@contextmanager
def _anvil() -> Iterator[str]:
    program = shutil.which("anvil")
    assert program is not None, "anvil is not on PATH"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    limits = ("--code-size-limit", "200000", "--gas-limit", "200000000")
    command = [program, "--port", str(port), "--chain-id", str(CHAIN_ID), *limits, "--silent"]
    with subprocess.Popen(command) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(200):
                try:
                    OnchainLab(url, "").rpc("eth_chainId")
                    break
                except OSError:
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()


def _deploy(url: str) -> str:
    lab = OnchainLab(url, "")
    code = "".join(_CODE.read_text().split())
    call = {"from": OWNERS[3], "data": "0x" + code, "gas": hex(100_000_000)}
    receipt = lab.receipt(lab.rpc("eth_sendTransaction", call))
    assert receipt["status"] == "0x1", receipt
    return str(receipt["contractAddress"])
