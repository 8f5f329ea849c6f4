#!/bin/sh
# The peers that the N5g-eir tests and bench drive: curl, nghttp and h2load.
set -eu
if command -v curl >/dev/null && command -v nghttp >/dev/null && command -v h2load >/dev/null; then
    exit 0
fi
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends curl nghttp2-client
