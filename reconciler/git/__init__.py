"""The one runner of git, and what is built on it without knowledge of models, forges or indexes.

The room may use `errors` only. It guarantees that every git command of the package runs with the same
hardening, ends within a time limit, and fails with one typed error, `GitError`.
"""
