#!/bin/sh
# Have the Debian packages that `make release-check` uses: installed where that is possible, else said why not.
set -eu
