"""deals: is this piece really stored? Inclusion proofs, chain reads, and a judgement of both.

What it is: the words for pieces in aggregates and deals (`interface`), the verifier of inclusion proofs,
reads of the Filecoin chain over a configured RPC, the pure judge that makes states out of claims and chain
answers, and the policy that says whether they are enough. May use: `content`, `net` and the ground floor.
Knows no storage service: a target hands its claims in. Promises: `claimed` rests on an inclusion proof that
holds, `active` on the chain besides, whatever a service says.
"""
