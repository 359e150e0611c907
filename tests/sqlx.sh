#!/usr/bin/env bash
# Writes the offline data of the checked SQL, one folder per crate, from an empty database.
# Usage: tests/sqlx.sh DATABASE_URL (of a role that may create schemas)
set -euo pipefail
cd "$(dirname "$0")/.."
url=${1:?a Postgres URL of an empty database}
services="profile contact order-history interaction loyalty consent insight"
for service in $services; do
    schema=${service//-/_}
    psql -qX "$url" -c "create schema $schema"
    for file in libs/store/migrations/*.sql "services/$service"/migrations/*.sql; do
        PGOPTIONS="-c search_path=$schema" psql -qX -v ON_ERROR_STOP=1 "$url" -f "$file"
    done
done
check() { # CRATE SCHEMA
    rm -rf "$1/.sqlx"
    mkdir -p "$1/.sqlx"
    touch "$1/src/lib.rs"
    DATABASE_URL="$url?options=-c%20search_path%3D$2" SQLX_OFFLINE_DIR="$PWD/$1/.sqlx" cargo check -q --workspace
}
for service in $services; do check "services/$service" "${service//-/_}"; done
# Everything depends on the libs, so their folders get everyone's statements; those with a home leave.
check libs/feed profile
check libs/store profile
for home in services/*/.sqlx libs/feed/.sqlx; do
    for file in "$home"/*; do
        for lib in libs/store libs/feed; do
            if [ "$home" != "$lib/.sqlx" ]; then rm -f "$lib/.sqlx/$(basename "$file")"; fi
        done
    done
done
for crate in libs/store libs/feed services/*; do
    if [ -d "$crate/.sqlx" ]; then echo "$crate: $(ls "$crate/.sqlx" | wc -l) statements"; fi
done
