#!/usr/bin/env bash
# Installs what is missing on Debian, as root or with sudo; names it otherwise.
# Usage: tests/install.sh servers|clients
set -euo pipefail
missing=()
need() { command -v "$1" > /dev/null || [ -x "$1" ] || missing+=("$2"); }
case ${1:?servers or clients} in
    servers)
        ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 || missing+=(postgresql)
        need psql postgresql-client
        need redis-server redis-server
        # The build of the validation rules calls it.
        need protoc protobuf-compiler
        need cc build-essential
        need setpriv util-linux
        ;;
    clients)
        need python3 python3
        python3 -c 'import ensurepip, venv' > /dev/null 2>&1 || missing+=(python3-venv)
        need node nodejs
        need npm npm
        ;;
esac
command -v cargo > /dev/null || { echo "Rust is missing: install it with rustup (1.95 or newer)" >&2; exit 1; }
[ ${#missing[@]} -eq 0 ] && exit 0
sudo=
if [ "$(id -u)" -ne 0 ]; then
    sudo=$(command -v sudo) || { echo "please install: apt-get install -y ${missing[*]}" >&2; exit 1; }
fi
echo "installing ${missing[*]}"
# Debian starts the servers it installs; ours are private.
printf '#!/bin/sh\nexit 101\n' > /tmp/clientele-policy.$$
trap 'rm -f /tmp/clientele-policy.$$' EXIT
own_policy=
if [ ! -e /usr/sbin/policy-rc.d ]; then
    own_policy=yes
    $sudo install -m 755 /tmp/clientele-policy.$$ /usr/sbin/policy-rc.d
fi
$sudo apt-get update -q > /dev/null || true
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" > /dev/null
if [ -n "$own_policy" ]; then $sudo rm -f /usr/sbin/policy-rc.d; fi
