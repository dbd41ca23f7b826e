#!/bin/sh
# What the tests on a real Kafka need beside Python: java and mvn. Installs them on Debian where we are root, says what
# is missing elsewhere. The jars themselves are resolved by mvn at the first test that needs them.
set -eu
missing=""
command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
command -v mvn >/dev/null 2>&1 || missing="$missing maven"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 -- a list of packages
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "tests/prepare.sh: not installed:$missing; tests on a real Kafka are skipped (in CI: fail)" >&2
fi
