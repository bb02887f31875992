#!/usr/bin/env bash
# What tells operators: checks the Prometheus rules, runs their tests, and sees to it that each alert has a test in which it
# fires, one in which it does not, a fault in tests/e2e that fires it, and a paragraph in docs/OPERATIONS.md that begins with a
# command.
#
# With `--fire` also: fires each alert by causing its fault on a running system, with a real Prometheus for which time runs ten
# times as fast, and runs every query of the dashboard. Needs what tests/cluster.sh needs. Further arguments go to
# these tests: `tests/alerts.sh --fire --exact alerts::faults::a_disk_that_fills`.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/services/prometheus.sh fetch
promtool=$PWD/target/services/fetched/prometheus-v0.310.0/promtool
cd docker/prometheus
"$promtool" check config --syntax-only prometheus.yml
"$promtool" check rules rules.yaml
"$promtool" test rules rules_test.yaml
cd ../..

missing=
# Says what is missing unless the second pattern is found in what the lines that match the first one begin.
needs() {
    grep -A "$3" -e "$1" "$4" | grep -qe "$2" && return
    echo "alerts.sh: $alert $5" >&2
    missing=yes
}
for alert in $(sed -n 's/^ *- alert: //p' docker/prometheus/rules.yaml); do
    tests=docker/prometheus/rules_test.yaml
    needs "alertname: $alert\$" 'exp_labels' 4 "$tests" "has no test in which it fires"
    needs "alertname: $alert," 'exp_alerts: \[\]' 0 "$tests" "has no test in which it does not fire"
    needs "^### $alert\$" '^`' 2 docs/OPERATIONS.md "has no paragraph that begins with a command"
    grep -rqF "\"$alert\"" tests/e2e || { echo "alerts.sh: $alert is not fired by tests/e2e" >&2; missing=yes; }
done
[ -z "$missing" ] || exit 1
echo "alerts.sh: all alerts have their tests and their paragraphs"
[ "${1:-}" = --fire ] || exit 0
shift

# The same features as always, so that nothing is compiled twice.
features=tributary/cluster,tributary-backends/conformance,tributary-pipeline/services
cargo test --workspace --features "$features" --test e2e alerts:: -- --ignored --test-threads=8 "$@"
