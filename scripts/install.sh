# Sourced by quickstart.sh and test.sh. VENV says where the environment is, PYTHON what makes it (3.11 or newer).

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$ROOT/.venv}
PYTHON=${PYTHON:-python3}

# install_videollm [EXTRA]: the package, editable, with the versions of constraints.txt. Does nothing when it is there
# already, which a copy of what determined it says.
install_videollm() {
    local stamp="$VENV/.videollm${1:+-$1}"
    determined() { echo "$ROOT" && cat "$ROOT/pyproject.toml" "$ROOT/scripts/constraints.txt"; }
    if ! [ -x "$VENV/bin/pip" ]; then
        if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "videollm needs Python 3.11 or newer; set PYTHON to one, $PYTHON is not" >&2
            return 1
        fi
        echo "Making $VENV"
        "$PYTHON" -m venv "$VENV"
    fi
    VENV=$(cd "$VENV" && pwd)
    if ! determined | cmp -s - "$stamp"; then
        echo "Installing (from nothing: about 6 GB and a few minutes)"
        "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
            --constraint "$ROOT/scripts/constraints.txt" --editable "$ROOT${1:+[$1]}"
        determined >"$stamp"
    fi
}
