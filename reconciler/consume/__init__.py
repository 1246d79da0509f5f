"""consume: from a version to a verified directory, whoever has the bytes.

`sources.py` says where blocks may come from and `peers.py` keeps what each source is worth; `wanted.py` works
out from the tree blocks what has to be where; `staging.py` holds what is verified so far, across
interruptions; `transfer.py` fetches the rest, from all sources at once; `fetch.py` puts them together.
May use: content, index, net, targets. Promises: no byte that was not verified is ever at a final path,
nothing is written outside the destination, a destination is there whole or not at all, and no source is asked
because an index named it.
"""
