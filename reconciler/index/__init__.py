"""The desired state in git: the index, records, targets.yaml, and the rules for them.

The room may use `content` for CIDs, `git` for the history of the index, and the ground floor; never a target
or the network. It guarantees that an index which loads is valid, that an invalid one is reported as
`file:line: message` with a hint, and that a file is replaced only by text that was read back and compared.
"""
