"""targets: the places that keep bundles, behind one interface.

May use: `index` for the entries of targets.yaml, `content` for DAGs, `deals` for the deals of pieces, `net`
for HTTP, and the ground floor.
Guarantees: every kind fulfils the contract of `targets.interface`; the suite in tests/conformance/ checks it.
A kind is declared in schemas/targets.schema.json and implemented by a module of this room with a function
`open_target`; docs/how-to-add-a-target.md lists the steps.
"""
