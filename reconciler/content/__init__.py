"""content: a directory and its CID, CAR and back.

What it is: CIDs, dag-pb, UnixFS and HAMT by the CID profile `unixfs-v1-2025`; the scan of a source directory
and the two generated files; the one pass that identifies a bundle; the virtual CAR; the bounded CAR reader;
unpacking. May use: the standard library and the ground floor. No network, no index, no target. Promises: the
same files give the same CID and the same CAR bytes everywhere; every block that leaves this room was checked
against its CID; memory does not grow with the size of the files.

The CID rule lives in `profile.py` (the parameters), `unixfs.py` (the nodes), `layout.py` (files) and
`directory.py` (directories).
"""
