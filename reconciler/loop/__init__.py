"""loop: the reconciler itself: observe, plan, safety, apply, propose. No protocol detail of any target.

    select.py    index + targets + --only/--exclude -> what is wanted, and where
    sources.py   which bytes this machine has, identified only when the plan needs them
    world.py     everything one run saw, as one frozen value
    observe.py   every target looked at once, side by side; one that is down is unknown, never absent
    plan.py      pure: wanted + observed + identified -> the changes, in order
    removals.py  pure: which pins of ours nothing asks for any more
    safety.py    pure: which plans a run refuses, and the exact override
    apply.py     the changes carried out; one item's failure never stops the others
    propose.py   resolved CIDs and records back to git
    document.py  plan and report as one JSON shape, and the digest of a plan
    run.py       the chain of all of these; lock.py one run at a time

May use: every room below. Promises: nothing is changed before the plan was shown; after `apply` the plan is
empty.
"""
