#!/usr/bin/env bash
# Run vLLM with a model, and our server on top of it: bash scripts/vllm/serve.sh MODEL [OPTION OF videollm serve ...].
# MODEL is what `videollm export` wrote, or the directory or hub id of a video model of transformers. VLLM_PORT is the
# port of vLLM (8001). VLLM_OPTIONS holds further options of vLLM, such as "--tensor-parallel-size 2". Both servers end
# when one of them ends.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=${VENV:-$ROOT/.venv}
VENV_VLLM=${VENV_VLLM:-$ROOT/.venv-vllm}
port=${VLLM_PORT:-8001}

model=${1:?give the directory that videollm export wrote, or a video model of transformers}
shift
told=$("$VENV/bin/python" "$ROOT/scripts/vllm/options.py" "$model")
mapfile -t options <<<"$told"

# On a CPU: the memory of the KV cache in GiB, and small blocks, since two prompts share only whole blocks.
export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-2}
cpu=()
nvidia-smi >/dev/null 2>&1 || cpu=(--block-size 32)

# Run vLLM, and start it again when it was killed by a signal (status above 128), but not when it refuses to start. It
# runs as a module, since the command `vllm` fails where torchvision is missing.
run_vllm() {
    local status=137
    while [ $status -gt 128 ]; do
        status=0
        # shellcheck disable=SC2086  # several options in one variable
        "$VENV_VLLM/bin/python" -m vllm.entrypoints.openai.api_server "${options[@]}" \
            --host 127.0.0.1 --port "$port" --enable-prompt-tokens-details \
            --generation-config vllm "${cpu[@]}" ${VLLM_OPTIONS:-} || status=$?
        echo "vLLM ended with status $status" >&2
    done
    return $status
}

set -m # gives each server a process group of its own, so that it can be ended with its children
run_vllm &
vllm=$!
"$VENV/bin/python" -m serve --model "$model" --engine vllm --vllm-url "http://127.0.0.1:$port" "$@" &
server=$!
set +m
trap 'kill -- -$vllm -$server 2>/dev/null; wait' EXIT
trap 'exit 0' INT TERM
wait -n
