#!/usr/bin/env bash
# The whole job on a cluster of its own: real Kafka, Cassandra and MinIO, 2 × `serve`, 3 × `pipeline`, all records of
# DATA_DIR sent twice, the second time with 5 % of them changed, while processes, servers and networks fail at seeded
# moments. At the end DuckDB reads the table from S3 and finds exactly what was sent last.
#
#   tests/cluster_job.sh DATA_DIR [SECONDS]     SECONDS of sending, 600 by default; TRIBUTARY_KILL_SEED chooses the faults
#
# DATA_DIR has files of records, .ndjson.gz.
set -euo pipefail

[ $# -ge 1 ] || {
    echo "usage: tests/cluster_job.sh DATA_DIR [SECONDS]" >&2
    exit 2
}
TRIBUTARY_JOB_DATA=$(cd "$1" && pwd)
export TRIBUTARY_JOB_DATA TRIBUTARY_JOB_SECONDS=${2:-600} TRIBUTARY_TEST_WORLD=cluster
cd "$(dirname "$0")/.."
# Those of the store are the same for every server that the scripts start.
export AWS_ACCESS_KEY_ID=tributary AWS_SECRET_ACCESS_KEY=test-password AWS_REGION=us-east-1 AWS_ALLOW_HTTP=true
# DuckDB loads what it needs for S3 when there is an endpoint; which one it asks is told for each lake.
export AWS_ENDPOINT_URL=http://127.0.0.1:1
cargo test --workspace --features tributary/cluster,tributary-backends/conformance,tributary-pipeline/services --test e2e -- \
    --ignored --nocapture fleet::job
