#!/bin/sh
# Have Chromium for the browser tests: installed where that is possible, else said why not.
set -eu
for name in chromium google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if ! command -v apt-get >/dev/null; then
    echo "lull: browser tests will be skipped: there is no Chromium, and no apt-get to install it." >&2
elif [ "$(id -u)" != 0 ]; then
    echo "lull: browser tests will be skipped; as root: apt-get install chromium" >&2
else
    echo "lull: installing chromium for the browser tests (100 MB, once) …" >&2
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1 ||
        { apt-get update -qq >/dev/null 2>&1 &&
            apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1; } ||
        echo "lull: browser tests will be skipped: apt-get could not install chromium." >&2
fi
