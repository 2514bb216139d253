#!/bin/sh
# Have Debian's Postgres 15 binaries for the SQL suite: installed where that is possible, else said why not.
# The package would also create and start a server of its own: that is prevented while it is installed.
set -eu
if [ -x /usr/lib/postgresql/15/bin/postgres ]; then exit 0; fi

skip() {
    echo "lull: tests on Postgres 15 will be skipped: $*" >&2
    exit 0
}

command -v apt-get >/dev/null || skip "it is not installed, and there is no apt-get to install it."
[ "$(id -u)" = 0 ] || skip "it is not installed; as root: apt-get install postgresql-15"

export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1; }

echo "lull: installing postgresql-15 for the SQL suite …" >&2
apt-cache show postgresql-15 >/dev/null 2>&1 || apt-get update -qq >/dev/null 2>&1 || true
apt-cache show postgresql-15 >/dev/null 2>&1 || skip "this system has no package postgresql-15."
install postgresql-common || { apt-get update -qq >/dev/null 2>&1 && install postgresql-common; } ||
    skip "apt-get could not install postgresql-common."
settings=/etc/postgresql-common/createcluster.conf
echo "create_main_cluster = false # by lull" >>"$settings"
trap 'sed -i "/# by lull$/d" "$settings"' EXIT
install postgresql-15 || skip "apt-get could not install postgresql-15."
