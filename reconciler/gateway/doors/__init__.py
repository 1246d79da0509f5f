"""doors: the protocols that `serve` answers for consumers besides that of an IPFS gateway.

A door turns a request into a response of the releases of an index, from the blocks of the same stores: no
second copy of the weights, and no byte is hashed that the gateway would not hash. `interface.py` has the
request, what a door needs, and what all doors share; each other module is one protocol.
"""
