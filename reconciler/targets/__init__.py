"""targets: the places that hold bundles.

What it is: `interface.py` holds the protocol and its data types; each implementation has a file or a folder
of its own; `open.py` makes a target from its entry in releases/targets.yaml. May use: `index` for the entry,
`content` for DAGs, `net` for HTTP, and the ground floor. Promises: the contract in `interface.py`, which the
suite in tests/conformance/ holds every implementation to. A new target is one implementation, one line in
`open.py`, a schema entry, and a factory for the suite.
"""
