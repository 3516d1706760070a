#!/usr/bin/env bash
# Run every check of the project: lint, format, types, import contracts, tests. Arguments are passed to pytest and
# replace the whole suite: bash scripts/test.sh -m fast, or bash scripts/test.sh tests/video -k rotation
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

# The tests of the page drive Chromium, and those of spoken words espeak-ng. Without them they are skipped, but under CI
# they fail.
if { ! command -v chromium || ! command -v espeak-ng; } >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-wqy-microhei espeak-ng ||
        echo "chromium or espeak-ng could not be installed" >&2
fi

install_videollm dev
cd "$ROOT"
export PATH="$VENV/bin:$PATH"

status=0
check() {
    printf '\n== %s\n' "$*"
    "$@" || status=1
}

check ruff check
check ruff format --check
check basedpyright --pythonpath "$VENV/bin/python"
check lint-imports --no-logo
check videollm assets fetch
if [ $# -gt 0 ]; then
    check pytest "$@"
else
    # A process takes up to 2 GB of memory, so there are at most four. The tests of a file share its fixtures
    # (loadfile).
    check pytest -q --numprocesses logical --maxprocesses 4 --dist loadfile
fi
exit $status
