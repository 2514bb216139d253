#!/bin/sh
# Write requirements.txt (what is deployed) and infra/requirements.txt (what runs on your own machine) from their .in files:
# every package with its version and hashes, for every platform and every Python from 3.11. Versions stay as they are in
# the files that exist, unless --upgrade or --upgrade-package NAME is given. Usage: make lock [ARGS=--upgrade]
set -eu
cd "$(dirname "$0")/.."

lock() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

lock infra/requirements.in --output-file requirements.txt "$@"
lock infra/local.in --constraint requirements.txt --output-file infra/requirements.txt "$@"
