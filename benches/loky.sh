#!/usr/bin/env bash
# Installs loky, a peer of the pool, into a virtual environment below target/, where the scoreboard looks for it.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/loky
# Debian has python3 without what a virtual environment needs.
if ! python3 -c 'import ensurepip' 2>/dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv
fi
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check 'loky==3.7.0'
"$venv/bin/python3" -c 'import loky; print("loky", loky.__version__)'
