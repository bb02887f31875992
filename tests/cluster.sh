#!/usr/bin/env bash
# The tests that need real servers: starts each of tests/services on free ports, runs the tests, stops the servers.
# Arguments go to the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

services=(kafka cassandra minio)
trap 'for service in "${services[@]}"; do "tests/services/$service.sh" stop || true; done' EXIT

for service in "${services[@]}"; do
    environment=$("tests/services/$service.sh" start)
    set -a
    eval "$environment"
    set +a
done
echo "cluster.sh: Kafka at $TRIBUTARY_TEST_KAFKA, CQL at $TRIBUTARY_TEST_CQL, S3 at $AWS_ENDPOINT_URL"
# With --workspace, so that what `cargo test --workspace` has compiled serves here too.
features=tributary-backends/kafka,tributary-backends/cql,tributary-backends/conformance
cargo test --workspace --features "$features" --test kafka --test cql -- "$@"
# The lake and the lanes on the object store, and what they do when it fails.
cargo test --workspace --features "$features,tributary-pipeline/services" \
    --lib -- lake:: tests::exactly_once tests::faults tests::whole "$@"
# The binary, with its log on Kafka and the rest in a directory.
TRIBUTARY_TEST_WORLD=kafka cargo test --workspace --features tributary/cluster,tributary-backends/conformance \
    --test e2e -- "$@"
