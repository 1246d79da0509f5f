"""gateway: an HTTP gateway that serves stores to IPFS clients and to plain HTTP clients.

A request is parsed, its path is resolved through UnixFS, and the response is an iterator over blocks. All of
that is pure, except for one function that reads a block. Sending and listening are separate.

May use `content`, `net/multiaddr` and `targets/store`; starlette and uvicorn (extra `serve`) only in the
modules that send and listen. Guarantees: no byte is sent that was not verified against its CID, and a
response that cannot be completed is cut off, never ended cleanly. Source: the IPFS specifications of the
Trustless Gateway and the Path Gateway.
"""
