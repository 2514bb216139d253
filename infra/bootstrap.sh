#!/bin/sh
# Make .venv from any Python >= 3.11 and install the given requirement files into it; do nothing when that was done.
# Usage: sh infra/bootstrap.sh requirements.txt [more.txt …]     (PYTHON=… chooses the interpreter)
set -eu
cd "$(dirname "$0")/.."
unset PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX

say() { echo "lull: $*" >&2; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if is_recent "$name"; then
            command -v "$name"
            return
        fi
    done
    say "no Python 3.11 or newer is on PATH (looked for ${PYTHON:-python3, python3.14, …, python3.11})."
    say "Install one (Debian: apt-get install python3; Mac: brew install python), or name it: make … PYTHON=/path/to/python3"
    return 1
}

# Debian and Ubuntu ship Python without ensurepip, in a package of its own.
ensure_venv_module() {
    if "$1" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $package …"
        export DEBIAN_FRONTEND=noninteractive
        if apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1; then return; fi
        apt-get update -qq >/dev/null
        if apt-get install -y -qq --no-install-recommends "$package" >/dev/null; then return; fi
    fi
    say "$1 cannot make virtual environments: its module ensurepip is missing."
    say "Debian and Ubuntu: apt-get install $package (or python3-venv); then try again."
    return 1
}

# A .venv is made anew when its Python has gone (an upgrade, a moved folder) or making it was interrupted.
if ! { is_recent .venv/bin/python && .venv/bin/python -m pip --version; } >/dev/null 2>&1; then
    python=$(find_python)
    ensure_venv_module "$python"
    say "making .venv with $("$python" --version) …"
    rm -rf .venv
    "$python" -m venv .venv
fi

# The stamp holds what was installed; other content, other packages.
for file in "$@"; do
    stamp=.venv/installed-$(echo "$file" | tr / -)
    if ! cmp -s "$file" "$stamp"; then missing="${missing:-} $file"; fi
done
if [ -n "${missing:-}" ]; then
    say "installing$missing …"
    # One file at a time: pip takes files with hashes and files without them in separate runs only.
    for file in $missing; do
        .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input -r "$file" >&2
        cp "$file" ".venv/installed-$(echo "$file" | tr / -)"
    done
fi
