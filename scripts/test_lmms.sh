#!/usr/bin/env bash
# Run the tests that need lmms-eval, in an environment of its own, since lmms-eval asks for an older av than ours.
set -euo pipefail
SCRIPTS=$(dirname "${BASH_SOURCE[0]}")
VENV=${VENV:-$SCRIPTS/../.venv-lmms}
source "$SCRIPTS/install.sh"

install_videollm dev,lmms
"$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --quiet --no-deps \
    --constraint "$ROOT/scripts/constraints.txt" lmms-eval
cd "$ROOT"
"$VENV/bin/python" -m pytest tests/evaluate/test_lmms.py "$@"
