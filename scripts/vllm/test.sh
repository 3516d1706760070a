#!/usr/bin/env bash
# Run the tests that need a real vLLM (scripts/vllm/setup.sh). They are not in the suite, since vLLM takes minutes to
# start.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../install.sh"

install_videollm dev
[ -x "$ROOT/.venv-vllm/bin/python" ] || bash "$ROOT/scripts/vllm/setup.sh"
cd "$ROOT"
"$VENV/bin/videollm" assets fetch
"$VENV/bin/python" -m pytest -m vllm tests/vllm "$@"
