"""net: the one HTTP layer, and the addresses of peers.

It may use httpx and the ground modules (`errors`, `version`). It knows no target, no forge and no content
format. It guarantees that no request waits forever, no body grows without limit, no redirect is followed, a
call is sent twice only when its caller allows it, every failure is a RequestError that states what the caller
may do next, and no secret reaches a message.

`client` imports httpx, which is slow: rooms that `resolve` or `--help` can reach import it inside functions.
"""
