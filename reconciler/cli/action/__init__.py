"""action: what action.yml runs in a job of GitHub Actions; `python -m reconciler.cli.action` starts it.

The inputs come from the environment, never from arguments, and the results go where a runner reads them: the
outputs, the step summary, annotations, and one comment on the pull request. What is planned and done is the
loop's, as on the command line.
"""
