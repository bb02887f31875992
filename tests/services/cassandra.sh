#!/usr/bin/env bash
# One real Apache Cassandra node on ports of the system's choice, for tests. It stands in for ScyllaDB: the same
# protocol, the same driver.
#
#   tests/services/cassandra.sh start    fetch what is missing, start, wait until it answers; nothing when it runs
#   tests/services/cassandra.sh stop     end it and remove its data
#   tests/services/cassandra.sh pause    stop it (SIGTERM), keep data and ports for the next start
#   tests/services/cassandra.sh kill     SIGKILL, keep data and ports for the next start
#
# A node is kept in target/services/cassandra, or in $TRIBUTARY_SERVICES/cassandra, so that a test can have one to
# itself. With CASSANDRA_LOGIN=1 it asks for user and password; `cassandra` and `cassandra` are the first of them.
# The file `env` in there, which `start` also prints, has one to a line:
#
#   TRIBUTARY_TEST_CQL    host:port, no encryption
#   CASSANDRA_PID         its process id
#
# Needs Java 17, Maven and Python 3.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=5.0.6
fetched=$here/../../target/services/fetched
libs=$fetched/cassandra-$version
mkdir -p "$fetched" "${TRIBUTARY_SERVICES:=$here/../../target/services}/cassandra"
root=$(cd "$TRIBUTARY_SERVICES/cassandra" && pwd)
env=$root/env

fail() {
    echo "cassandra.sh: $*" >&2
    exit 1
}

# Fetches the server with its dependencies from the Maven repository; only one process at a time does.
fetch() {
    [ -e "$libs/complete" ] && return
    command -v mvn >/dev/null || fail "there is no mvn: apt-get install maven"
    exec 9>"$fetched/cassandra.lock"
    flock 9
    [ -e "$libs/complete" ] && return
    echo "cassandra.sh: fetching Apache Cassandra $version" >&2
    rm -rf "$libs" && mkdir -p "$libs"
    cat >"$libs/pom.xml" <<EOF
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tributary.tests</groupId>
  <artifactId>cassandra</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId><version>$version</version></dependency>
  </dependencies>
</project>
EOF
    (cd "$libs" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=. >mvn.log 2>&1) ||
        fail "cannot fetch it; see $libs/mvn.log"
    touch "$libs/complete"
    exec 9>&-
}

# Free ports, kept for later starts of the same data.
ports() {
    [ -e "$root/ports" ] || python3 - >"$root/ports" <<'EOF'
import socket
held = [socket.socket() for _ in range(2)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
EOF
    read -r port storage <"$root/ports"
}

# The commit log is synced before a write is answered: by default it is up to ten seconds later, which one server alone
# that is killed does not survive without loss.
configure() {
    local authenticator=AllowAllAuthenticator authorizer=AllowAllAuthorizer
    if [ -n "${CASSANDRA_LOGIN:-}" ]; then
        authenticator=PasswordAuthenticator authorizer=CassandraAuthorizer
    fi
    cat >"$root/cassandra.yaml" <<EOF
cluster_name: tributary-tests
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
authenticator: $authenticator
authorizer: $authorizer
auth_cache_warming_enabled: false
commitlog_sync: batch
commitlog_directory: $root/data/commitlog
data_file_directories: [$root/data/data]
saved_caches_directory: $root/data/saved_caches
hints_directory: $root/data/hints
cdc_raw_directory: $root/data/cdc_raw
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:$storage"
listen_address: 127.0.0.1
storage_port: $storage
ssl_storage_port: $storage
rpc_address: 127.0.0.1
native_transport_port: $port
endpoint_snitch: SimpleSnitch
# What a truncated or dropped table leaves behind is of no use to a test.
auto_snapshot: false
EOF
    cat >"$root/logback.xml" <<EOF
<configuration>
  <appender name="stdout" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %level [%thread] %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="stdout"/></root>
</configuration>
EOF
}

# The module options of the distribution's jvm17-server.options.
modules=(
    -Djdk.attach.allowAttachSelf=true
    --add-exports java.base/jdk.internal.misc=ALL-UNNAMED
    --add-exports java.base/jdk.internal.ref=ALL-UNNAMED
    --add-exports java.base/sun.nio.ch=ALL-UNNAMED
    --add-exports java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED
    --add-exports java.rmi/sun.rmi.registry=ALL-UNNAMED
    --add-exports java.rmi/sun.rmi.server=ALL-UNNAMED
    --add-exports java.sql/java.sql=ALL-UNNAMED
    --add-exports java.rmi/sun.rmi.transport.tcp=ALL-UNNAMED
    --add-opens java.base/java.lang.module=ALL-UNNAMED
    --add-opens java.base/jdk.internal.loader=ALL-UNNAMED
    --add-opens java.base/jdk.internal.ref=ALL-UNNAMED
    --add-opens java.base/jdk.internal.reflect=ALL-UNNAMED
    --add-opens java.base/jdk.internal.math=ALL-UNNAMED
    --add-opens java.base/jdk.internal.module=ALL-UNNAMED
    --add-opens java.base/jdk.internal.util.jar=ALL-UNNAMED
    --add-opens jdk.management/com.sun.management.internal=ALL-UNNAMED
    --add-opens java.base/sun.nio.ch=ALL-UNNAMED
    --add-opens java.base/java.io=ALL-UNNAMED
    --add-opens java.base/java.lang=ALL-UNNAMED
    --add-opens java.base/java.lang.reflect=ALL-UNNAMED
    --add-opens java.base/java.util=ALL-UNNAMED
    --add-opens java.base/java.util.concurrent=ALL-UNNAMED
    --add-opens java.base/java.util.concurrent.atomic=ALL-UNNAMED
    --add-opens java.base/java.nio=ALL-UNNAMED
    --add-opens java.rmi/sun.rmi.transport.tcp=ALL-UNNAMED
)

pid() {
    [ -e "$env" ] && sed -n 's/^CASSANDRA_PID=//p' "$env"
}

# Whether the process of that id is still the node that was started here.
runs() {
    local pid
    pid=$(pid) && [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "-Dcassandra.config=file://$root/cassandra.yaml"
}

# Whether it lets a client in: a STARTUP frame of the protocol's version 4, answered with READY (opcode 2), or with
# AUTHENTICATE (3), user and password, and AUTH_SUCCESS (16). It makes its first user a moment after it listens.
answers() {
    python3 - "$port" 2>/dev/null <<'EOF'
import socket, struct, sys

def ask(to, opcode, body):
    to.sendall(struct.pack(">BBHBi", 4, 0, 0, opcode, len(body)) + body)
    head = to.recv(9, socket.MSG_WAITALL)
    to.recv(struct.unpack(">i", head[5:])[0], socket.MSG_WAITALL)
    return head[4]

def text(string):
    return struct.pack(">H", len(string)) + string

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5) as to:
    answer = ask(to, 1, struct.pack(">H", 1) + text(b"CQL_VERSION") + text(b"3.0.0"))
    if answer == 3:
        login = b"\0cassandra\0cassandra"
        answer = ask(to, 15, struct.pack(">i", len(login)) + login)
    sys.exit(answer not in (2, 16))
EOF
}

start() {
    runs && return
    fetch
    ports
    configure
    setsid java -Xms512m -Xmx1g -XX:+UseSerialGC "${modules[@]}" \
        -Dlogback.configurationFile="$root/logback.xml" \
        -Dcassandra.config="file://$root/cassandra.yaml" -Dcassandra.storagedir="$root/data" \
        -Dcassandra-foreground=yes -Dcassandra.ring_delay_ms=100 -Dcassandra.skip_wait_for_gossip_to_settle=0 \
        -Dcassandra.superuser_setup_delay_ms=0 \
        -cp "$libs/*" org.apache.cassandra.service.CassandraDaemon >"$root/server.log" 2>&1 </dev/null &
    local started=$!
    printf 'TRIBUTARY_TEST_CQL=127.0.0.1:%s\nCASSANDRA_PID=%s\n' "$port" "$started" >"$env"
    local deadline=$((SECONDS + 120))
    until answers; do
        [ -d "/proc/$started" ] || fail "it ended; see $root/server.log"
        [ "$SECONDS" -lt "$deadline" ] || fail "it does not answer after 120 s; see $root/server.log"
        sleep 0.2
    done
}

# Ends the node with the signal $1 and waits until it is gone.
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
    # Its data goes with it, so there is nothing for it to write out first.
    end KILL
    rm -rf "$root/data" "$root/ports" "$env"
    ;;
pause) end TERM ;;
kill) end KILL ;;
*) fail "usage: cassandra.sh start|stop|pause|kill" ;;
esac
