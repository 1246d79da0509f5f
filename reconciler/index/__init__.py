"""index: what git wants.

What it is: the guarded YAML reader, the model of the index, versions and ranges, edits that keep every
comment, records, targets.yaml, and the frozen-CID rule checked against git history.
May use: `content` for CIDs, and the ground floor. Never a target, never the network.
Promises: an index that loads holds; one that does not is told in one line, `file:line: what`, with advice;
a file is replaced only by one that was read back and compared.
"""
