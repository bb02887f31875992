#!/usr/bin/env bash
# The tests that need real servers: fetches and starts those of tests/services, runs the tests, stops the servers, also
# when a test has failed. Arguments go to the tests: `tests/cluster.sh kills::` runs those of that name. With `--untimed` as the
# first of them, those that compare seconds are left out, and the alerts are not fired.
set -euo pipefail
cd "$(dirname "$0")/.."

services=(kafka cassandra minio)
places=${TRIBUTARY_SERVICES:-target/services}
# Always these, and always of the whole workspace, so that nothing is compiled twice. .ci/run lints with the same.
features=tributary/cluster,tributary-backends/conformance,tributary-pipeline/services
targets=(--lib --test kafka --test cql --test e2e)

timed=yes
if [ "${1:-}" = --untimed ]; then
    timed=
    shift
fi

# Tells all servers the same at once.
all() {
    local service told=()
    for service in "${services[@]}"; do
        "tests/services/$service.sh" "$1" >/dev/null &
        told+=($!)
    done
    for service in "${told[@]}"; do wait "$service"; done
}

finish() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        for service in "${services[@]}"; do tail -vn 20 "$places/$service/server.log" >&2 || true; done
    fi
    all stop
}

run() {
    cargo test --workspace --features "$features" "$@"
}

all fetch &
fetching=$!
run --no-run "${targets[@]}"
wait "$fetching"

trap finish EXIT
begun=$SECONDS
all start
took=$((SECONDS - begun))
echo "cluster.sh: the servers took $took s to start"
[ "$took" -lt 60 ] || { echo "cluster.sh: that is too long" >&2; exit 1; }
for service in "${services[@]}"; do
    while IFS= read -r variable; do export "${variable?}"; done <"$places/$service/env"
done

# The ports, each implementation held to the same suite, and what is its own.
run --test kafka --test cql -- "$@"
# The lake and the lanes on the object store, and what they do when it fails.
run --lib -- lake:: tests::exactly_once tests::faults tests::whole "$@"
# The binary: everything that holds on one machine, and fleets of processes. They wait for sessions and leases that end more
# than they compute, so many go on at once.
export TRIBUTARY_TEST_WORLD=cluster
run --test e2e -- --test-threads=3 "$@"
[ -n "$timed" ] && [ $# -eq 0 ] || exit 0
# These compare seconds, so nothing else goes on meanwhile.
run --test e2e -- --ignored fleet::lag
env -u TRIBUTARY_TEST_WORLD tests/alerts.sh --fire
