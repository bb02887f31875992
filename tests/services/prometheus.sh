#!/usr/bin/env bash
# One real Prometheus, for tests. frame.sh says how it is called. It tells
#
#   TRIBUTARY_TEST_PROMETHEUS   its URL
#   PROMTOOL                    the program that checks rules and runs their tests
#
# PROMETHEUS_TARGETS is a file (YAML) that lists what it scrapes, which may change while it runs; PROMETHEUS_RULES is a file
# with rules; PROMETHEUS_INTERVAL is how often it scrapes and evaluates them, 1s if nothing is said.
#
# Needs Python 3 and Debian's package `prometheus`: installed, or to be had with apt-get.
version=debian
ports=1
. "$(dirname "${BASH_SOURCE[0]}")/frame.sh"

fetch() {
    if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
        ln -s "$(command -v prometheus)" "$(command -v promtool)" "$fetched/"
        return
    fi
    need apt-get "install Prometheus with promtool, so that both are in PATH"
    # The lists of packages may be out of date, or not there at all.
    (cd "$fetched" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; }) \
        >"$fetched/apt.log" 2>&1 || fail "cannot fetch it: apt-get install prometheus; see $fetched/apt.log"
    dpkg-deb --extract "$fetched"/prometheus_*.deb "$fetched/package"
    ln -s package/usr/bin/prometheus package/usr/bin/promtool "$fetched/"
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
