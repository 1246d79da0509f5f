"""forges: proposals to git, as a local branch or as a pull request on GitHub, GitLab or Gitea.

May use: `net` for HTTP, `git` for commands on repositories, and the ground modules. Never the index: a forge
receives paths and bytes.

Guarantees: every call is idempotent; a person's commit is never overwritten; nothing is posted twice; the
work tree and the index of the local repository are never changed; no token appears in a URL, an argument, a
file or a log.
"""
