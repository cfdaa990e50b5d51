#!/usr/bin/env bash
# Runs tests/interop.rs against Python's `websockets`, in a virtualenv under target/. Where that can't be made, it says so
# and succeeds: the check needs Python and the network, and nothing else here does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${CARGO_TARGET_DIR:-target}/interop-venv
log=$(mktemp)
trap 'rm -f "$log"' EXIT

skip() {
    tail -n 3 "$log" >&2
    echo "skipped: $1"
    exit 0
}

command -v python3 >/dev/null || skip "there is no python3"
wanted=$(cat interop/requirements.txt)
if [ "$("$venv/bin/python" -m pip freeze 2>/dev/null | grep '^websockets==' || true)" != "$wanted" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv" >"$log" 2>&1 || skip "python3 makes no virtualenv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement interop/requirements.txt \
        >"$log" 2>&1 || skip "$wanted does not install"
fi

HPX_INTEROP_PYTHON=$(cd "$venv/bin" && pwd)/python cargo test --test interop -- --nocapture
