"""forges: how a proposal reaches git.

What it is: `interface.py` holds the protocol and its data types; `branch.py` commits to a branch of the
repository at hand; `github/`, `gitlab.py` and `gitea.py` open pull requests by API; `git_remote.py` pushes
with options where there is no API at hand. `ownership.py` tells our commits from a person's.
May use: `net` for HTTP, GitPython, and the ground floor. Never the index: a forge gets paths and bytes.
Promises: every call is idempotent; a person's commit is never overwritten; nothing is posted twice; the
working tree and the index of the repository at hand are never touched; no token in an address, an argument, a
file or a log.
"""
