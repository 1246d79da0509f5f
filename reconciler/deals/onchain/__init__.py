"""onchain: Filecoin Onchain Cloud: its contracts, what they say about our pieces, and what storing costs.

The contracts keep data sets of pieces, prove every period that a provider still has them, and pay it from the
payer's account, epoch by epoch. This package reads them over Ethereum JSON-RPC, judges every copy of a piece,
computes money and time, and signs what a payer or its session key has to sign. It may use `content`, `net`,
`deals.chain`, `deals.interface` and the ground modules, and eth-account (extra `filecoin`) for signatures
only.

It guarantees that the chain decides, never a provider's answer: a contract of an unknown version, an answer
that cannot be decoded and a node that is down are `unknown`, never `absent`; and that no key reaches a
message, a log or a `repr`.

    interface       data types
    abi, calls      the contracts' calls: encoding and strict decoding
    networks        chains, contract addresses, and the keys of targets.yaml for them
    reader          one consistent view of the contracts, as of one block
    health          the state of one copy of a piece (pure)
    money, guard    prices, runway, predictions and spending limits (pure)
    names           deterministic data set ids and nonces (pure)
    keys, signing   keys from the environment, and the signatures of uploads and deposits
    wallet          transactions that payers send themselves: deposit, session keys, ending
    funding         what an account lacks before anything can be published (pure)
"""
