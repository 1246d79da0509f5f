"""deals: whether a piece is really stored on Filecoin.

Verification of inclusion proofs, reads of the chain over a configured RPC, a pure judge that derives states
from claims and chain answers, and a pure policy that decides whether the states are enough. It may use
`content`, `net` and the ground modules. It knows no storage service: a target passes its service's claims in.
It guarantees that `claimed` rests on a valid inclusion proof and `active` on the chain as well, whatever a
service reports.
"""
