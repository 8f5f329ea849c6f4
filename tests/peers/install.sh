#!/bin/sh
# Installs the peers that no one here wrote, for the tests that talk to them. Needs root for apt.
# What cannot be installed is named, and the tests that need it say so again when they skip.
set -eu
cd "$(dirname "$0")"

packages="erlang-base erlang-dev erlang-diameter freediameter freediameterd iproute2 openssl tshark"
missing=""
for package in $packages; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "peers: not root, cannot install:$missing" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086 # a list of names
    apt-get install -q -y --no-install-recommends $missing
fi

if ! command -v npm >/dev/null 2>&1; then
    echo "peers: no npm, cannot install the packages of $(pwd)/package.json" >&2
    exit 1
fi
npm ci --no-audit --no-fund
