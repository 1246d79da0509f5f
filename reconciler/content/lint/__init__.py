"""lint: what should not enter a release, found by names and headers before any file is read in full.

A published version cannot be taken back, so its files are examined once, before it has a CID: placeholders in
place of weights, incomplete sets of files, repositories and credentials, and weights that loaders reject.
`files.py` offers the files of a directory or a DAG, `examine.py` applies every check to them.

Guarantees: nothing is executed or unpickled; each file costs a bounded number of bytes, whatever its headers
declare; no malformed file raises.
"""
