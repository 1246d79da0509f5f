"""The real contracts of Filecoin Onchain Cloud on anvil, from their published sources, for one command.

    python -m tests.support.onchain.real_contracts SCRATCH python -m pytest tests/deals tests/targets/filecoin

SCRATCH gets the sources at the commits below (git), the compiler and the libraries (npm), and what the
compiler makes of them; a second run uses these again. The command finds the deployment in ONCHAIN_RPC and
ONCHAIN_SERVICE (`lab.deployed_lab`). Three precompiles of Filecoin are replaced: both calls of an actor
succeed and move nothing, and the random number of an epoch is the epoch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.onchain.compile import run_compiler
from tests.support.onchain.contracts import types_of
from tests.support.onchain.ethereum import encode
from tests.support.onchain.lab import NOWHERE, OWNERS, PAYER, UNIT, OnchainLab, run_anvil

SOURCES = {
    "services": ("FilOzone/filecoin-services", "a16aea49d53781669711fa7deb72e820b5e56ff9"),
    "pdp": ("FilOzone/pdp", "8f5821a76f4d6eb1ea80fab919771cfa628c4bc4"),
    "pay": ("FilOzone/filecoin-pay", "f0a40fe287ecb08c2c20b828bdbadd2437988bba"),
    "sessions": ("FilOzone/SessionKeyRegistry", "74fc4e94500859709a97b1c64981cfae52f9bdfe"),
    "fvm": ("filecoin-project/fvm-solidity", "346eccf2f4daf5ad2aaab3d576f5c5d8955199f7"),
}
PACKAGES = (
    "solc@0.8.30",
    "@openzeppelin/contracts@5.4.0",
    "@openzeppelin/contracts-upgradeable@5.4.0",
    "@prb/math@4.1.0",
)
_SERVICES = "services/service_contracts/src"
REMAPPINGS = (
    "@pdp/=pdp/src/",
    "@fws-payments/=pay/src/",
    "@session-key-registry/=sessions/src/",
    "@fvm-solidity/=fvm/src/",
    "fvm-solidity/=fvm/src/",
    "@prb-math/=node_modules/@prb/math/src/",
    "@openzeppelin/=node_modules/@openzeppelin/",
)
PROXY = "node_modules/@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol"
TOKEN = """\
// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;
import {ERC20, ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
contract Token is ERC20Permit {
    constructor() ERC20("USDFC stand-in", "USDFC") ERC20Permit("USDFC stand-in") { _mint(msg.sender, 1e24); }
}
"""
#: address: code that returns 256 zero bytes, which is success, or its first argument
PRECOMPILES = {
    "0xfe00000000000000000000000000000000000003": "0x6101006000f3",
    "0xfe00000000000000000000000000000000000005": "0x6101006000f3",
    "0xfe00000000000000000000000000000000000006": "0x60003560005260206000f3",
}
_PERIOD, _WINDOW = 240, 20  # epochs, as on the calibration network
_SOME = "0x" + "11" * 20  # accounts that play no part
_GAS = 150_000_000
_PROVIDER = {
    "serviceURL": b"",
    "minPieceSizeInBytes": (127).to_bytes(32, "big"),
    "maxPieceSizeInBytes": (1 << 30).to_bytes(32, "big"),
    "storagePricePerTibPerDay": UNIT.to_bytes(32, "big"),
    "minProvingPeriodInEpochs": _PERIOD.to_bytes(32, "big"),
    "location": b"Test",
    "paymentTokenAddress": bytes(20),
}


# -- compiling -----------------------------------------------------------------------------------------------


def compiled(scratch: Path) -> dict[str, Any]:
    """Return the creation code of all contracts by name, made in `scratch` where it is not there yet."""
    made = scratch / "contracts.json"
    if not made.exists():
        for name, (repository, commit) in SOURCES.items():
            _check_out(scratch / name, f"https://github.com/{repository}", commit)
        npm = ["npm", "install", "--prefix", scratch, "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run([*npm, *PACKAGES], check=True)
        made.write_text(json.dumps(_compile(scratch)))
    return dict(json.loads(made.read_text()))


def _check_out(place: Path, url: str, commit: str) -> None:
    if place.exists():
        return
    git = ["git", "-C", place]
    place.mkdir(parents=True)
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "fetch", "--quiet", "--depth=1", url, commit], check=True)
    subprocess.run([*git, "checkout", "--quiet", "FETCH_HEAD"], check=True)


def _compile(scratch: Path) -> dict[str, Any]:
    wanted = [
        *(f"{_SERVICES}/{name}.sol" for name in ("ServiceProviderRegistry", "ProviderIdSet")),
        *(f"{_SERVICES}/FilecoinWarmStorageService{name}.sol" for name in ("", "StateView")),
        "pdp/src/PDPVerifier.sol",
        "pay/src/FilecoinPayV1.sol",
        "sessions/src/SessionKeyRegistry.sol",
        PROXY,
    ]
    task = {
        "language": "Solidity",
        "sources": {
            "Token.sol": {"content": TOKEN},
            **{path: {"content": (scratch / path).read_text()} for path in wanted},
        },
        "settings": {
            "viaIR": True,
            "optimizer": {"enabled": True, "runs": 200},
            "metadata": {"bytecodeHash": "none"},
            "remappings": list(REMAPPINGS),
            "outputSelection": {"*": {"*": ["evm.bytecode.object", "evm.bytecode.linkReferences"]}},
        },
    }
    answer = run_compiler(scratch, task)
    return {
        name: contract["evm"]["bytecode"] | {"file": path}
        for path, found in answer["contracts"].items()
        for name, contract in found.items()
        if contract["evm"]["bytecode"]["object"]
    }


# -- deploying -----------------------------------------------------------------------------------------------


class Deployer:
    """The deployment of `contracts` on the chain of `lab`, by its third owner."""

    def __init__(self, lab: OnchainLab, contracts: dict[str, Any]) -> None:
        self.lab = lab
        self.contracts = contracts
        self.made: dict[str, str] = {}

    def deploy(self, name: str, types: str = "", *arguments: Any) -> str:
        """Deploy a contract, after the libraries that it calls; return its address."""
        bytecode = self.contracts[name]
        code = bytecode["object"]
        for places in bytecode["linkReferences"].values():
            for library, spans in places.items():
                address = (self.made.get(library) or self.deploy(library))[2:]
                for span in spans:
                    at = 2 * span["start"]
                    code = code[:at] + address + code[at + 40 :]
        data = "0x" + code + encode(types_of(f"({types})"), arguments).hex()
        call = {"from": OWNERS[3], "data": data, "gas": hex(_GAS)}
        receipt = self.lab.receipt(self.lab.rpc("eth_sendTransaction", call))
        assert receipt["status"] == "0x1", name
        self.made[name] = str(receipt["contractAddress"])
        return self.made[name]

    def proxy(self, name: str, signature: str, *initial: Any) -> str:
        """Deploy a proxy of the implementation `name`, which is initialized by the call given."""
        data = bytes.fromhex(self.lab.encoded(signature, *initial)[2:])
        return self.deploy("ERC1967Proxy", "address,bytes", self.made[name], data)

    def send(self, to: str, signature: str, *arguments: Any) -> None:
        self.lab.send(OWNERS[3], to, signature, *arguments)


def deploy(lab: OnchainLab, contracts: dict[str, Any], urls: Sequence[str] = NOWHERE) -> str:
    """Deploy all contracts, register providers, give the payer tokens; return the address of the service."""
    chain = Deployer(lab, contracts)
    for address, code in PRECOMPILES.items():
        lab.rpc("anvil_setCode", address, code)
    token, payments = chain.deploy("Token"), chain.deploy("FilecoinPayV1")
    sessions = chain.deploy("SessionKeyRegistry")
    chain.deploy("PDPVerifier", "uint64,uint256", 1, 2)
    verifier = chain.proxy("PDPVerifier", "initialize()")
    chain.deploy("ServiceProviderRegistry", "uint64", 1)
    registry = chain.proxy("ServiceProviderRegistry", "initialize()")
    chain.deploy(
        "FilecoinWarmStorageService",
        "address,address,address,address,address,address,uint64",
        *(verifier, payments, token, _SOME, registry, sessions, 1),
    )
    periods = (_PERIOD, _WINDOW, _SOME)
    service = chain.proxy("FilecoinWarmStorageService", "initialize(uint64,uint256,address)", *periods)
    view = chain.deploy("FilecoinWarmStorageServiceStateView", "address", service)
    chain.send(service, "setViewContract(address)", view)
    register = "registerProvider(address,string,string,uint8,string[],bytes[])"
    for number, url in enumerate(urls, start=1):
        values = _PROVIDER | {"serviceURL": url.encode()}
        named = (OWNERS[number], f"provider {number}", "", 0, list(values), list(values.values()))
        lab.send(OWNERS[number], registry, register, *named, value=5 * UNIT)
        chain.send(service, "addApprovedProvider(uint256)", number)
    chain.send(token, "transfer(address,uint256)", PAYER, 1000 * UNIT)
    return service


def main(scratch: Path, command: Sequence[str]) -> int:
    """Run `command` with a deployment of its own; return its exit code."""
    contracts = compiled(scratch.absolute())
    with run_anvil() as url:
        service = deploy(OnchainLab(url, ""), contracts)
        environ = os.environ | {"ONCHAIN_RPC": url, "ONCHAIN_SERVICE": service}
        return subprocess.run(command, env=environ, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
