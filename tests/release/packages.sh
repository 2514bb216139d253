#!/bin/sh
# Have the Debian packages that `make release-check` uses: installed where that is possible, else said why not.
set -eu

# need FILE PACKAGE WHAT: install PACKAGE unless FILE, which comes with it, is there.
need() {
    file=$1 package=$2 what=$3
    if [ -e "$file" ]; then return; fi
    if ! command -v apt-get >/dev/null; then
        echo "lull: $what will be skipped: there is no apt-get to install $package." >&2
    elif [ "$(id -u)" != 0 ]; then
        echo "lull: $what will be skipped; as root: apt-get install $package" >&2
    else
        echo "lull: installing $package for $what …" >&2
        install "$package" || { apt-get update -qq >/dev/null 2>&1 && install "$package"; } ||
            echo "lull: $what will be skipped: apt-get could not install $package." >&2
    fi
}

# RUNLEVEL=1: no package starts a service of its own.
install() { DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1; }

sh tests/postgres15.sh
sh tests/redis.sh
need /usr/share/postgresql/15/extension/pg_cron.control postgresql-15-cron "the checks of pg_cron"
need /usr/sbin/pgbouncer pgbouncer "the checks of PgBouncer"
