"""gateway: an HTTP gateway over stores, for IPFS clients and for plain HTTP ones.

A request is read (`request.py`, `accept.py`, `ranges.py`), its path is followed through UnixFS (`paths.py`),
and what it asks for becomes a plan of blocks (`dag.py`, `files.py`); all of that is pure but for one function
that reads a block. `answers.py` adds status and headers, `app.py` and `stream.py` send it, and `server.py`
listens.

May use `content` and `targets/store`; starlette and uvicorn (extra `serve`) only in `app.py`, `stream.py` and
`server.py`. Promises: no byte leaves that does not hash to its CID, and an answer that cannot be finished is
cut off, never ended cleanly. Source: the IPFS specifications of the trustless and the path gateway.
"""
