"""Run the tests in two processes at once: those of real peers, which mostly wait for them, and all others.

    python scripts/run_tests.py [arguments of pytest]

The others are shown as they run, those of real peers when they are done. REQUIRE is for real peers alone. The
exit code is that of a half that failed; a half without a test is none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.support.peer_report import PEERS  # noqa: E402

_NO_TESTS = 5  # what pytest exits with where nothing was selected


def main() -> int:
    """Run both halves; 0 when every test that ran passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-m", dest="markers", metavar="EXPRESSION", help="only tests with these markers")
    given, rest = parser.parse_known_args()
    real = " or ".join(PEERS)
    chosen = f"({given.markers}) and " if given.markers else ""
    without = {name: value for name, value in os.environ.items() if name != "REQUIRE"}
    with tempfile.TemporaryFile() as said:
        peers = subprocess.Popen(_pytest(f"{chosen}({real})", rest), stdout=said, stderr=subprocess.STDOUT)
        others = subprocess.Popen(_pytest(f"{chosen}not ({real})", rest), env=without)
        codes = [_ended(others), _ended(peers)]
        said.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(b"\n" + said.read())
    failed = [code for code in codes if code not in (0, _NO_TESTS)]
    if not failed and set(codes) == {_NO_TESTS}:
        return _NO_TESTS
    return max(failed, default=0)


def _pytest(markers: str, arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", "-m", markers, *arguments]


def _ended(process: subprocess.Popen[bytes]) -> int:
    """How it ended. An interrupt reaches both halves by itself; this one waits until they have told of it."""
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
