// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

// A stand-in, for tests, for every contract that a client of Filecoin Onchain Cloud talks to: the storage service
// and its state view, PDPVerifier, FilecoinPay, the registries of providers and of session keys, and the token.
// Signatures of functions, events, errors and typed data follow the public ABIs (service 1.3.1, PDPVerifier 3.4);
// what they do is the least that makes money, nonces, signatures, proving periods and endings behave. Merkle proofs
// are not checked. All state is in OnchainCloud; each contract has an address of its own, a Door to it.

contract Door {
    OnchainCloud private immutable cloud;
    string private version;
    constructor(string memory version_) { (cloud, version) = (OnchainCloud(msg.sender), version_); }
    function VERSION() external view returns (string memory) { return version; }
    function become(string calldata version_) external { version = version_; }
    fallback() external payable { // the caller's address follows the arguments
        (bool done, bytes memory answer) = address(cloud).call{value: msg.value}(abi.encodePacked(msg.data, msg.sender));
        assembly { switch done case 0 { revert(add(answer, 32), mload(answer)) } default { return(add(answer, 32), mload(answer)) } }
    }
}

contract OnchainCloud {
    struct Cid { bytes data; }
    struct Proof { bytes32 leaf; bytes32[] proof; }
    struct PieceIdAndOffset { uint256 pieceId; uint256 offset; }
    struct Rates { uint256 storagePerTibPerMonth; uint256 datasetFeePerMonth; uint256 cdnEgressPerTib; uint256 cacheMissEgressPerTib; }
    struct Fees { uint256 createDataSetFee; uint256 addPiecesBaseFee; uint256 addPiecesPerPieceFee; uint256 schedulePieceRemovalsFee; uint256 terminateFee; }
    struct Lockups { uint256 lifecycleReserveTarget; uint256 replenishThreshold; uint256 defaultLockupPeriod; uint256 cdnLockupAmount; uint256 cacheMissLockupAmount; uint256 cdnLockupPeriod; }
    struct PriceList { address token; Rates rates; Fees fees; Lockups lockups; }
    struct DataSetInfo {
        uint256 pdpRailId; uint256 cacheMissRailId; uint256 cdnRailId; address payer; address payee; address serviceProvider;
        uint256 commissionBps; uint256 clientDataSetId; uint256 pdpEndEpoch; uint256 providerId;
        uint96 pendingOneTimePayments; uint96 lifecycleReserveBalance; uint256 dataSetId;
    }
    struct RailView {
        address token; address from; address to; address operator; address validator; uint256 paymentRate; uint256 lockupPeriod;
        uint256 lockupFixed; uint256 settledUpTo; uint256 endEpoch; uint256 commissionRateBps; address serviceFeeRecipient;
    }
    struct RailInfo { uint256 railId; bool isTerminated; uint256 endEpoch; }
    struct Account { uint256 funds; uint256 lockupCurrent; uint256 lockupRate; uint256 lockupLastSettledAt; }
    struct Approval { bool isApproved; uint256 rateAllowance; uint256 lockupAllowance; uint256 rateUsage; uint256 lockupUsage; uint256 maxLockupPeriod; }
    struct ProviderInfo { address serviceProvider; address payee; string name; string description; bool isActive; }
    struct Product { uint8 productType; string[] capabilityKeys; bool isActive; }
    struct ProviderWithProduct { uint256 providerId; ProviderInfo providerInfo; Product product; bytes[] productCapabilityValues; }
    struct Set {
        DataSetInfo info; bool live; string[] keys; string[] values; bytes[] pieces; uint256[] leaves; uint256 leafCount; uint256[] removals;
        uint256 range; uint256 lastProven; uint256 nextChallenge; uint256 activation; uint256 deadline; bool provenNow; uint256 rate; uint256 railStart;
    }

    event DataSetCreated(uint256 indexed setId, address indexed storageProvider);
    event PiecesAdded(uint256 indexed setId, uint256[] pieceIds, Cid[] pieceCids);
    event PieceAdded(uint256 indexed dataSetId, uint256 indexed pieceId, Cid pieceCid, string[] keys, string[] values);
    event PiecesRemoved(uint256 indexed setId, uint256[] pieceIds);
    event PossessionProven(uint256 indexed setId, PieceIdAndOffset[] challenges);
    event FaultRecord(uint256 indexed dataSetId, uint256 periodsFaulted, uint256 deadline);
    event ServiceTerminated(address indexed approver, uint256 indexed dataSetId, uint256 pdpRailId, uint256 cacheMissRailId, uint256 cdnRailId);
    error InvalidSignature(address expected, address actual);
    error ClientDataSetAlreadyRegistered(uint256 clientDataSetId);
    error DataSetPaymentAlreadyTerminated(uint256 dataSetId);
    error DataSetPaymentBeyondEndEpoch(uint256 dataSetId, uint256 pdpEndEpoch, uint256 currentBlock);
    error InsufficientLockupFunds(address payer, uint256 required, uint256 available);
    error InsufficientUnlockedFunds(uint256 available, uint256 requested);
    error OperatorNotApproved(address from, address operator);
    error ProviderNotRegistered(address provider);
    error DataSetNotLive();
    error InvalidChallengeEpoch(uint256 dataSetId, uint256 minAllowed, uint256 maxAllowed, uint256 actual);
    error ProvingPeriodNotInitialized(uint256 dataSetId);
    error EnforcedPause();
    error OperatorRateAllowanceExceeded(uint256 allowed, uint256 attemptedUsage);
    error OperatorLockupAllowanceExceeded(uint256 allowed, uint256 attemptedUsage);
    error LockupNotSettledRateChangeNotAllowed(uint256 railId, address from, bool isSettled, uint256 currentRate, uint256 attemptedRate);
    error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
    error ERC2612ExpiredSignature(uint256 deadline);
    error ERC2612InvalidSigner(address signer, address owner);

    bytes32 constant DOMAIN = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 constant ENTRY = keccak256("MetadataEntry(string key,string value)");
    bytes32 constant CREATE = keccak256("CreateDataSet(uint256 clientDataSetId,address payee,MetadataEntry[] metadata)MetadataEntry(string key,string value)");
    bytes32 constant PIECE = keccak256("PieceMetadata(uint256 pieceIndex,MetadataEntry[] metadata)MetadataEntry(string key,string value)");
    bytes32 constant ADD = keccak256("AddPieces(uint256 clientDataSetId,uint256 nonce,Cid[] pieceData,PieceMetadata[] pieceMetadata)Cid(bytes data)MetadataEntry(string key,string value)PieceMetadata(uint256 pieceIndex,MetadataEntry[] metadata)");
    bytes32 constant REMOVE = keccak256("SchedulePieceRemovals(uint256 clientDataSetId,uint256[] pieceIds)");
    bytes32 constant TERMINATE = keccak256("TerminateService(uint256 dataSetId)");
    bytes32 constant PERMIT = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
    uint256 constant MONTH = 86400;

    Door private immutable service = new Door("1.3.1");
    Door private immutable verifier = new Door("3.4.0");
    Door private immutable stateView = new Door("");
    Door private immutable payments = new Door("1.0.0");
    Door private immutable token = new Door("1");
    Door private immutable registry = new Door("1.2.0");
    Door private immutable sessions = new Door("");
    Door private immutable endorsed = new Door("");
    uint64 public period = 240;
    uint256 public window = 20;
    PriceList private prices;
    uint256 private nextSet = 1;
    mapping(uint256 => Set) private sets;
    mapping(uint256 => mapping(uint256 => bool)) public provenPeriods;
    mapping(uint256 => mapping(uint256 => string[2][])) private pieceMeta;
    mapping(address => uint256[]) private byPayer;
    mapping(address => mapping(uint256 => uint256)) public clientNonces;
    mapping(address => mapping(address => mapping(bytes32 => uint256))) public authorizationExpiry;
    mapping(address => Account) private money;
    mapping(address => Approval) private approvals;
    mapping(address => uint256) public nonces;
    mapping(address => uint256) public balanceOf;
    ProviderWithProduct[] private providers;
    mapping(address => uint256) public getProviderIdByAddress;
    Door private movedView;
    uint256[] private endorsedIds;
    mapping(uint256 => address) private listeners;
    bool private paused;
    address private upgradeTo;
    uint96 private upgradeAt;

    constructor() {
        prices = PriceList(address(token), Rates(2.5e18, 0.024e18, 7e18, 7e18), Fees(0.025e18, 0.0005e18, 0.0003e18, 0.002e18, 0.00112e18),
            Lockups(0.1e18, 0.005e18, MONTH, 0.7e18, 0.3e18, 14400));
    }

    // --- what only a test calls -------------------------------------------------------------------------------

    function mint(address to, uint256 amount) external { balanceOf[to] += amount; }
    function doors() external view returns (address, address) { return (address(service), address(endorsed)); }
    function moveView() external { movedView = new Door(""); } // the old one goes on answering
    function announce(address implementation, uint96 epoch) external { (upgradeTo, upgradeAt) = (implementation, epoch); }
    function configure(uint64 period_, uint256 window_) external { (period, window) = (period_, window_); }
    function price(Rates calldata rates, Fees calldata fees) external { (prices.rates, prices.fees) = (rates, fees); }
    function kill(uint256 id) external { sets[id].live = false; sets[id].nextChallenge = type(uint256).max; }
    function give(uint256 id, address payer) external { sets[id].info.payer = payer; }
    function assign(uint256 id, address listener) external { listeners[id] = listener; }
    function pause(bool stopped) external { paused = stopped; }
    function register(address provider, string calldata name_, string calldata url) external {
        require(getProviderIdByAddress[provider] == 0, "Address already registered");
        ProviderWithProduct storage p = providers.push();
        (p.providerId, p.providerInfo) = (providers.length, ProviderInfo(provider, provider, name_, "", true));
        p.product.isActive = true;
        p.product.capabilityKeys.push("serviceURL"); p.productCapabilityValues.push(bytes(url));
        getProviderIdByAddress[provider] = providers.length;
    }

    function endorse(uint256 id) external { endorsedIds.push(id); }
    function retire(uint256 id) external { providers[id - 1].providerInfo.isActive = false; }
    function _sender() private view returns (address) {
        address[8] memory doors_ = [address(service), address(verifier), address(stateView), address(payments), address(token), address(registry), address(sessions), address(movedView)];
        for (uint256 i; i < 8; i++) if (msg.sender == doors_[i] && msg.data.length >= 24) return address(bytes20(msg.data[msg.data.length - 20:]));
        return msg.sender;
    }

    // --- where things are -------------------------------------------------------------------------------------

    function viewContractAddress() external view returns (address) { return address(movedView) == address(0) ? address(stateView) : address(movedView); }
    function pdpVerifierAddress() external view returns (address) { return address(verifier); }
    function paymentsContractAddress() external view returns (address) { return address(payments); }
    function usdfcTokenAddress() external view returns (address) { return address(token); }
    function serviceProviderRegistry() external view returns (address) { return address(registry); }
    function sessionKeyRegistry() external view returns (address) { return address(sessions); }
    function nextUpgrade() external view returns (address nextImplementation, uint96 afterEpoch) { return (upgradeTo, upgradeAt); }
    function getProviderWithProduct(uint256 id, uint8) external view returns (ProviderWithProduct memory) { return providers[id - 1]; }
    function getProviderIds() external view returns (uint256[] memory) { return endorsedIds; }
    function getAllActiveProviders(uint256 offset, uint256 limit) external view returns (uint256[] memory ids, bool hasMore) {
        uint256 n; uint256 seen;
        ids = new uint256[](limit);
        for (uint256 i; i < providers.length; i++) {
            if (!providers[i].providerInfo.isActive || seen++ < offset) continue;
            if (n == limit) { hasMore = true; break; }
            ids[n++] = i + 1;
        }
        assembly { mstore(ids, n) }
    }
    function getApprovedProviders(uint256 offset, uint256 limit) external view returns (uint256[] memory ids) {
        uint256 n = offset >= providers.length ? 0 : providers.length - offset < limit ? providers.length - offset : limit;
        ids = new uint256[](n);
        for (uint256 i; i < n; i++) ids[i] = offset + i + 1;
    }
    function getProviderPayee(uint256 id) external view returns (address) { return providers[id - 1].providerInfo.payee; }
    function isProviderActive(uint256 id) external view returns (bool) { return providers[id - 1].providerInfo.isActive; }

    // --- token, FilecoinPay ------------------------------------------------------------------------------------

    function name() external pure returns (string memory) { return "USDFC stand-in"; }
    function version() external pure returns (string memory) { return "1"; }
    function decimals() external pure returns (uint8) { return 18; }
    function depositWithPermitAndApproveOperator(address, address to, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s,
        address operator, uint256 rate, uint256 lockup, uint256 maxPeriod) external {
        require(operator == address(service), "another operator");
        if (block.timestamp > deadline) revert ERC2612ExpiredSignature(deadline);
        bytes32 hash = keccak256(abi.encode(PERMIT, to, address(payments), amount, nonces[to]++, deadline));
        bytes32 domain = keccak256(abi.encode(DOMAIN, keccak256("USDFC stand-in"), keccak256("1"), block.chainid, address(token)));
        address signer = ecrecover(keccak256(abi.encodePacked("\x19\x01", domain, hash)), v, r, s);
        if (signer != to) revert ERC2612InvalidSigner(signer, to);
        _deposit(to, amount);
        _approve(to, true, rate, lockup, maxPeriod);
    }
    function deposit(address, address to, uint256 amount) external payable { require(_sender() == to); _deposit(to, amount); }
    function withdraw(address, uint256 amount) external {
        Account storage a = _settled(_sender());
        if (amount > a.funds - a.lockupCurrent) revert InsufficientUnlockedFunds(a.funds - a.lockupCurrent, amount);
        a.funds -= amount; balanceOf[_sender()] += amount;
    }
    function setOperatorApproval(address, address operator, bool approved, uint256 rate, uint256 lockup, uint256 maxPeriod) external {
        require(operator == address(service)); _approve(_sender(), approved, rate, lockup, maxPeriod);
    }
    function accounts(address, address who) external view returns (uint256, uint256, uint256, uint256) {
        Account storage a = money[who]; return (a.funds, a.lockupCurrent, a.lockupRate, a.lockupLastSettledAt);
    }
    function getAccountInfoIfSettled(address, address who) external view
        returns (uint256 fundedUntilEpoch, uint256 currentFunds, uint256 availableFunds, uint256 currentLockupRate) { return _look(money[who]); }
    function operatorApprovals(address, address who, address) external view returns (bool, uint256, uint256, uint256, uint256, uint256) {
        Approval storage p = approvals[who];
        return (p.isApproved, p.rateAllowance, p.lockupAllowance, p.rateUsage, p.lockupUsage, p.maxLockupPeriod);
    }
    function getRail(uint256 rail) external view returns (RailView memory) {
        Set storage s = sets[rail]; // a rail has its data set's number here
        require(s.info.pdpRailId != 0, "RailInactiveOrSettled");
        return RailView(address(token), s.info.payer, s.info.payee, address(service), address(service), s.rate,
            s.info.pdpEndEpoch != 0 && s.info.lifecycleReserveBalance == 0 ? 0 : MONTH, s.info.lifecycleReserveBalance, s.railStart, s.info.pdpEndEpoch, 0, address(service));
    }
    function getRailsForPayerAndToken(address payer, address, uint256, uint256) external view returns (RailInfo[] memory rails, uint256 nextOffset, uint256 total) {
        uint256[] storage ids = byPayer[payer];
        rails = new RailInfo[](ids.length);
        for (uint256 i; i < ids.length; i++) rails[i] = RailInfo(ids[i], sets[ids[i]].info.pdpEndEpoch != 0, sets[ids[i]].info.pdpEndEpoch);
        return (rails, ids.length, ids.length);
    }
    function settleRail(uint256 rail, uint256 untilEpoch) external returns (uint256, uint256, uint256, uint256, uint256, string memory) {
        sets[rail].railStart = untilEpoch; // nothing is paid out here
        return (0, 0, 0, 0, untilEpoch, "");
    }
    function _deposit(address to, uint256 amount) private {
        if (balanceOf[to] < amount) revert ERC20InsufficientBalance(to, balanceOf[to], amount);
        balanceOf[to] -= amount; _settled(to).funds += amount;
    }
    function _approve(address who, bool approved, uint256 rate, uint256 lockup, uint256 maxPeriod) private {
        Approval storage p = approvals[who];
        (p.isApproved, p.rateAllowance, p.lockupAllowance, p.maxLockupPeriod) = (approved, rate, lockup, maxPeriod);
    }
    function _look(Account storage a) private view returns (uint256 until, uint256 funds, uint256 available, uint256 rate) {
        until = a.lockupRate == 0 ? type(uint256).max : a.lockupLastSettledAt + (a.funds - a.lockupCurrent) / a.lockupRate;
        uint256 at = until < block.number ? until : block.number;
        return (until, a.funds, a.funds - a.lockupCurrent - a.lockupRate * (at - a.lockupLastSettledAt), a.lockupRate);
    }
    function _settled(address who) private returns (Account storage a) {
        a = money[who];
        (uint256 until,,,) = _look(a);
        uint256 at = until < block.number ? until : block.number;
        a.lockupCurrent += a.lockupRate * (at - a.lockupLastSettledAt);
        a.lockupLastSettledAt = at;
    }
    function _charge(uint256 id, uint256 rate, uint256 fee) private {
        Set storage s = sets[id];
        address payer = s.info.payer;
        Account storage a = _settled(payer);
        if (a.lockupLastSettledAt < block.number && rate != s.rate) revert LockupNotSettledRateChangeNotAllowed(id, payer, false, s.rate, rate);
        uint256 reserve = s.info.lifecycleReserveBalance;
        uint256 more = rate * MONTH;
        if (s.info.pdpEndEpoch == 0 && reserve < fee + prices.lockups.replenishThreshold) {
            more += prices.lockups.lifecycleReserveTarget + fee - reserve;
            reserve = prices.lockups.lifecycleReserveTarget + fee;
        }
        if (fee > reserve) fee = reserve;
        _lock(payer, s.rate, rate, s.rate * MONTH, more);
        a.funds -= fee;
        a.lockupCurrent -= fee;
        Approval storage p = approvals[payer];
        p.lockupUsage -= fee;
        p.lockupAllowance = fee > p.lockupAllowance ? 0 : p.lockupAllowance - fee;
        (s.rate, s.info.lifecycleReserveBalance) = (rate, uint96(reserve - fee));
    }
    function _lock(address payer, uint256 oldRate, uint256 rate, uint256 less, uint256 more) private {
        Account storage a = money[payer];
        Approval storage p = approvals[payer];
        if (more > less && more - less > a.funds - a.lockupCurrent) revert InsufficientLockupFunds(payer, more - less, a.funds - a.lockupCurrent);
        (a.lockupCurrent, a.lockupRate) = (a.lockupCurrent + more - less, a.lockupRate + rate - oldRate);
        (p.lockupUsage, p.rateUsage) = (p.lockupUsage + more - less, p.rateUsage + rate - oldRate);
        if (p.rateUsage > p.rateAllowance) revert OperatorRateAllowanceExceeded(p.rateAllowance, p.rateUsage);
        if (p.lockupUsage > p.lockupAllowance) revert OperatorLockupAllowanceExceeded(p.lockupAllowance, p.lockupUsage);
    }
    function _rate(uint256 leaves) private view returns (uint256) {
        return leaves == 0 ? 0 : (leaves * 32 * 127 / 128) * prices.rates.storagePerTibPerMonth / ((1 << 40) * MONTH) + prices.rates.datasetFeePerMonth / MONTH;
    }

    // --- session keys, signatures ------------------------------------------------------------------------------

    function login(address signer, uint256 expiry, bytes32[] calldata permissions, string calldata) external {
        for (uint256 i; i < permissions.length; i++) authorizationExpiry[_sender()][signer][permissions[i]] = expiry;
    }
    function revoke(address signer, bytes32[] calldata permissions, string calldata) external {
        for (uint256 i; i < permissions.length; i++) authorizationExpiry[_sender()][signer][permissions[i]] = 0;
    }
    function _check(address payer, bytes32 permission, bytes32 structHash, bytes memory signature) private view returns (address who) {
        require(signature.length == 65, "InvalidSignatureLength");
        bytes32 domain = keccak256(abi.encode(DOMAIN, keccak256("FilecoinWarmStorageService"), keccak256("1"), block.chainid, address(service)));
        bytes32 r; bytes32 s; uint8 v;
        assembly { r := mload(add(signature, 32)) s := mload(add(signature, 64)) v := byte(0, mload(add(signature, 96))) }
        who = ecrecover(keccak256(abi.encodePacked("\x19\x01", domain, structHash)), v < 27 ? v + 27 : v, r, s);
        if (who != payer && authorizationExpiry[payer][who][permission] < block.timestamp) revert InvalidSignature(payer, who);
    }
    function _entries(string[] memory keys, string[] memory values) private pure returns (bytes32) {
        require(keys.length == values.length, "MetadataKeyAndValueLengthMismatch");
        bytes32[] memory h = new bytes32[](keys.length);
        for (uint256 i; i < keys.length; i++) h[i] = keccak256(abi.encode(ENTRY, keccak256(bytes(keys[i])), keccak256(bytes(values[i]))));
        return keccak256(abi.encodePacked(h));
    }

    // --- the life of a data set: the provider's calls -----------------------------------------------------------

    function FIL_CLEANUP_DEPOSIT() external pure returns (uint256) { return 0.1 ether; }
    function createDataSet(address listener, bytes calldata extraData) external payable returns (uint256) { return _create(listener, extraData); }
    function addPieces(uint256 setId, address listener, Cid[] calldata pieces, bytes calldata extraData) external payable returns (uint256) {
        if (setId != 0) {
            require(listener == address(0), "listener must be zero for existing dataset");
            return _add(setId, pieces, extraData);
        }
        (bytes memory create, bytes memory add) = abi.decode(extraData, (bytes, bytes));
        setId = _create(listener, create);
        if (pieces.length != 0) _add(setId, pieces, add);
        return setId;
    }
    function _create(address listener, bytes memory extraData) private returns (uint256 id) {
        if (paused) revert EnforcedPause();
        require(listener == address(service) && msg.value >= 0.1 ether, "CleanupDepositRequired");
        (address payer, uint256 clientId, string[] memory keys, string[] memory values, bytes memory signature) = abi.decode(extraData, (address, uint256, string[], string[], bytes));
        uint256 providerId = getProviderIdByAddress[_sender()];
        if (providerId == 0) revert ProviderNotRegistered(_sender());
        if (clientNonces[payer][clientId] != 0) revert ClientDataSetAlreadyRegistered(clientId);
        address payee = providers[providerId - 1].providerInfo.payee;
        _check(payer, CREATE, keccak256(abi.encode(CREATE, clientId, payee, _entries(keys, values))), signature);
        if (!approvals[payer].isApproved) revert OperatorNotApproved(payer, address(service));
        uint256 need = prices.rates.datasetFeePerMonth + prices.lockups.lifecycleReserveTarget;
        Account storage a = _settled(payer);
        if (a.funds - a.lockupCurrent < need) revert InsufficientLockupFunds(payer, need, a.funds - a.lockupCurrent);
        id = nextSet++;
        Set storage s = sets[id];
        s.info = DataSetInfo(id, 0, 0, payer, payee, _sender(), 0, clientId, 0, providerId, 0, uint96(prices.lockups.lifecycleReserveTarget), id);
        _lock(payer, 0, 0, 0, prices.lockups.lifecycleReserveTarget);
        s.info.pendingOneTimePayments = uint96(prices.fees.createDataSetFee);
        (s.live, s.keys, s.values, s.lastProven, s.railStart) = (true, keys, values, block.number, block.number);
        clientNonces[payer][clientId] = id;
        byPayer[payer].push(id);
        emit DataSetCreated(id, _sender());
    }
    function _add(uint256 id, Cid[] calldata pieces, bytes memory extraData) private returns (uint256 first) {
        Set storage s = _live(id);
        require(s.info.serviceProvider == _sender(), "Only the storage provider can add pieces");
        if (s.info.pdpEndEpoch != 0) revert DataSetPaymentAlreadyTerminated(id);
        (uint256 nonce, string[][] memory keys, string[][] memory values, bytes memory signature) = abi.decode(extraData, (uint256, string[][], string[][], bytes));
        if (clientNonces[s.info.payer][nonce] != 0) revert ClientDataSetAlreadyRegistered(nonce);
        require(keys.length == pieces.length && values.length == pieces.length, "MetadataArrayCountMismatch");
        _check(s.info.payer, ADD, _addHash(s.info.clientDataSetId, nonce, pieces, keys, values), signature);
        first = s.pieces.length;
        clientNonces[s.info.payer][nonce] = ((first + pieces.length) << 128) | id;
        uint256[] memory ids = new uint256[](pieces.length);
        for (uint256 i; i < pieces.length; i++) {
            ids[i] = first + i;
            s.pieces.push(pieces[i].data);
            s.leaves.push(_leaves(pieces[i].data));
            s.leafCount += s.leaves[ids[i]];
            for (uint256 k; k < keys[i].length; k++) pieceMeta[id][ids[i]].push([keys[i][k], values[i][k]]);
            emit PieceAdded(id, ids[i], pieces[i], keys[i], values[i]);
        }
        emit PiecesAdded(id, ids, pieces);
        uint256 fee = s.info.pendingOneTimePayments + prices.fees.addPiecesBaseFee + pieces.length * prices.fees.addPiecesPerPieceFee;
        s.info.pendingOneTimePayments = 0;
        _charge(id, _rate(s.leafCount), fee);
    }
    function _addHash(uint256 clientId, uint256 nonce, Cid[] calldata pieces, string[][] memory keys, string[][] memory values) private pure returns (bytes32) {
        bytes32[] memory cids = new bytes32[](pieces.length);
        bytes32[] memory meta = new bytes32[](pieces.length);
        for (uint256 i; i < pieces.length; i++) {
            cids[i] = keccak256(abi.encode(keccak256("Cid(bytes data)"), keccak256(pieces[i].data)));
            meta[i] = keccak256(abi.encode(PIECE, i, _entries(keys[i], values[i])));
        }
        return keccak256(abi.encode(ADD, clientId, nonce, keccak256(abi.encodePacked(cids)), keccak256(abi.encodePacked(meta))));
    }
    function _leaves(bytes calldata cid) private pure returns (uint256) { // 01 55 91 20, length, padding, height, root
        require(bytes4(cid[:4]) == 0x01559120, "Cid must be CommPv2");
        uint256 padding; uint256 shift; uint256 at = 5;
        while (true) {
            uint8 b = uint8(cid[at++]);
            padding |= uint256(b & 127) << shift; shift += 7;
            if (b < 128) break;
        }
        return (1 << uint256(uint8(cid[at]))) - ((128 * padding) / 127 >> 5);
    }
    function schedulePieceDeletions(uint256 id, uint256[] calldata ids, bytes calldata extraData) external {
        Set storage s = _live(id);
        require(s.info.serviceProvider == _sender(), "Only the storage provider can schedule removal of pieces");
        _check(s.info.payer, REMOVE, keccak256(abi.encode(REMOVE, s.info.clientDataSetId, keccak256(abi.encodePacked(ids)))), abi.decode(extraData, (bytes)));
        for (uint256 i; i < ids.length; i++) {
            require(ids[i] < s.pieces.length && s.leaves[ids[i]] != 0, "Can only schedule removal of live pieces");
            for (uint256 k; k < s.removals.length; k++) require(s.removals[k] != ids[i], "Piece ID already scheduled for removal");
            s.removals.push(ids[i]);
        }
        s.info.pendingOneTimePayments += uint96(prices.fees.schedulePieceRemovalsFee);
    }
    function nextProvingPeriod(uint256 id, uint256 challenge, bytes calldata) external {
        Set storage s = _live(id);
        require(s.info.serviceProvider == _sender() && s.leafCount != 0, "can only start proving once leaves are added");
        if (s.info.pdpEndEpoch != 0 && block.number > s.info.pdpEndEpoch) revert DataSetPaymentBeyondEndEpoch(id, s.info.pdpEndEpoch, block.number);
        if (s.removals.length != 0) emit PiecesRemoved(id, s.removals);
        for (uint256 i; i < s.removals.length; i++) { s.leafCount -= s.leaves[s.removals[i]]; s.leaves[s.removals[i]] = 0; }
        delete s.removals;
        uint256 deadline = s.activation == 0 ? block.number + period : s.deadline + period;
        if (s.activation == 0) s.activation = block.number;
        else {
            uint256 skipped = block.number <= s.deadline ? 0 : (block.number - s.deadline - 1) / period;
            deadline += skipped * period;
            if (skipped != 0 || !s.provenNow) emit FaultRecord(id, skipped + (s.provenNow ? 0 : 1), s.deadline);
        }
        if (challenge < deadline - window || challenge > deadline) revert InvalidChallengeEpoch(id, deadline - window, deadline, challenge);
        bool empty = s.leafCount == 0;
        (s.range, s.provenNow, s.deadline, s.nextChallenge) = (s.leafCount, false, empty ? 0 : deadline, empty ? 0 : challenge);
        uint256 fee = s.info.pendingOneTimePayments;
        s.info.pendingOneTimePayments = 0;
        _charge(id, _rate(s.leafCount), fee);
    }
    function provePossession(uint256 id, Proof[] calldata proofs) external payable {
        Set storage s = _live(id);
        require(s.info.serviceProvider == _sender() && proofs.length == 5, "Only the storage provider can prove possession");
        require(s.nextChallenge != 0 && block.number >= s.nextChallenge && block.number <= s.deadline && !s.provenNow, "premature proof");
        (s.provenNow, s.lastProven) = (true, block.number);
        provenPeriods[id][(block.number - s.activation - 1) / period] = true;
        emit PossessionProven(id, new PieceIdAndOffset[](5));
    }
    function terminateService(uint256 id) external { _terminate(id, "", _sender()); }
    function terminateService(uint256 id, bytes calldata extraData) external {
        Set storage s = sets[id];
        _terminate(id, extraData, extraData.length == 0 ? _sender() : _check(s.info.payer, TERMINATE, keccak256(abi.encode(TERMINATE, id)), abi.decode(extraData, (bytes))));
    }
    function _terminate(uint256 id, bytes memory consent, address approver) private {
        Set storage s = sets[id];
        require(s.info.pdpRailId != 0 && (_sender() == s.info.payer || _sender() == s.info.serviceProvider), "CallerNotPayerOrPayee");
        if (s.info.pdpEndEpoch != 0) revert DataSetPaymentAlreadyTerminated(id);
        Account storage a = _settled(s.info.payer);
        s.info.pdpEndEpoch = a.lockupLastSettledAt + (consent.length == 0 ? MONTH : 0);
        uint256 freed;
        if (consent.length != 0) {
            freed = s.rate * MONTH + s.info.lifecycleReserveBalance;
            a.funds -= prices.fees.terminateFee;
            s.info.lifecycleReserveBalance = 0;
        }
        _lock(s.info.payer, s.rate, 0, freed, 0);
        emit ServiceTerminated(approver, id, id, 0, 0);
    }
    function deleteDataSet(uint256 id, bytes calldata) external {
        Set storage s = _live(id);
        require(s.info.pdpEndEpoch != 0 ? block.number >= s.info.pdpEndEpoch : block.number > s.lastProven + MONTH, "PaymentRailsNotFinalized");
        (s.live, s.nextChallenge) = (false, type(uint256).max);
        uint256[] storage mine = byPayer[s.info.payer];
        for (uint256 i; i < mine.length; i++) if (mine[i] == id) { mine[i] = mine[mine.length - 1]; mine.pop(); break; }
        delete s.info; delete s.keys; delete s.values; delete s.activation; delete s.deadline; delete s.provenNow;
    }

    // --- reading ------------------------------------------------------------------------------------------------

    function _live(uint256 id) private view returns (Set storage s) { s = sets[id]; if (!s.live) revert DataSetNotLive(); }
    function dataSetLive(uint256 id) external view returns (bool) { return sets[id].live; }
    function getDataSetStorageProvider(uint256 id) external view returns (address, address) { return (_live(id).info.serviceProvider, address(0)); }
    function getDataSetListener(uint256 id) external view returns (address) { _live(id); return listeners[id] == address(0) ? address(service) : listeners[id]; }
    function getDataSetLeafCount(uint256 id) external view returns (uint256) { return _live(id).leafCount; }
    function getPieceLeafCount(uint256 id, uint256 piece) external view returns (uint256) { return _live(id).leaves[piece]; }
    function getChallengeRange(uint256 id) external view returns (uint256) { return _live(id).range; }
    function getDataSetLastProvenEpoch(uint256 id) external view returns (uint256) { return _live(id).lastProven; }
    function getNextChallengeEpoch(uint256 id) external view returns (uint256) { return sets[id].nextChallenge; }
    function getScheduledRemovals(uint256 id) external view returns (uint256[] memory) { return _live(id).removals; }
    function getNextPieceId(uint256 id) external view returns (uint256) { return _live(id).pieces.length; }
    function getRandomness(uint256 epoch) external pure returns (uint256) { return uint256(keccak256(abi.encode(epoch))); }
    function getActivePieceCount(uint256 id) external view returns (uint256 n) { Set storage s = _live(id); for (uint256 i; i < s.leaves.length; i++) if (s.leaves[i] != 0) n++; }
    function getActivePieces(uint256 id, uint256 offset, uint256 limit) external view returns (Cid[] memory, uint256[] memory, bool) { return _page(_live(id), 0, offset, limit); }
    function getActivePiecesByCursor(uint256 id, uint256 start, uint256 limit) external view returns (Cid[] memory, uint256[] memory, bool) { return _page(_live(id), start, 0, limit); }
    function _page(Set storage s, uint256 start, uint256 skip, uint256 limit) private view returns (Cid[] memory pieces, uint256[] memory ids, bool hasMore) {
        require(limit > 0, "Limit must be greater than 0");
        pieces = new Cid[](limit); ids = new uint256[](limit);
        uint256 n;
        for (uint256 i = start; i < s.pieces.length && !hasMore; i++) {
            if (s.leaves[i] == 0) continue;
            if (skip > 0) { skip--; continue; }
            if (n == limit) hasMore = true; else { pieces[n] = Cid(s.pieces[i]); ids[n++] = i; }
        }
        assembly { mstore(pieces, n) mstore(ids, n) }
    }
    function findPieceIdsByCid(uint256 id, Cid calldata cid, uint256 start, uint256 limit) external view returns (uint256[] memory ids) {
        Set storage s = _live(id);
        ids = new uint256[](limit);
        uint256 n;
        for (uint256 i = start; i < s.pieces.length && n < limit; i++) if (s.leaves[i] != 0 && keccak256(s.pieces[i]) == keccak256(cid.data)) ids[n++] = i;
        assembly { mstore(ids, n) }
    }
    function findPieceIds(uint256 id, uint256[] calldata marks) external view returns (PieceIdAndOffset[] memory found) {
        Set storage s = _live(id);
        found = new PieceIdAndOffset[](marks.length);
        for (uint256 k; k < marks.length; k++) {
            uint256 at = marks[k];
            for (uint256 i; i < s.leaves.length; i++) { if (at < s.leaves[i]) { found[k] = PieceIdAndOffset(i, at); break; } at -= s.leaves[i]; }
        }
    }
    function getDataSet(uint256 id) external view returns (DataSetInfo memory info) { info = sets[id].info; info.dataSetId = id; }
    function getDataSetStatus(uint256 id) external view returns (uint8) { return sets[id].info.pdpRailId != 0 && sets[id].activation != 0 ? 1 : 0; }
    function getAllDataSetMetadata(uint256 id) external view returns (string[] memory keys, string[] memory values) { return (sets[id].keys, sets[id].values); }
    function getAllPieceMetadata(uint256 id, uint256 piece) external view returns (string[] memory keys, string[] memory values) {
        string[2][] storage m = pieceMeta[id][piece];
        keys = new string[](m.length); values = new string[](m.length);
        for (uint256 i; i < m.length; i++) (keys[i], values[i]) = (m[i][0], m[i][1]);
    }
    function clientDataSets(address payer) external view returns (uint256[] memory) { return byPayer[payer]; }
    function clientDataSets(address payer, uint256 offset, uint256 limit) external view returns (uint256[] memory ids) {
        uint256[] storage all = byPayer[payer];
        uint256 n = offset >= all.length ? 0 : all.length - offset < limit ? all.length - offset : limit;
        ids = new uint256[](n);
        for (uint256 i; i < n; i++) ids[i] = all[offset + i];
    }
    function getClientDataSetsLength(address payer) external view returns (uint256) { return byPayer[payer].length; }
    function railToDataSet(uint256 rail) external view returns (uint256) { return sets[rail].info.pdpRailId == 0 ? 0 : rail; }
    function getDataSetSizeInBytes(uint256 leaves) external pure returns (uint256) { return leaves * 32 * 127 / 128; }
    function getPriceList() external view returns (PriceList memory) { return prices; }
    function getPDPConfig() external view returns (uint64, uint256, uint256, uint256) { return (period, window, 5, block.number + period - window); }
    function provenThisPeriod(uint256 id) external view returns (bool) { return sets[id].provenNow; }
    function provingActivationEpoch(uint256 id) external view returns (uint256) { return sets[id].activation; }
    function provingDeadline(uint256 id) external view returns (uint256) { return sets[id].deadline; }
    function nextPDPChallengeWindowStart(uint256 id) external view returns (uint256) {
        Set storage s = sets[id];
        if (s.deadline == 0) revert ProvingPeriodNotInitialized(id);
        uint256 skipped = block.number <= s.deadline ? 0 : (block.number - s.deadline - 1) / period;
        return s.deadline + period * (skipped + 1) - window;
    }
}
