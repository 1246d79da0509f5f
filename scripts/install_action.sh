#!/usr/bin/env bash
# Create the environment in which action.yml runs: this checkout and its locked requirements, each file checked
# against its hash. A second step of the same job reuses the environment.
set -euo pipefail

python=${RECONCILE_PYTHON:-python3}
checkout=${GITHUB_ACTION_PATH:?the action runs as a step of a workflow}
venv=${RUNNER_TEMP:?the action runs as a step of a workflow}/reconcile-action
locked=run # what a run needs; signing needs more
[[ "${RECONCILE_SIGN:-false}" != true ]] || locked=keyless
requirements=(--requirement "$checkout/requirements/$locked.txt" --requirement "$checkout/requirements/build.txt")

fail() {
  echo "::error title=reconcile::$1"
  exit 1
}

[[ "${RUNNER_OS:-}" != Windows ]] || fail 'this action runs on Linux and macOS'

# -I: never import from the workspace, which may contain files of a pull request
"$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  fail 'this action needs Python 3.11 or newer: run actions/setup-python before it, or name one with the input python'

stamp=$("$python" -I -c '
import hashlib, pathlib, sys
digest = hashlib.sha256(sys.version.encode())
for name in sys.argv[1:]:
    for file in sorted(path for path in pathlib.Path(name).rglob("*") if path.suffix in {".py", ".json", ".txt"}):
        digest.update(f"{file}\0".encode() + file.read_bytes())
print(digest.hexdigest())
' "$checkout/reconciler" "$checkout/requirements" "$checkout/schemas")
stamp="$stamp $locked"
[[ "$(cat "$venv/installed" 2>/dev/null)" != "$stamp" ]] || exit 0

# Use the pip of this Python for the new environment: installing pip there takes seconds.
rm -rf "$venv"
"$python" -I -m venv --without-pip "$venv"
pip=("$python" -I -m pip --python "$venv/bin/python")
if ! "${pip[@]}" --version >/dev/null 2>&1; then
  "$venv/bin/python" -I -m ensurepip >/dev/null 2>&1 ||
    fail 'this Python has neither pip nor ensurepip: run actions/setup-python before the action'
  pip=("$venv/bin/python" -I -m pip)
fi

export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
"${pip[@]}" --quiet install --no-compile --no-deps --require-hashes "${requirements[@]}"
"${pip[@]}" --quiet install --no-compile --no-deps --no-build-isolation "$checkout"
echo "$stamp" >"$venv/installed"
