#!/usr/bin/env bash
# The main job: every record of DATA_DIR through `tributary send` into a fresh `tributary up`, then compared with what
# DuckDB reads; then the same records again with 5 % of them changed. Builds the release binary first.
#
#   tests/main_job.sh DATA_DIR        DATA_DIR/*.ndjson.gz: one record per line
#
# Needs cargo, python3 and, the first time, pip. TMPDIR must have room for about three times the data.
set -euo pipefail
if [ $# -ne 1 ] || [ ! -d "$1" ]; then
    echo "usage: $0 DATA_DIR" >&2
    exit 2
fi
data=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
cargo build --release --package tributary
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
duckdb=$(tests/services/duckdb.sh)
PYTHONPATH="$duckdb" exec python3 tests/main_job.py "$target/release/tributary" "$data"
