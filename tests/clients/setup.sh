#!/usr/bin/env bash
# Makes the Python environment of the client tests. Does nothing when it is up to date.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${ANTUMBRA_VENV:-$HOME/.cache/antumbra/venv}
wanted=$(sha256sum <"$here/requirements.txt")

if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/installed" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
if [ -n "${NO_INSTALL:-}" ]; then
  echo "missing: the Python clients. Run without NO_INSTALL: tests/clients/setup.sh" >&2
  exit 1
fi
echo "installing: Python clients into $venv"
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
  --requirement "$here/requirements.txt"
echo "$wanted" >"$venv/installed"
