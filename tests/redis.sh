#!/bin/sh
# Have redis-server for the tests of user sessions: installed where that is possible, else said why not.
set -eu
if command -v redis-server >/dev/null; then exit 0; fi
if ! command -v apt-get >/dev/null; then
    echo "lull: tests on Redis will be skipped: there is no redis-server, and no apt-get to install it." >&2
elif [ "$(id -u)" != 0 ]; then
    echo "lull: tests on Redis will be skipped; as root: apt-get install redis-server" >&2
else
    echo "lull: installing redis-server for the tests …" >&2
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get install -y -qq --no-install-recommends redis-server >/dev/null 2>&1 ||
        { apt-get update -qq >/dev/null 2>&1 &&
            apt-get install -y -qq --no-install-recommends redis-server >/dev/null 2>&1; } ||
        echo "lull: tests on Redis will be skipped: apt-get could not install redis-server." >&2
fi
