#!/usr/bin/env bash
# Install videollm, fetch the weights of the default model and ask a question about a video:
# bash scripts/quickstart.sh [VIDEO] [QUESTION]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

video=${1:-$ROOT/scripts/samples/sample.mp4}
question=${2:-What is in this video?}

install_videollm
"$VENV/bin/videollm" assets fetch
printf '\n%s\n> %s\n' "$video" "$question"
"$VENV/bin/videollm" ask "$video" "$question"

cat <<END

Where to go next:
  source $VENV/bin/activate
  videollm chat VIDEO              ask more; follow-up questions are fast
  videollm caption VIDEO --dense   describe each part, with its times
  videollm --help                  everything else; README.md explains it
END
