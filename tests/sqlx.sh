#!/usr/bin/env bash
# Writes the offline data of the checked SQL, one folder per crate, from a throw-away Postgres.
# Usage: tests/sqlx.sh DATABASE_URL (of a role that may create roles, on an empty database)
set -euo pipefail
cd "$(dirname "$0")/.."
url=${1:?a Postgres URL of an empty database}
for crate in libs/store services/{profile,contact,order-history,interaction,loyalty,consent}; do
    schema=$(basename "$crate" | tr - _)
    if [ "$schema" = store ]; then schema=profile; fi
    for service in profile contact order_history interaction loyalty consent; do
        psql -qX "$url" -c "create schema if not exists $service" 2>/dev/null
    done
    if [ -z "${prepared:-}" ]; then
        for service in profile contact order_history interaction loyalty consent; do
            folder=services/${service//_/-}
            for file in libs/store/migrations/*.sql "$folder"/migrations/*.sql; do
                PGOPTIONS="-c search_path=$service" psql -qX -v ON_ERROR_STOP=1 "$url" -f "$file"
            done
        done
        prepared=yes
    fi
    rm -rf "$crate/.sqlx"
    mkdir -p "$crate/.sqlx"
    touch "$crate/src/lib.rs"
    DATABASE_URL="$url?options=-c%20search_path%3D$schema" SQLX_OFFLINE_DIR="$PWD/$crate/.sqlx" cargo check -q --workspace
    echo "$crate: $(ls "$crate/.sqlx" | wc -l) statements"
done
