#!/bin/sh
# Implements make backup TO=<new folder> and make restore FROM=<folder> for docker-compose.yaml: docs/operations.md
set -eu

COMPOSE=${COMPOSE:-$(docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)}

fail() {
    echo "ERROR: $1" >&2
    exit 1
}

backup() {
    [ -n "${TO:-}" ] || fail "TO is missing. Run: make backup TO=<new folder>"
    umask 077
    mkdir -p "$(dirname "$TO")"
    mkdir "$TO"
    # A copy of the warehouse is consistent only while nothing writes to it.
    trap '$COMPOSE start scheduler' EXIT
    trap 'exit 130' INT
    $COMPOSE stop scheduler
    $COMPOSE exec -T postgres pg_dump -U tallymark -Fc tallymark >"$TO/metadata.dump"
    $COMPOSE run --rm --no-deps -T set-up tar -C /data -c -f - . >"$TO/warehouse.tar"
    ls -l "$TO"
}

restore() {
    [ -f "${FROM:-}/metadata.dump" ] && [ -f "$FROM/warehouse.tar" ] ||
        fail "FROM is not a folder of make backup: '${FROM:-}'. Run: make restore FROM=<folder>"
    $COMPOSE stop api-server scheduler dag-processor triggerer clean
    $COMPOSE up -d postgres
    until $COMPOSE exec -T postgres pg_isready -q -h 127.0.0.1 -U tallymark; do sleep 1; done
    $COMPOSE exec -T postgres dropdb --if-exists --force -U tallymark tallymark
    $COMPOSE exec -T postgres createdb -U tallymark tallymark
    $COMPOSE exec -T postgres pg_restore -U tallymark -d tallymark --exit-on-error <"$FROM/metadata.dump"
    $COMPOSE run --rm --no-deps -T set-up sh -c 'find /data -mindepth 1 -delete && tar -C /data -x -f -' \
        <"$FROM/warehouse.tar"
    $COMPOSE up -d
}

"$1"
