"""Declarative GitOps for AI model weights on IPFS and Filecoin.

Git says which versions of which models must exist, and under which CID. The reconciler looks at where the
bytes really are, shows the difference, and closes it. The rooms, from the ground up; imports point down only:

    errors, progress      the exception tree; what long work reports
    content, net          directory <-> blocks <-> CAR; the one HTTP layer
    index, forges         what git wants; where pull requests are opened
    targets               places that hold bundles, behind one small interface
    loop                  observe, plan, safety, apply, propose
    render                plan and report as text, JSON and Markdown
    cli                   flags -> objects -> exit code
"""

__version__ = "0.1.0"
