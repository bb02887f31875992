#!/usr/bin/env bash
# One real MinIO server (S3) on a port of the system's choice, for tests.
#
#   tests/services/minio.sh start    build what is missing, start, wait until it answers; does nothing when it runs
#   tests/services/minio.sh stop     stop it (SIGTERM) and remove its data
#   tests/services/minio.sh pause    stop it (SIGTERM), keep data and port for the next start
#   tests/services/minio.sh kill     SIGKILL, keep data and port for the next start
#
# A server is kept in target/services/minio, or in $TRIBUTARY_SERVICES/minio, so that a test can have one to itself.
# The file `env` in there, which `start` also prints, has one to a line:
#
#   TRIBUTARY_TEST_S3           URL of a lake in a bucket of this server
#   AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ALLOW_HTTP
#                               what a client needs to get there
#   MINIO_PID                   its process id
#
# Needs Go and Python 3. The first start compiles MinIO, which takes minutes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Its releases are not named in a way that Go understands; this is the last one.
version=v0.0.0-20260212201848-7aac2a2c5b7c
bucket=tributary
fetched=$here/../../target/services/fetched
mkdir -p "$fetched" "${TRIBUTARY_SERVICES:=$here/../../target/services}/minio"
program=$(cd "$fetched" && pwd)/minio-${version##*-}
root=$(cd "$TRIBUTARY_SERVICES/minio" && pwd)
env=$root/env

fail() {
    echo "minio.sh: $*" >&2
    exit 1
}

# Builds the server from its sources; only one process at a time does.
fetch() {
    [ -x "$program" ] && return
    command -v go >/dev/null || fail "there is no go: apt-get install golang-go, or https://go.dev/dl"
    exec 9>"$fetched/minio.lock"
    flock 9
    [ -x "$program" ] && return
    echo "minio.sh: building MinIO $version" >&2
    local built
    built=$(mktemp -d "$fetched/minio.XXXXXX")
    GOBIN=$built go install "github.com/minio/minio@$version" >"$fetched/minio.log" 2>&1 ||
        fail "cannot build it; see $fetched/minio.log"
    mv "$built/minio" "$program"
    rmdir "$built"
    exec 9>&-
}

# A free port, kept for later starts of the same data.
port() {
    [ -e "$root/port" ] || python3 - >"$root/port" <<'END'
import socket
held = socket.socket()
held.bind(("127.0.0.1", 0))
print(held.getsockname()[1])
END
    read -r port <"$root/port"
}

pid() {
    [ -e "$env" ] && sed -n 's/^MINIO_PID=//p' "$env"
}

# Whether the process of that id is still the server that was started here.
runs() {
    local pid
    pid=$(pid) && [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "server $root/data"
}

start() {
    runs && return
    fetch
    port
    # A directory in the place of its data is a bucket.
    mkdir -p "$root/data/$bucket"
    MINIO_ROOT_USER=tributary MINIO_ROOT_PASSWORD=test-password MINIO_BROWSER=off MINIO_UPDATE=off \
        setsid "$program" server "$root/data" --quiet --address "127.0.0.1:$port" >"$root/server.log" 2>&1 </dev/null &
    local started=$!
    cat >"$env" <<END
TRIBUTARY_TEST_S3=s3://$bucket/lake/
AWS_ENDPOINT_URL=http://127.0.0.1:$port
AWS_ACCESS_KEY_ID=tributary
AWS_SECRET_ACCESS_KEY=test-password
AWS_REGION=us-east-1
AWS_ALLOW_HTTP=true
MINIO_PID=$started
END
    local deadline=$((SECONDS + 60))
    until ready; do
        [ -d "/proc/$started" ] || fail "it ended; see $root/server.log"
        [ "$SECONDS" -lt "$deadline" ] || fail "it does not answer after 60 s; see $root/server.log"
        sleep 0.1
    done
}

# Whether it says that it can be used.
ready() {
    python3 - "http://127.0.0.1:$port/minio/health/ready" <<'END' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=2)
END
}

# Ends the server with the signal $1 and waits until it is gone.
end() {
    runs || return 0
    local pid
    pid=$(pid)
    kill "-$1" "$pid"
    while [ -d "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do sleep 0.1; done
}

case ${1:-} in
start)
    start
    cat "$env"
    ;;
stop)
    end TERM
    rm -rf "$root/data" "$root/port" "$env"
    ;;
pause) end TERM ;;
kill) end KILL ;;
*) fail "usage: minio.sh start|stop|pause|kill" ;;
esac
