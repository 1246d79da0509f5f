"""net: the one HTTP layer.

What it is: `client.py` makes requests with time limits, retries and bounded bodies; `outcomes.py` are the
errors it raises, typed by what a caller may do next; `retry.py` says when to ask again; `deadline.py` holds
the limit on a whole request; `address.py`, `auth.py` and `secret.py` keep secrets out of URLs and messages;
`upload.py` streams bodies.
May use: httpx and the ground floor (`errors`). It knows no target, no forge and no content format.
Promises: no request waits without end, no body grows without end, no redirect is followed, a call is sent
twice only when its caller said that it may be, and no secret reaches a message.

`client.py` imports httpx; rooms that `resolve` or `--help` could reach import it inside their functions.
"""
