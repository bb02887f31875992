#!/usr/bin/env bash
# Prints the directory with DuckDB and the extensions that read Delta tables on S3, for PYTHONPATH; the first time it is
# installed there. Needs Python 3 with pip.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=1.5.5
fetched=$here/../../target/services/fetched
mkdir -p "$fetched"
place=$(cd "$fetched" && pwd)/duckdb-$version
exec 9>"$place.lock"
flock 9
if [ ! -e "$place/complete" ]; then
    echo "duckdb.sh: installing DuckDB $version" >&2
    # The last is what DuckDB's Python client reads times with a zone by.
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade --target "$place" \
        "duckdb==$version" "duckdb-extensions==$version" "duckdb-extension-delta==$version" \
        "duckdb-extension-httpfs==$version" pytz==2025.2 >&2
    touch "$place/complete"
fi
echo "$place"
