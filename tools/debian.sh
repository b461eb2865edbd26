#!/usr/bin/env bash
# Unpacks the servers of a Debian release, for tests on another generation than the machine's own.
#
#   tools/debian.sh RELEASE
#
#   bookworm   RabbitMQ 3.10, Redis 7.0
#   trixie     RabbitMQ 4.0, Redis 8.0, Valkey 8.1, PostgreSQL 17
#
# They go into .services/RELEASE (TEST_SERVICES names another folder than .services), where the tests start
# them in a chroot. Nothing is installed on this machine, no script of a package runs, and no mount is left
# behind: to be rid of it all, delete the folder. What was downloaded is kept until the folder is complete, so
# that a run that was broken off goes on where it was. Exit codes: 0 it is there, 1 it could not be made.
set -euo pipefail
cd "$(dirname "$0")/.."
release=${1:-}

fail() { # what is the matter, what to do
    echo "No servers of Debian ${release:-RELEASE}: $1. $2" >&2
    exit 1
}

case $release in
    bookworm) packages=rabbitmq-server,redis-server ;;
    trixie) packages=rabbitmq-server,redis-server,valkey-server,postgresql-17 ;;
    *) fail "this is not a release that is known here" "Call tools/debian.sh bookworm, or trixie." ;;
esac

services=$(realpath -m "${TEST_SERVICES:-.services}")
target=$services/$release
unpacked() { [ "$(cat "$target/unpacked" 2>/dev/null)" = "$packages" ]; }

unpacked && exit 0
[ "$(uname -s)" = Linux ] || fail "that takes Linux" "Run tools/compose.yaml in Docker."
[ "$(id -u)" -eq 0 ] || fail "that takes root, as chroot does" "Run it with sudo, or tools/compose.yaml in Docker."
unshare --mount true 2>/dev/null ||
    fail "nothing may be mounted here" "In a container, allow it: docker run --privileged."
mkdir -p "$services"
if ! command -v debootstrap >/dev/null; then
    { apt-get update && apt-get install --yes --no-install-recommends debootstrap; } \
        >"$services/debootstrap.log" 2>&1 || fail "debootstrap is missing" "Install the package debootstrap."
fi

exec 9>"$services/lock"
flock 9
unpacked && exit 0 # somebody else was quicker

# Where apt gets Debian's packages from, and through which proxy; elsewhere debootstrap knows a mirror itself.
mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 2>/dev/null |
    awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }' || true)
proxy=$(apt-config dump 2>/dev/null | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p' || true)
[ -z "$proxy" ] || export http_proxy=$proxy

part=$target.part downloads=$services/$release.downloads log=$services/$release.log
echo "Unpacking the servers of Debian $release into $target (a minute or two)"
rm -rf "$part" "$target"
mkdir -p "$downloads"
# Its first stage downloads all that is needed, and unpacks what every Debian has.
debootstrap --foreign --variant=minbase --include="$packages" --cache-dir="$downloads" \
    "$release" "$part" ${mirror:+"$mirror"} >"$log" 2>&1 ||
    fail "debootstrap ended with: $(tail -n 1 "$log")" "See $log; run it again to go on."
for package in "$part"/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar --extract --keep-directory-symlink --directory "$part" ||
        fail "$(basename "$package") cannot be unpacked" "Is the disk full? Run it again to go on."
done
# What this machine's own is mounted over when a server starts. (debootstrap leaves a link at proc.)
rm -rf "$part/proc" "$part/debootstrap" "$part/var/cache/apt"
mkdir "$part/proc"
touch "$part"/etc/{passwd,group,hosts}
echo "$packages" >"$part/unpacked"
mv "$part" "$target"
rm -rf "$downloads"
