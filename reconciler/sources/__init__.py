"""sources: the files of a version where they really are, listed and read in ranges.

Local directories and CARs, Hugging Face repositories, Git LFS, lists of files over HTTP, and object stores,
behind one interface. The room may use `content`, `net`, `git` and the ground modules; it knows no index and
no target: `loop` turns what the index and `releases/sources.yaml` declare into a `SourceDefinition`. It
guarantees that a listing has only paths that a bundle may have, that a read gives exactly the requested bytes
of the listed file or a typed error, that a secret goes only to the host and port that it was given for, and
that nothing is written. Reading does not verify digests: the reader does, with `verify.ContentVerifier`.
"""
