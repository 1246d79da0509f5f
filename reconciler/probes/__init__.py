"""probes: does a provider really serve what it is said to serve?

Delegated routing says who provides a root; each provider is asked, at its own HTTP address, for random leaves
that we know, and what comes back is hashed. Uses `net` and `content`. Promises: nothing found here is written
down or decides anything; an answer of a gateway that merely fetches for us is not asked for; bounded in time,
bytes and connections whatever router and providers say.
"""
