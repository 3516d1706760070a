# Sourced by the other scripts. VENV is the directory of the virtual environment, PYTHON the interpreter that creates it
# (3.11 or newer).

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$ROOT/.venv}
PYTHON=${PYTHON:-python3}

# install_videollm [EXTRA] installs the package, editable, with the versions of constraints.txt. A stamp in the
# environment holds a copy of the files that determine the result; while they are unchanged, the function does nothing.
install_videollm() {
    local stamp="$VENV/.videollm${1:+-$1}"
    inputs() { echo "$ROOT" && cat "$ROOT/pyproject.toml" "$ROOT/scripts/constraints.txt"; }
    if ! [ -x "$VENV/bin/pip" ]; then
        if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "videollm needs Python 3.11 or newer; set PYTHON to one, $PYTHON is not" >&2
            return 1
        fi
        echo "Making $VENV"
        "$PYTHON" -m venv "$VENV"
    fi
    VENV=$(cd "$VENV" && pwd)
    if ! inputs | cmp -s - "$stamp"; then
        echo "Installing (from nothing: about 6 GB and a few minutes)"
        "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
            --constraint "$ROOT/scripts/constraints.txt" --editable "$ROOT${1:+[$1]}"
        inputs >"$stamp"
    fi
}
