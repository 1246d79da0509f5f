"""loop: the reconciler itself. It loads the index, observes the targets, plans, checks safety, and applies.

A run is a chain of functions over frozen values (`run.py`). Planner and safety rules are pure. The room may
use every room below it and knows no protocol of a target or a forge. It guarantees that nothing changes
before the plan is shown, that the failure of one change never stops the others, and that the plan is empty
after `apply`.
"""
