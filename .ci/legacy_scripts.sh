#!/bin/sh
# Load dataset_scripts/*.py as genuine loading scripts under datasets 3.6, the last line that runs scripts.
# Usage: .ci/legacy_scripts.sh VENV      (VENV is made when it is not there; it holds nothing else)
set -eu
venv=${1:?usage: .ci/legacy_scripts.sh VENV}
here=$(cd "$(dirname "$0")" && pwd)
if ! "$venv/bin/python" -c 'import datasets; assert datasets.__version__ == "3.6.0"' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "datasets==3.6.0" numpy pillow
fi
exec "$venv/bin/python" "$here/check_legacy_script.py"
