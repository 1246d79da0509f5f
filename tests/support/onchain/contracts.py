"""The contracts of Filecoin Onchain Cloud in Python, for tests: the same functions as OnchainCloud.sol.

Each contract has its own address and answers only its own functions. Arguments and answers go through
eth-abi, signatures through eth-account, so that nothing of the package under test takes part. State is plain
data: a transaction works on a copy of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.onchain.ethereum import (
    Account,
    decode,
    encode,
    encode_typed_data,
    keccak,
    to_checksum_address,
)

MONTH = 86_400
ZERO = "0x" + "00" * 20
ROLES = ("service", "verifier", "view", "payments", "token", "registry", "sessions", "endorsed", "cloud")
ADDRESSES = {role: "0x" + f"{number:02x}" * 20 for number, role in enumerate(ROLES, start=0xC1)}
VERSIONS = {"service": "1.3.1", "verifier": "3.4.0", "payments": "1.0.0", "registry": "1.2.0"}
TOKEN_NAME = "USDFC stand-in"

_ENTRY = [{"name": "key", "type": "string"}, {"name": "value", "type": "string"}]
TYPES: dict[str, dict[str, list[dict[str, str]]]] = {
    "CreateDataSet": {
        "CreateDataSet": [
            {"name": "clientDataSetId", "type": "uint256"},
            {"name": "payee", "type": "address"},
            {"name": "metadata", "type": "MetadataEntry[]"},
        ],
        "MetadataEntry": _ENTRY,
    },
    "AddPieces": {
        "AddPieces": [
            {"name": "clientDataSetId", "type": "uint256"},
            {"name": "nonce", "type": "uint256"},
            {"name": "pieceData", "type": "Cid[]"},
            {"name": "pieceMetadata", "type": "PieceMetadata[]"},
        ],
        "Cid": [{"name": "data", "type": "bytes"}],
        "PieceMetadata": [
            {"name": "pieceIndex", "type": "uint256"},
            {"name": "metadata", "type": "MetadataEntry[]"},
        ],
        "MetadataEntry": _ENTRY,
    },
    "SchedulePieceRemovals": {
        "SchedulePieceRemovals": [
            {"name": "clientDataSetId", "type": "uint256"},
            {"name": "pieceIds", "type": "uint256[]"},
        ],
    },
    "TerminateService": {"TerminateService": [{"name": "dataSetId", "type": "uint256"}]},
    "Permit": {
        "Permit": [
            {"name": name, "type": kind}
            for name, kind in (
                ("owner", "address"),
                ("spender", "address"),
                ("value", "uint256"),
                ("nonce", "uint256"),
                ("deadline", "uint256"),
            )
        ]
    },
}
PERMISSIONS = {
    "CreateDataSet": "CreateDataSet(uint256 clientDataSetId,address payee,MetadataEntry[] metadata)"
    "MetadataEntry(string key,string value)",
    "AddPieces": "AddPieces(uint256 clientDataSetId,uint256 nonce,Cid[] pieceData,"
    "PieceMetadata[] pieceMetadata)Cid(bytes data)MetadataEntry(string key,string value)"
    "PieceMetadata(uint256 pieceIndex,MetadataEntry[] metadata)",
    "SchedulePieceRemovals": "SchedulePieceRemovals(uint256 clientDataSetId,uint256[] pieceIds)",
    "TerminateService": "TerminateService(uint256 dataSetId)",
}


class RevertedCallError(Exception):
    """A contract refuses; `data` is what it answers."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data.hex())
        self.data = data


def refuse(signature: str, *arguments: Any) -> RevertedCallError:
    """Make a refusal with one of the contracts' errors."""
    return RevertedCallError(keccak(text=signature)[:4] + encode(types_of(signature), arguments))


def require(condition: object, text: str) -> None:
    """Refuse with a text, as `require` of Solidity does, unless `condition` holds."""
    if not condition:
        raise refuse("Error(string)", text)


def types_of(signature: str) -> list[str]:
    """Return the types between the outer brackets of a signature, or of a list of types."""
    inner = signature[signature.index("(") + 1 : -1]
    found, depth, word = [], 0, ""
    for letter in inner:
        if letter == "," and not depth:
            found.append(word)
            word = ""
            continue
        depth += (letter == "(") - (letter == ")")
        word += letter
    return [*found, word] if word else found


@dataclass(frozen=True)
class Function:
    """A function of a contract: its implementation takes the caller, then its arguments."""

    run: Callable[..., Any]
    inputs: list[str]
    outputs: list[str]
    signature: str


FUNCTIONS: dict[tuple[str, bytes], Function] = {}


def function(
    role: str, signature: str, outputs: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a method of OnchainContracts as a function of the contract `role`."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        key = (role, keccak(text=signature)[:4])
        FUNCTIONS[key] = Function(run, types_of(signature), types_of(f"({outputs})"), signature)
        return run

    return register


@dataclass
class Money:
    """The account of a payer."""

    funds: int = 0
    lockup: int = 0
    rate: int = 0
    settled: int = 0


@dataclass
class Allowance:
    """What a payer allows the service."""

    approved: bool = False
    rate_allowance: int = 0
    lockup_allowance: int = 0
    rate_used: int = 0
    lockup_used: int = 0
    max_period: int = 0


@dataclass
class PieceSet:
    """One data set."""

    id: int
    payer: str
    payee: str
    provider: str
    provider_id: int
    client_id: int
    reserve: int
    keys: list[str]
    values: list[str]
    created: int
    rail: int = 0
    end: int = 0
    pending: int = 0
    live: bool = True
    listener: str = ADDRESSES["service"]
    pieces: list[bytes] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    removals: list[int] = field(default_factory=list)
    challenged: int = 0
    last_proven: int = 0
    next_challenge: int = 0
    activation: int = 0
    deadline: int = 0
    proven_now: bool = False
    rate: int = 0

    @property
    def leaf_count(self) -> int:
        """The leaves of all active pieces."""
        return sum(self.leaves)

    def active(self, start: int = 0) -> list[int]:
        """The ids of the active pieces, from `start` on."""
        return [number for number in range(start, len(self.pieces)) if self.leaves[number]]


@dataclass
class OnchainContracts:
    """All contracts; `number` and `timestamp` are those of the block that a call is executed in."""

    chain_id: int
    number: int = 0
    timestamp: int = 0
    period: int = 240
    window: int = 20
    versions: dict[str, str] = field(default_factory=lambda: dict(VERSIONS))
    rates: list[int] = field(default_factory=lambda: [25 * 10**17, 24 * 10**15, 7 * 10**18, 7 * 10**18])
    fees: list[int] = field(
        default_factory=lambda: [25 * 10**15, 5 * 10**14, 3 * 10**14, 2 * 10**15, 112 * 10**13]
    )
    lockups: list[int] = field(
        default_factory=lambda: [10**17, 5 * 10**15, MONTH, 7 * 10**17, 3 * 10**17, 14400]
    )
    sets: dict[int, PieceSet] = field(default_factory=dict)
    next_set: int = 1
    periods: set[tuple[int, int]] = field(default_factory=set)
    by_payer: dict[str, list[int]] = field(default_factory=dict)
    used: dict[tuple[str, int], int] = field(default_factory=dict)
    granted: dict[tuple[str, str, bytes], int] = field(default_factory=dict)
    money: dict[str, Money] = field(default_factory=dict)
    allowances: dict[str, Allowance] = field(default_factory=dict)
    permits: dict[str, int] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)
    providers: list[dict[str, Any]] = field(default_factory=list)
    endorsed: list[int] = field(default_factory=list)
    upgrade: tuple[str, int] = (ZERO, 0)
    paused: bool = False
    view: str = ADDRESSES["view"]

    def execute(self, sender: str, to: str, data: bytes) -> bytes:
        """Execute a call and return its answer; no bytes where there is no contract.

        Raises RevertedCallError when the contract refuses, also a function that it does not know.
        """
        role = next((name for name, address in ADDRESSES.items() if address == to.lower()), None)
        if to.lower() == self.view:
            role = "view"
        if role is None:
            return b""
        found = FUNCTIONS.get((role, data[:4])) or FUNCTIONS.get(("every", data[:4]))
        if found is None:
            raise RevertedCallError(b"")
        if found.signature in ("VERSION()", "become(string)"):
            sender = role
        answer = found.run(self, sender.lower(), *decode(found.inputs, data[4:]))
        values = answer if isinstance(answer, tuple) else () if answer is None else (answer,)
        return encode(found.outputs, values)

    # --- what only a test calls

    @function("every", "VERSION()", "string")
    def _version(self, role: str) -> str:
        if role not in self.versions:
            raise RevertedCallError(b"")
        return self.versions[role]

    @function("every", "paused()", "bool")
    def _paused(self, _: str) -> bool:
        return self.paused

    @function("every", "become(string)")
    def _become(self, role: str, version: str) -> None:
        self.versions[role] = version

    @function("cloud", "doors()", "address,address")
    def _doors(self, _: str) -> tuple[str, str]:
        return ADDRESSES["service"], ADDRESSES["endorsed"]

    @function("cloud", "moveView()")
    def _move_view(self, _: str) -> None:
        self.view = "0x" + "d1" * 20

    @function("cloud", "mint(address,uint256)")
    def _mint(self, _: str, to: str, amount: int) -> None:
        self.balances[to] = self.balances.get(to, 0) + amount

    @function("cloud", "announce(address,uint96)")
    def _announce(self, _: str, implementation: str, epoch: int) -> None:
        self.upgrade = (implementation, epoch)

    @function("cloud", "configure(uint64,uint256)")
    def _configure(self, _: str, period: int, window: int) -> None:
        self.period, self.window = period, window

    @function("cloud", "kill(uint256)")
    def _kill(self, _: str, number: int) -> None:
        self.sets[number].live = False
        self.sets[number].next_challenge = 2**256 - 1

    @function("cloud", "give(uint256,address)")
    def _give(self, _: str, number: int, payer: str) -> None:
        self.sets[number].payer = payer

    @function("cloud", "assign(uint256,address)")
    def _assign(self, _: str, number: int, listener: str) -> None:
        self.sets[number].listener = listener

    @function("cloud", "pause(bool)")
    def _pause(self, _: str, stopped: bool) -> None:
        self.paused = stopped

    @function("cloud", "endorse(uint256)")
    def _endorse(self, _: str, number: int) -> None:
        self.endorsed.append(number)

    @function("cloud", "retire(uint256)")
    def _retire(self, _: str, number: int) -> None:
        self.providers[number - 1]["active"] = False

    @function("cloud", "register(address,string,string)")
    def _register(self, _: str, provider: str, name: str, url: str) -> None:
        require(self._provider_id(provider) == 0, "Address already registered")
        self.providers.append({"address": provider, "name": name, "url": url, "active": True})

    # --- where things are

    @function("service", "viewContractAddress()", "address")
    def _view(self, _: str) -> str:
        return self.view

    @function("view", "nextUpgrade()", "address,uint96")
    def _next_upgrade(self, _: str) -> tuple[str, int]:
        return self.upgrade

    function("verifier", "nextUpgrade()", "address,uint96")(_next_upgrade)

    @function("endorsed", "getProviderIds()", "uint256[]")
    def _endorsed(self, _: str) -> list[int]:
        return self.endorsed

    @function("registry", "getAllActiveProviders(uint256,uint256)", "uint256[],bool")
    def _active_providers(self, _: str, offset: int, limit: int) -> tuple[list[int], bool]:
        active = [number for number, each in enumerate(self.providers, start=1) if each["active"]]
        return active[offset : offset + limit], offset + limit < len(active)

    @function("view", "getApprovedProviders(uint256,uint256)", "uint256[]")
    def _approved_providers(self, _: str, offset: int, limit: int) -> list[int]:
        return list(range(1, len(self.providers) + 1))[offset : offset + limit]

    @function("registry", "getProviderIdByAddress(address)", "uint256")
    def _id_by_address(self, _: str, provider: str) -> int:
        return self._provider_id(provider)

    @function(
        "registry",
        "getProviderWithProduct(uint256,uint8)",
        "(uint256,(address,address,string,string,bool),(uint8,string[],bool),bytes[])",
    )
    def _provider(self, _: str, number: int, product: int) -> tuple[Any, ...]:
        if not 0 < number <= len(self.providers):
            raise RevertedCallError(b"\x4e\x48\x7b\x71" + (0x32).to_bytes(32, "big"))
        found = self.providers[number - 1]
        info = (found["address"], found["address"], found["name"], "", found["active"])
        return ((number, info, (0, ["serviceURL"], True), [found["url"].encode()]),)

    def _provider_id(self, address: str) -> int:
        for number, each in enumerate(self.providers, start=1):
            if each["address"] == address:
                return number
        return 0

    # --- token, FilecoinPay

    @function("token", "name()", "string")
    def _name(self, _: str) -> str:
        return TOKEN_NAME

    @function("token", "version()", "string")
    def _token_version(self, _: str) -> str:
        return "1"

    @function("token", "nonces(address)", "uint256")
    def _permit_nonce(self, _: str, owner: str) -> int:
        return self.permits.get(owner, 0)

    @function("token", "balanceOf(address)", "uint256")
    def _balance(self, _: str, owner: str) -> int:
        return self.balances.get(owner, 0)

    @function(
        "payments",
        "depositWithPermitAndApproveOperator(address,address,uint256,uint256,uint8,bytes32,bytes32,address,uint256,"
        "uint256,uint256)",
    )
    def _deposit_with_permit(
        self, _: str, token: str, to: str, amount: int, deadline: int, *rest: Any
    ) -> None:
        v, r, s, operator, rate, lockup, period = rest
        require(operator == ADDRESSES["service"], "another operator")
        require(token == ADDRESSES["token"], "another token")
        if self.timestamp > deadline:
            raise refuse("ERC2612ExpiredSignature(uint256)", deadline)
        nonce = self.permits.get(to, 0)
        message = {
            "owner": to,
            "spender": ADDRESSES["payments"],
            "value": amount,
            "nonce": nonce,
            "deadline": deadline,
        }
        signer = self._signer("Permit", message, r + s + bytes((v,)), (TOKEN_NAME, "token"))
        if signer != to:
            raise refuse("ERC2612InvalidSigner(address,address)", signer, to)
        self.permits[to] = nonce + 1
        self._deposit(to, amount)
        self._approve(to, True, rate, lockup, period)

    @function("payments", "deposit(address,address,uint256)")
    def _plain_deposit(self, sender: str, token: str, to: str, amount: int) -> None:
        require(sender == to, "another owner")
        self._deposit(to, amount)

    @function("payments", "withdraw(address,uint256)")
    def _withdraw(self, sender: str, token: str, amount: int) -> None:
        account = self._settle(sender)
        if amount > account.funds - account.lockup:
            raise refuse("InsufficientUnlockedFunds(uint256,uint256)", account.funds - account.lockup, amount)
        account.funds -= amount
        self._mint("", sender, amount)

    @function("payments", "setOperatorApproval(address,address,bool,uint256,uint256,uint256)")
    def _set_approval(self, sender: str, token: str, operator: str, approved: bool, *rest: int) -> None:
        require(operator == ADDRESSES["service"], "another operator")
        self._approve(sender, approved, *rest)

    @function("payments", "accounts(address,address)", "uint256,uint256,uint256,uint256")
    def _accounts(self, _: str, token: str, owner: str) -> tuple[int, ...]:
        account = self.money.get(owner, Money())
        return account.funds, account.lockup, account.rate, account.settled

    @function("payments", "getAccountInfoIfSettled(address,address)", "uint256,uint256,uint256,uint256")
    def _info_if_settled(self, _: str, token: str, owner: str) -> tuple[int, ...]:
        account = self.money.get(owner, Money())
        until = self._funded_until(account)
        locked = account.lockup + account.rate * (min(until, self.number) - account.settled)
        return until, account.funds, account.funds - locked, account.rate

    @function(
        "payments",
        "operatorApprovals(address,address,address)",
        "bool,uint256,uint256,uint256,uint256,uint256",
    )
    def _approvals(self, _: str, token: str, owner: str, operator: str) -> tuple[Any, ...]:
        found = self.allowances.get(owner, Allowance())
        numbers = (found.rate_allowance, found.lockup_allowance, found.rate_used, found.lockup_used)
        return (found.approved, *numbers, found.max_period)

    @function(
        "payments",
        "getRail(uint256)",
        "(address,address,address,address,address,uint256,uint256,uint256,uint256,uint256,uint256,address)",
    )
    def _get_rail(self, _: str, rail: int) -> tuple[Any, ...]:
        found = self.sets.get(rail)
        require(found is not None and found.rail, "RailInactiveOrSettled")
        assert found is not None
        parties = (ADDRESSES["token"], found.payer, found.payee, ADDRESSES["service"], ADDRESSES["service"])
        period = 0 if found.end and not found.reserve else MONTH
        return (
            (*parties, found.rate, period, found.reserve, found.created, found.end, 0, ADDRESSES["service"]),
        )

    def _deposit(self, to: str, amount: int) -> None:
        balance = self.balances.get(to, 0)
        if balance < amount:
            raise refuse("ERC20InsufficientBalance(address,uint256,uint256)", to, balance, amount)
        self.balances[to] = balance - amount
        self._settle(to).funds += amount

    def _approve(self, owner: str, approved: bool, rate: int, lockup: int, period: int) -> None:
        found = self.allowances.setdefault(owner, Allowance())
        found.approved, found.rate_allowance, found.lockup_allowance = approved, rate, lockup
        found.max_period = period

    def _funded_until(self, account: Money) -> int:
        return (
            account.settled + (account.funds - account.lockup) // account.rate if account.rate else 2**256 - 1
        )

    def _settle(self, owner: str) -> Money:
        account = self.money.setdefault(owner, Money())
        at = min(self._funded_until(account), self.number)
        account.lockup += account.rate * (at - account.settled)
        account.settled = at
        return account

    def _charge(self, found: PieceSet, rate: int, fee: int) -> None:
        account = self._settle(found.payer)
        if account.settled < self.number and rate != found.rate:
            raise refuse(
                "LockupNotSettledRateChangeNotAllowed(uint256,address,bool,uint256,uint256)",
                *(found.id, found.payer, False, found.rate, rate),
            )
        target, threshold = self.lockups[:2]
        more, reserve = rate * MONTH, found.reserve
        if not found.end and reserve < fee + threshold:
            more += target + fee - reserve
            reserve = target + fee
        fee = min(fee, reserve)
        self._lock(found.payer, found.rate, rate, found.rate * MONTH, more)
        account.funds -= fee
        account.lockup -= fee
        allowance = self.allowances[found.payer]
        allowance.lockup_used -= fee
        allowance.lockup_allowance = max(0, allowance.lockup_allowance - fee)
        found.rate, found.reserve = rate, reserve - fee

    def _lock(self, payer: str, old_rate: int, rate: int, less: int, more: int) -> None:
        account, allowance = self.money[payer], self.allowances[payer]
        free = account.funds - account.lockup
        if more - less > free:
            raise refuse("InsufficientLockupFunds(address,uint256,uint256)", payer, more - less, free)
        account.lockup += more - less
        account.rate += rate - old_rate
        allowance.lockup_used += more - less
        allowance.rate_used += rate - old_rate
        if allowance.rate_used > allowance.rate_allowance:
            pair = (allowance.rate_allowance, allowance.rate_used)
            raise refuse("OperatorRateAllowanceExceeded(uint256,uint256)", *pair)
        if allowance.lockup_used > allowance.lockup_allowance:
            pair = (allowance.lockup_allowance, allowance.lockup_used)
            raise refuse("OperatorLockupAllowanceExceeded(uint256,uint256)", *pair)

    def _rate(self, leaves: int) -> int:
        if not leaves:
            return 0
        return (leaves * 32 * 127 // 128) * self.rates[0] // ((1 << 40) * MONTH) + self.rates[1] // MONTH

    # --- session keys, signatures

    @function("sessions", "login(address,uint256,bytes32[],string)")
    def _login(self, sender: str, signer: str, expiry: int, permissions: list[bytes], origin: str) -> None:
        self.granted |= {(sender, signer, each): expiry for each in permissions}

    @function("sessions", "revoke(address,bytes32[],string)")
    def _revoke(self, sender: str, signer: str, permissions: list[bytes], origin: str) -> None:
        self.granted |= {(sender, signer, each): 0 for each in permissions}

    @function("sessions", "authorizationExpiry(address,address,bytes32)", "uint256")
    def _expiry(self, _: str, owner: str, signer: str, permission: bytes) -> int:
        return self.granted.get((owner, signer, permission), 0)

    def _signer(
        self, primary: str, message: dict[str, Any], signature: bytes, domain: tuple[str, str]
    ) -> str:
        name, contract = domain
        require(len(signature) == 65, "InvalidSignatureLength")
        if signature[64] < 27:
            signature = signature[:64] + bytes((signature[64] + 27,))
        data = {
            "name": name,
            "version": "1",
            "chainId": self.chain_id,
            "verifyingContract": ADDRESSES[contract],
        }
        typed = encode_typed_data(domain_data=data, message_types=TYPES[primary], message_data=message)
        try:
            return str(Account.recover_message(typed, signature=signature)).lower()
        except Exception:
            return ZERO

    def _check(self, payer: str, primary: str, message: dict[str, Any], signature: bytes) -> str:
        who = self._signer(primary, message, signature, ("FilecoinWarmStorageService", "service"))
        permission = keccak(text=PERMISSIONS[primary])
        if who != payer and self.granted.get((payer, who, permission), 0) < self.timestamp:
            raise refuse("InvalidSignature(address,address)", payer, who)
        return who

    # --- the life of a data set: the provider's calls

    @function("verifier", "createDataSet(address,bytes)", "uint256")
    def _create_data_set(self, sender: str, listener: str, extra: bytes) -> int:
        return self._create(sender, listener, extra)

    @function("verifier", "addPieces(uint256,address,(bytes)[],bytes)", "uint256")
    def _add_pieces(self, sender: str, number: int, listener: str, pieces: list[Any], extra: bytes) -> int:
        cids = [bytes(piece[0]) for piece in pieces]
        if number:
            require(listener == ZERO, "listener must be zero for existing dataset")
            return self._add(sender, number, cids, extra)
        create, add = decode(["bytes", "bytes"], extra)
        number = self._create(sender, listener, create)
        if cids:
            self._add(sender, number, cids, add)
        return number

    def _create(self, sender: str, listener: str, extra: bytes) -> int:
        if self.paused:
            raise refuse("EnforcedPause()")
        require(listener == ADDRESSES["service"], "CleanupDepositRequired")
        payer, client_id, keys, values, signature = decode(
            ["address", "uint256", "string[]", "string[]", "bytes"], extra
        )
        provider_id = self._provider_id(sender)
        if not provider_id:
            raise refuse("ProviderNotRegistered(address)", sender)
        if self.used.get((payer, client_id)):
            raise refuse("ClientDataSetAlreadyRegistered(uint256)", client_id)
        message = {"clientDataSetId": client_id, "payee": sender, "metadata": _entries(keys, values)}
        self._check(payer, "CreateDataSet", message, signature)
        if not self.allowances.get(payer, Allowance()).approved:
            raise refuse("OperatorNotApproved(address,address)", payer, ADDRESSES["service"])
        account = self._settle(payer)
        target, free = self.lockups[0], account.funds - account.lockup
        need = self.rates[1] + target
        if free < need:
            raise refuse("InsufficientLockupFunds(address,uint256,uint256)", payer, need, free)
        number = self.next_set
        self.next_set += 1
        found = PieceSet(
            number,
            payer,
            sender,
            sender,
            provider_id,
            client_id,
            target,
            list(keys),
            list(values),
            self.number,
        )
        found.rail, found.pending, found.last_proven = number, self.fees[0], self.number
        self.sets[number] = found
        self._lock(payer, 0, 0, 0, target)
        self.used[payer, client_id] = number
        self.by_payer.setdefault(payer, []).append(number)
        return number

    def _add(self, sender: str, number: int, cids: list[bytes], extra: bytes) -> int:
        found = self._live(number)
        require(found.provider == sender, "Only the storage provider can add pieces")
        if found.end:
            raise refuse("DataSetPaymentAlreadyTerminated(uint256)", number)
        nonce, keys, values, signature = decode(["uint256", "string[][]", "string[][]", "bytes"], extra)
        if self.used.get((found.payer, nonce)):
            raise refuse("ClientDataSetAlreadyRegistered(uint256)", nonce)
        require(len(keys) == len(values) == len(cids), "MetadataArrayCountMismatch")
        message = {
            "clientDataSetId": found.client_id,
            "nonce": nonce,
            "pieceData": [{"data": cid} for cid in cids],
            "pieceMetadata": [
                {"pieceIndex": index, "metadata": _entries(*pair)}
                for index, pair in enumerate(zip(keys, values, strict=True))
            ],
        }
        self._check(found.payer, "AddPieces", message, signature)
        first = len(found.pieces)
        self.used[found.payer, nonce] = (first + len(cids)) << 128 | number
        found.pieces += cids
        found.leaves += [_leaves(cid) for cid in cids]
        fee = found.pending + self.fees[1] + len(cids) * self.fees[2]
        found.pending = 0
        self._charge(found, self._rate(found.leaf_count), fee)
        return first

    @function("verifier", "schedulePieceDeletions(uint256,uint256[],bytes)")
    def _schedule(self, sender: str, number: int, ids: list[int], extra: bytes) -> None:
        found = self._live(number)
        require(found.provider == sender, "Only the storage provider can schedule removal of pieces")
        message = {"clientDataSetId": found.client_id, "pieceIds": list(ids)}
        self._check(found.payer, "SchedulePieceRemovals", message, decode(["bytes"], extra)[0])
        for each in ids:
            live = each < len(found.pieces) and found.leaves[each]
            require(live, "Can only schedule removal of live pieces")
            require(each not in found.removals, "Piece ID already scheduled for removal")
            found.removals.append(each)
        found.pending += self.fees[3]

    @function("verifier", "nextProvingPeriod(uint256,uint256,bytes)")
    def _next_period(self, sender: str, number: int, challenge: int, _: bytes) -> None:
        found = self._live(number)
        mine = found.provider == sender and found.leaf_count
        require(mine, "can only start proving once leaves are added")
        if found.end and self.number > found.end:
            raise refuse(
                "DataSetPaymentBeyondEndEpoch(uint256,uint256,uint256)", number, found.end, self.number
            )
        for each in found.removals:
            found.leaves[each] = 0
        found.removals = []
        if found.activation:
            skipped = (
                0 if self.number <= found.deadline else (self.number - found.deadline - 1) // self.period
            )
            deadline = found.deadline + self.period * (skipped + 1)
        else:
            found.activation = self.number
            deadline = self.number + self.period
        if not deadline - self.window <= challenge <= deadline:
            span = (deadline - self.window, deadline, challenge)
            raise refuse("InvalidChallengeEpoch(uint256,uint256,uint256,uint256)", number, *span)
        empty = not found.leaf_count
        found.challenged, found.proven_now = found.leaf_count, False
        found.deadline, found.next_challenge = (0, 0) if empty else (deadline, challenge)
        fee, found.pending = found.pending, 0
        self._charge(found, self._rate(found.leaf_count), fee)

    @function("verifier", "provePossession(uint256,(bytes32,bytes32[])[])")
    def _prove(self, sender: str, number: int, proofs: list[Any]) -> None:
        found = self._live(number)
        mine = found.provider == sender and len(proofs) == 5
        require(mine, "Only the storage provider can prove possession")
        due = found.next_challenge and found.next_challenge <= self.number <= found.deadline
        require(due and not found.proven_now, "premature proof")
        found.proven_now, found.last_proven = True, self.number
        self.periods.add((number, (self.number - found.activation - 1) // self.period))

    @function("service", "terminateService(uint256)")
    def _terminate_directly(self, sender: str, number: int) -> None:
        self._terminate(sender, number, b"")

    @function("service", "terminateService(uint256,bytes)")
    def _terminate_signed(self, sender: str, number: int, extra: bytes) -> None:
        if extra and number in self.sets:
            signature = decode(["bytes"], extra)[0]
            self._check(self.sets[number].payer, "TerminateService", {"dataSetId": number}, signature)
        self._terminate(sender, number, extra)

    def _terminate(self, sender: str, number: int, consent: bytes) -> None:
        found = self.sets.get(number)
        allowed = found is not None and found.rail and sender in (found.payer, found.provider)
        require(allowed, "CallerNotPayerOrPayee")
        assert found is not None
        if found.end:
            raise refuse("DataSetPaymentAlreadyTerminated(uint256)", number)
        account = self._settle(found.payer)
        found.end = account.settled + (0 if consent else MONTH)
        freed = 0
        if consent:
            freed = found.rate * MONTH + found.reserve
            account.funds -= self.fees[4]
            found.reserve = 0
        self._lock(found.payer, found.rate, 0, freed, 0)

    @function("verifier", "deleteDataSet(uint256,bytes)")
    def _delete(self, _: str, number: int, extra: bytes) -> None:
        found = self._live(number)
        over = self.number >= found.end if found.end else self.number > found.last_proven + MONTH
        require(over, "PaymentRailsNotFinalized")
        self.by_payer[found.payer].remove(number)
        gone = PieceSet(number, ZERO, ZERO, ZERO, 0, 0, 0, [], [], 0, live=False)
        gone.next_challenge = 2**256 - 1
        self.sets[number] = gone

    # --- reading

    def _live(self, number: int) -> PieceSet:
        found = self.sets.get(number)
        if found is None or not found.live:
            raise refuse("DataSetNotLive()")
        return found

    @function(
        "view",
        "getDataSet(uint256)",
        "uint256,uint256,uint256,address,address,address,uint256,uint256,uint256,uint256,uint96,uint96,uint256",
    )
    def _data_set(self, _: str, number: int) -> tuple[Any, ...]:
        found = self.sets.get(number)
        if found is None or not found.rail:
            return (0, 0, 0, ZERO, ZERO, ZERO, 0, 0, 0, 0, 0, 0, number)
        parties = (found.payer, found.payee, found.provider, 0, found.client_id, found.end, found.provider_id)
        return (found.rail, 0, 0, *parties, found.pending, found.reserve, number)

    @function("view", "getAllDataSetMetadata(uint256)", "string[],string[]")
    def _metadata(self, _: str, number: int) -> tuple[list[str], list[str]]:
        found = self.sets.get(number)
        return ([], []) if found is None else (found.keys, found.values)

    @function("view", "clientDataSets(address,uint256,uint256)", "uint256[]")
    def _client_data_sets(self, _: str, payer: str, offset: int, limit: int) -> list[int]:
        return self.by_payer.get(payer, [])[offset : offset + limit]

    @function("view", "getClientDataSetsLength(address)", "uint256")
    def _client_data_sets_length(self, _: str, payer: str) -> int:
        return len(self.by_payer.get(payer, []))

    @function("view", "clientNonces(address,uint256)", "uint256")
    def _client_nonce(self, _: str, payer: str, nonce: int) -> int:
        return self.used.get((payer, nonce), 0)

    @function("view", "getPriceList()", "address," + ",".join(["uint256"] * 15))
    def _prices(self, _: str) -> tuple[Any, ...]:
        return (ADDRESSES["token"], *self.rates, *self.fees, *self.lockups)

    @function("view", "getPDPConfig()", "uint64,uint256,uint256,uint256")
    def _config(self, _: str) -> tuple[int, ...]:
        return self.period, self.window, 5, self.number + self.period - self.window

    @function("view", "nextPDPChallengeWindowStart(uint256)", "uint256")
    def _next_window(self, _: str, number: int) -> int:
        found = self.sets[number]
        if not found.deadline:
            raise refuse("ProvingPeriodNotInitialized(uint256)", number)
        skipped = 0 if self.number <= found.deadline else (self.number - found.deadline - 1) // self.period
        return found.deadline + self.period * (skipped + 1) - self.window

    @function("view", "provenPeriods(uint256,uint256)", "bool")
    def _proven_period(self, _: str, number: int, period: int) -> bool:
        return (number, period) in self.periods

    @function("verifier", "dataSetLive(uint256)", "bool")
    def _is_live(self, _: str, number: int) -> bool:
        return number in self.sets and self.sets[number].live

    @function("verifier", "getActivePiecesByCursor(uint256,uint256,uint256)", "(bytes)[],uint256[],bool")
    def _pieces(self, _: str, number: int, start: int, limit: int) -> tuple[Any, ...]:
        found = self._live(number)
        require(limit, "Limit must be greater than 0")
        ids = found.active(start)
        page = ids[:limit]
        return [(found.pieces[each],) for each in page], page, len(ids) > limit

    @function("verifier", "getActivePieceCount(uint256)", "uint256")
    def _piece_count(self, _: str, number: int) -> int:
        return len(self._live(number).active())

    @function("verifier", "getNextPieceId(uint256)", "uint256")
    def _next_piece(self, _: str, number: int) -> int:
        return len(self._live(number).pieces)


def _simple(role: str, signature: str, kind: str, read: Callable[[OnchainContracts, Any], Any]) -> None:
    function(role, signature, kind)(lambda contracts, _, *arguments: read(contracts, *arguments))


for _name, _role in (
    ("pdpVerifierAddress", "verifier"),
    ("paymentsContractAddress", "payments"),
    ("usdfcTokenAddress", "token"),
    ("serviceProviderRegistry", "registry"),
    ("sessionKeyRegistry", "sessions"),
):
    _simple("service", f"{_name}()", "address", lambda _, role=_role: ADDRESSES[role])
for _name, _kind, _attribute in (
    ("provingActivationEpoch", "uint256", "activation"),
    ("provingDeadline", "uint256", "deadline"),
    ("provenThisPeriod", "bool", "proven_now"),
):
    _simple(
        "view",
        f"{_name}(uint256)",
        _kind,
        lambda contracts, number, name=_attribute, kind=_kind: (
            getattr(contracts.sets.get(number), name, 0) or (False if kind == "bool" else 0)
        ),
    )
for _name, _kind, _attribute in (
    ("getDataSetListener", "address", "listener"),
    ("getDataSetLeafCount", "uint256", "leaf_count"),
    ("getChallengeRange", "uint256", "challenged"),
    ("getScheduledRemovals", "uint256[]", "removals"),
    ("getDataSetLastProvenEpoch", "uint256", "last_proven"),
    ("getNextChallengeEpoch", "uint256", "next_challenge"),
):
    _simple(
        "verifier",
        f"{_name}(uint256)",
        _kind,
        lambda contracts, number, name=_attribute: getattr(contracts._live(number), name),
    )


def _entries(keys: Any, values: Any) -> list[dict[str, str]]:
    require(len(keys) == len(values), "MetadataKeyAndValueLengthMismatch")
    return [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]


def _leaves(cid: bytes) -> int:
    """The leaves of a piece that hold data, from its binary v2 CID."""
    require(cid[:4] == b"\x01\x55\x91\x20", "Cid must be CommPv2")
    padding = shift = 0
    at = 5
    while True:
        padding |= (cid[at] & 127) << shift
        shift += 7
        at += 1
        if cid[at - 1] < 128:
            break
    return (1 << cid[at]) - ((128 * padding // 127) >> 5)


def checksummed(address: str) -> str:
    """Return an address as receipts and transactions write it."""
    return str(to_checksum_address(address))
