#!/usr/bin/env bash
# Installs the servers that the tests start themselves, PostgreSQL, Redis and RabbitMQ, and what their clients
# run in: Chromium, for the page of examples/summaries, and Node.js, for examples/clients.
#
#   tools/services.sh [PYTHON]
#
# Only programs are needed. The tests run them on free ports in temporary folders, so no system daemon has to
# run, and none is started here. Exit codes: 0 all there, 1 something is missing and could not be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
all="PostgreSQL, Redis, RabbitMQ, Chromium and Node.js are installed."

missing() { "$python" tests/support/binaries.py; }

absent=$(missing) && { echo "$all"; exit 0; }
echo "Not installed: ${absent//$'\n'/, }"

as_root=()
can_install=yes
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
    sudo -n true 2>/dev/null || can_install=no
fi
command -v apt-get >/dev/null || can_install=no

packages=()
for name in $absent; do
    case $name in
        PostgreSQL) packages+=(postgresql) ;;
        Redis) packages+=(redis-server) ;;
        RabbitMQ) packages+=(rabbitmq-server) ;;
        Chromium) packages+=(chromium) ;;
        Node.js) packages+=(nodejs) ;;
    esac
done

if [ "$can_install" = yes ]; then
    # Debian starts a daemon as soon as it is installed, unless this file says no (exit code 101).
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap '"${as_root[@]}" rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
        "${as_root[@]}" chmod +x $policy
    fi
    echo "Installing Debian's packages: ${packages[*]} (a minute or two)"
    "${as_root[@]}" apt-get update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "${packages[@]}"
    absent=$(missing) && { echo "$all"; exit 0; }
    echo "Still not installed: ${absent//$'\n'/, }" >&2
    exit 1
fi

cat >&2 <<TEXT

They cannot be installed from here: that takes apt-get, and root or sudo without a password.
Install them by hand, then run make again:

    Debian, Ubuntu   sudo apt-get install ${packages[*]}
    macOS            brew install postgresql@17 redis rabbitmq chromium node
    elsewhere        any PostgreSQL >= 15, Redis >= 6.2, RabbitMQ >= 3.10, Chromium and Node.js >= 18; where
                     they are not found, set TEST_POSTGRES_BIN (a folder), TEST_REDIS_SERVER,
                     TEST_RABBITMQ_SERVER, TEST_CHROMIUM, TEST_NODE (programs)
TEXT
if docker info >/dev/null 2>&1; then
    cat >&2 <<'TEXT'

A Docker engine answers. Servers in containers would not do, since the tests kill, pause and empty the server
processes, but the whole run fits into one container, with nothing installed on this machine:

    make test-docker
TEXT
fi
exit 1
