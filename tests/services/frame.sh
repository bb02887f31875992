# shellcheck shell=bash disable=SC2034,SC2154
# What the scripts of servers in this directory share; each sources this and ends with `serve "$@"`.
#
#   tests/services/NAME.sh start    fetch what is missing, start, wait until it answers; does nothing when it runs
#   tests/services/NAME.sh stop     end it and remove its data
#   tests/services/NAME.sh pause    end it with SIGTERM, keep data and ports for the next start
#   tests/services/NAME.sh kill     end it with SIGKILL, likewise
#   tests/services/NAME.sh fetch    only fetch what is missing
#
# A server is kept in target/services/NAME, or in $TRIBUTARY_SERVICES/NAME, so that a test can have one to itself.
# The file `env` in there, which `start` also prints, names one to a line what the script says in its head, and its
# process id as NAME_PID. What is fetched is in target/services/fetched, for all of them.
#
# A script sets `version` and `ports` (how many it listens on), and defines
#
#   fetch          puts the server into $fetched, which is empty
#   configure      writes what it is started with into $root (its ports are in the array `port`), and puts the command
#                  that runs it, which names $root, into the array `command`
#   answers        whether it can be used
#   environment    prints the lines of `env`
#
# Python 3 is needed by all of them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
service=$(basename "$0" .sh)
mkdir -p "$here/../../target/services/fetched" "${TRIBUTARY_SERVICES:=$here/../../target/services}/$service"
fetched=$(cd "$here/../../target/services/fetched" && pwd)/$service-$version
root=$(cd "$TRIBUTARY_SERVICES/$service" && pwd)
env=$root/env

fail() {
    echo "$service.sh: $*" >&2
    exit 1
}

# Fails when the program $1 is not there, and says how to get it.
need() {
    command -v "$1" >/dev/null || fail "there is no $1: $2"
}

# Fetches these artifacts (group:name:version) with their dependencies from the Maven repository.
from_maven() {
    need mvn "apt-get install maven"
    local artifact
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo "<groupId>tributary.tests</groupId><artifactId>$service</artifactId><version>1</version>"
        echo '<packaging>pom</packaging><dependencies>'
        for artifact in "$@"; do
            IFS=: read -r group name number <<<"$artifact"
            echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId><version>$number</version></dependency>"
        done
        echo '</dependencies></project>'
    } >"$fetched/pom.xml"
    (cd "$fetched" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=. >mvn.log 2>&1) ||
        fail "cannot fetch it; see $fetched/mvn.log"
}

# An authority of our own (ca.pem, ca.key), and the server's key, its certificate and the authority's in server.pem.
# The certificate is good for CERTIFICATE_DAYS; with 0 it has expired when the server has started.
certify() {
    local days=${CERTIFICATE_DAYS:-3650}
    need openssl "apt-get install openssl"
    [ -e "$root/ca.pem" ] ||
        openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Tributary tests" \
            -keyout "$root/ca.key" -out "$root/ca.pem" 2>/dev/null
    [ "$(cat "$root/server.days" 2>/dev/null)" = "$days" ] && return
    openssl req -newkey rsa:2048 -nodes -subj "/CN=127.0.0.1" -keyout "$root/server.key" -out "$root/server.csr" 2>/dev/null
    printf 'subjectAltName=IP:127.0.0.1\n' >"$root/server.ext"
    openssl x509 -req -days "$days" -in "$root/server.csr" -CA "$root/ca.pem" -CAkey "$root/ca.key" -CAcreateserial \
        -extfile "$root/server.ext" -out "$root/server.crt" 2>/dev/null
    cat "$root/server.key" "$root/server.crt" "$root/ca.pem" >"$root/server.pem"
    echo "$days" >"$root/server.days"
}

# Builds the program of that Go package (path@version) from its sources.
from_go() {
    need go "apt-get install golang-go, or https://go.dev/dl"
    GOBIN=$fetched go install "$1" >"$fetched/go.log" 2>&1 || fail "cannot build it; see $fetched/go.log"
}

# The same of a module that `go install` refuses, for it replaces some of its own modules: module@version, the build's tags,
# and the packages in it.
from_go_module() {
    local module=$1 tags=$2 source
    shift 2
    need go "apt-get install golang-go, or https://go.dev/dl"
    source=$(cd "$fetched" && go mod download -json "$module" 2>"$fetched/go.log" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])') || fail "cannot fetch it; see $fetched/go.log"
    (cd "$source" && GOWORK=off go build -trimpath -tags "$tags" -o "$fetched/" "$@") >>"$fetched/go.log" 2>&1 ||
        fail "cannot build it; see $fetched/go.log"
}

# One process at a time fetches; the others wait for it.
fetch_once() {
    [ -e "$fetched/complete" ] && return
    (
        flock 9
        [ -e "$fetched/complete" ] && exit
        echo "$service.sh: fetching $service $version" >&2
        rm -rf "$fetched"
        mkdir "$fetched"
        fetch
        touch "$fetched/complete"
    ) 9>"$fetched.lock"
}

# Free ports, kept for later starts of the same data. They are below those that the system gives to whoever asks for
# any, or a client that tries again and again while the server is away would one day be given its port.
keep_ports() {
    [ -e "$root/ports" ] || python3 - "$ports" >"$root/ports" <<'END'
import pathlib, random, socket, sys
given = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
held = []
while len(held) < int(sys.argv[1]):
    one = socket.socket()
    try:
        one.bind(("127.0.0.1", random.randrange(10_000, max(given, 20_000))))
    except OSError:
        continue
    held.append(one)
print(*(one.getsockname()[1] for one in held))
END
    read -r -a port <"$root/ports"
}

# Whether the process in `env` is still the one that was started here.
runs() {
    [ -e "$env" ] || return
    pid=$(sed -n "s/^${service^^}_PID=//p" "$env")
    tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$root/"
} 2>/dev/null

start() {
    runs && return
    fetch_once
    keep_ports
    configure
    setsid "${command[@]}" >"$root/server.log" 2>&1 </dev/null 8>&- &
    pid=$!
    { environment && echo "${service^^}_PID=$pid"; } >"$env"
    local deadline=$((SECONDS + 120))
    until answers >/dev/null 2>&1; do
        [ -d "/proc/$pid" ] || fail "it ended; see $root/server.log"
        if [ "$SECONDS" -ge "$deadline" ]; then
            kill -KILL "$pid"
            fail "it does not answer after 120 s; see $root/server.log"
        fi
        sleep 0.1
    done
}

# Ends it with the signal $1 and waits until it is gone.
end() {
    runs || return 0
    kill "-$1" "$pid"
    while runs; do sleep 0.05; done
}

serve() {
    # One of these at a time.
    exec 8>"$root/lock"
    flock 8
    case ${1:-} in
    start)
        start
        cat "$env"
        ;;
    stop)
        # Its data goes with it, so there is nothing for it to write out first.
        end KILL
        rm -rf "$root/data" "$root/ports" "$root/cluster" "$env"
        ;;
    pause) end TERM ;;
    kill) end KILL ;;
    fetch) fetch_once ;;
    *) fail "usage: $service.sh start|stop|pause|kill|fetch" ;;
    esac
}
