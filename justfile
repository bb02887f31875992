# `just` lists these.
default:
    @just --list --unsorted

# Everything in one process, on ./data
up *ARGS:
    cargo run --release -- up {{ARGS}}

# The README's test command
test *ARGS:
    cargo test --workspace {{ARGS}}

# The tests that need real servers, which are fetched, started and stopped
test-cluster *ARGS:
    tests/cluster.sh {{ARGS}}

# The Prometheus rules, their tests and their paragraphs; with --fire each alert on a running system
alerts-check *ARGS:
    tests/alerts.sh {{ARGS}}

# Dockerfile, compose file and manifests against their published schemas
docker-check:
    docker/check.sh

fmt:
    cargo fmt

lint:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings

# All of CI
ci:
    .ci/run

# One fuzz target (see fuzz/fuzz_targets), for so many seconds; needs cargo-fuzz
fuzz TARGET SECONDS="900":
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{TARGET}} -- -max_total_time={{SECONDS}} -rss_limit_mb=2048 -max_len=65536

bench *ARGS:
    cargo run --release -p tributary-benches -- {{ARGS}}

# The real records through `send` into a fresh `up`, read back with DuckDB
main-job *ARGS:
    tests/main_job.sh {{ARGS}}

# The same on a cluster of its own, through ten minutes of faults
cluster-job *ARGS:
    tests/cluster_job.sh {{ARGS}}
