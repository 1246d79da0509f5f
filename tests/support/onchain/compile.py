"""Compile OnchainCloud.sol to OnchainCloud.hex, the creation code that the tests deploy.

    npm install --ignore-scripts solc@0.8.30     # in a scratch directory
    python tests/support/onchain/compile.py SCRATCH [--check]

It needs the compiler only when the contract changes, so neither is installed for the tests.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
SOURCE, CODE = HERE / "OnchainCloud.sol", HERE / "OnchainCloud.hex"
SETTINGS = {
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 1},
    "evmVersion": "paris",
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["evm.bytecode.object"]}},
}


def compiled(scratch: Path) -> str:
    """Return the creation code as lines of hexadecimal digits."""
    task = {
        "language": "Solidity",
        "sources": {SOURCE.name: {"content": SOURCE.read_text()}},
        "settings": SETTINGS,
    }
    solc = scratch / "node_modules/.bin/solcjs"
    with tempfile.TemporaryFile("w+") as printed:  # solcjs does not finish writing to a pipe
        subprocess.run(
            [solc, "--standard-json"], input=json.dumps(task), stdout=printed, text=True, check=True
        )
        printed.seek(0)
        text = printed.read()
    answer = json.loads(text[text.index("{") :])
    if problems := [
        each["formattedMessage"] for each in answer.get("errors", []) if each["severity"] == "error"
    ]:
        raise SystemExit("\n".join(problems))
    code = answer["contracts"][SOURCE.name]["OnchainCloud"]["evm"]["bytecode"]["object"]
    return "\n".join(textwrap.wrap(code, 120)) + "\n"


def main() -> int:
    """Write the code, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scratch", type=Path, help="the directory with node_modules")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args()
    code = compiled(options.scratch)
    if options.check:
        return int(code != CODE.read_text())
    CODE.write_text(code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
