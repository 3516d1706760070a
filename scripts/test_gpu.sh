#!/usr/bin/env bash
# Check every command on one GPU, within 8 minutes, and print tokens/s, MFU and peak memory. Arguments go to
# scripts/gpu_checks.py: bash scripts/test_gpu.sh --only ask serve --json gpu.json
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

install_videollm dev
cd "$ROOT"
export PATH="$VENV/bin:$PATH"
exec python scripts/gpu_checks.py "$@"
