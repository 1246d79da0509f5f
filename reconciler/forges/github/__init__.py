"""github: proposals through the APIs of GitHub and GitHub Enterprise.

May use: what `forges` may use. Guarantees: a branch moves only by compare-and-swap (GraphQL updateRefs with
`beforeOid`), which the REST API cannot do; commits name no author, so that GitHub signs those of bots and
Apps.
"""

from reconciler.forges.github.host import github

__all__ = ["github"]
