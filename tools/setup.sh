#!/bin/sh
# Makes a virtual environment with everything from the lock file. Usage: tools/setup.sh FOLDER
set -eu
venv=$1
python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 && "$python" -c 'import ensurepip, venv' 2>/dev/null || sh tools/debian.sh setup
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Litfass needs Python 3.11 or newer; this is $("$python" --version)" >&2
    exit 1
}
echo "Setting up $venv (about half a minute) ..."
"$python" -m venv --clear "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
