"""content: directories as DAGs of blocks with one root CID, and DAGs as CARs and pieces.

CIDs, dag-pb, UnixFS and HAMT by the CID profile `unixfs-v1-2025`; the scan of a source directory and the two
generated files; the single pass that identifies a bundle; CARs, written without a second copy of the data and
read within bounds; piece CIDs.

May use the standard library and the ground floor: no network, no index, no target.

Guarantees: the same files give the same CID and the same CAR bytes everywhere; every block that leaves this
room was checked against its CID, unless the caller asked for `read_unverified`; memory does not grow with the
size of the files.
"""
