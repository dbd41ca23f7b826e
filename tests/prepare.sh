#!/bin/sh
# What the tests need beside Python: java and mvn for a real Kafka, chromium for the pages a browser looks at. Installs
# them on Debian where we are root, says what is missing elsewhere. The jars themselves are resolved by mvn at the first
# test that needs them. The Node-RED example's test needs node 20 and npm too; they are not installed here, because Debian
# 12 has an older one.
set -eu
missing=""
command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
command -v mvn >/dev/null 2>&1 || missing="$missing maven"
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 -- a list of packages
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "tests/prepare.sh: not installed:$missing; tests that need them are skipped (in CI: fail)" >&2
fi
