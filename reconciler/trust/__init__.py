"""trust: who released a version, and whether everyone was shown the same history.

Statements about releases and their signatures, the keys that make and check them, the policy of a consumer
that says whose releases it accepts, and the audit log with its checkpoints and anchors. The room may use
`content`, `net`, `git` and the ground modules; it knows no index, no target and no command: what a version
is reaches it as a frozen dataclass. It guarantees that deciding is pure and done before the first block, that
what is verified is exactly what was parsed, that an unknown or malformed signature never counts, and that
importing it loads no library for signatures: the functions that use one import it.
"""
