#!/bin/sh
# Installs the peers that no one here wrote, for the tests and benchmarks that talk to them: Debian
# packages where root runs it, npm packages beside this file. What is there already is left alone.
# What can't be installed is named, and is the exit code; the tests that need it say so again.
set -u
cd "$(dirname "$0")" || exit 1

failed=0
lacking() { # what, why
    echo "PEERS: NOT INSTALLED: $1: $2. THE TESTS THAT NEED IT ARE SKIPPED (with CI=true they fail)." >&2
    failed=1
}

wanted() { # one program:package a line
    cat <<'END'
curl:curl
erlc:erlang-base erlang-dev erlang-diameter
freeDiameterd:freediameter freediameterd
h2load:nghttp2-client
ip:iproute2
nghttp:nghttp2-client
nginx:nginx-light
npm:nodejs npm
openssl:openssl
tshark:tshark
END
}

missing=$(wanted | while IFS=: read -r program package; do
    command -v "$program" >/dev/null 2>&1 || echo "$package"
done)
if command -v erl >/dev/null 2>&1; then
    erl -noshell -eval 'halt(case code:lib_dir(diameter) of {error, _} -> 1; _ -> 0 end).' ||
        missing="$missing erlang-diameter"
fi
missing=$(echo $missing) # in one line
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        lacking "$missing" "only root may, with: apt-get install $missing"
    elif ! command -v apt-get >/dev/null 2>&1; then
        lacking "$missing" "there is no apt-get"
    else
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086 # a list of names
        { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >&2 ||
            lacking "$missing" "apt-get failed"
    fi
fi

if [ package-lock.json -ot node_modules/.package-lock.json ]; then
    : # npm has done it, and nothing has changed since
elif ! command -v npm >/dev/null 2>&1; then
    lacking "the packages of $(pwd)/package.json" "there is no npm"
else
    npm ci --no-audit --no-fund >&2 || lacking "the packages of $(pwd)/package.json" "npm failed"
fi
exit "$failed"
