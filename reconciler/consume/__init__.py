"""consume: from a version to a verified directory, whichever source has the bytes.

The room reads a version's tree from the sources, verifies what is on disk already, fetches the remaining
blocks from all sources at once, and publishes the result. It also finds and caches remote indexes, and
compares directories with released versions.

May use `content`, `index`, `net` and `targets`. Guarantees: no unverified byte is ever at a final path,
nothing is written outside the destination, a destination is complete or absent, and no source is contacted
because an index named it.
"""
