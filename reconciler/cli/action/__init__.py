"""action: the step of a GitHub Actions job that action.yml runs as `python -m reconciler.cli.action`.

Inputs come from the environment, never from arguments. Results go where a runner reads them: outputs, step
summary, annotations, and one comment on the pull request. Plans and reports are those of the command line.
"""
