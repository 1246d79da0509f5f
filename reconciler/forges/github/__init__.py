"""github: proposals through GitHub's API, also GitHub Enterprise.

`forge.py` is the sequence; `git_data.py`, `pulls.py` and `comments.py` each know one part of the API;
`errors.py` what its refusals mean; `access.py` what the token may do; `address.py` where the parts of one
GitHub are.
"""

from reconciler.forges.github.forge import GitHub

__all__ = ["GitHub"]
