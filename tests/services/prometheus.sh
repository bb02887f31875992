#!/usr/bin/env bash
# One real Prometheus, for tests. frame.sh says how it is called. It tells
#
#   TRIBUTARY_TEST_PROMETHEUS   its URL
#   PROMTOOL                    the program that checks rules and runs their tests
#
# PROMETHEUS_TARGETS is a file (YAML) that lists what it scrapes, which may change while it runs; PROMETHEUS_RULES is a file
# with rules; PROMETHEUS_INTERVAL is how often it scrapes and evaluates them, 1s if nothing is said.
#
# Needs Go and Python 3.
version=v0.310.0
ports=1
. "$(dirname "${BASH_SOURCE[0]}")/frame.sh"

fetch() {
    # Without the clouds that it could discover targets in, whose clients are most of what there is to build.
    from_go_module "github.com/prometheus/prometheus@$version" remove_all_sd,enable_dns_sd ./cmd/promtool ./cmd/prometheus
}

configure() {
    local every=${PROMETHEUS_INTERVAL:-1s}
    cat >"$root/prometheus.yml" <<EOF
global:
  scrape_interval: $every
  scrape_timeout: $every
  evaluation_interval: $every
rule_files: [${PROMETHEUS_RULES:-}]
scrape_configs:
  - job_name: tributary
    file_sd_configs:
      - files: ['${PROMETHEUS_TARGETS:-$root/targets.yml}']
        refresh_interval: 1s
EOF
    command=("$fetched/prometheus" "--config.file=$root/prometheus.yml" "--storage.tsdb.path=$root/data"
        "--web.listen-address=127.0.0.1:${port[0]}" --log.level=warn)
}

answers() {
    curl -fs --noproxy "*" --max-time 2 "http://127.0.0.1:${port[0]}/-/ready"
}

environment() {
    cat <<END
TRIBUTARY_TEST_PROMETHEUS=http://127.0.0.1:${port[0]}
PROMTOOL=$fetched/promtool
END
}

serve "$@"
