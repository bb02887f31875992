#!/usr/bin/env bash
# One real Apache Cassandra node, for tests. It stands in for ScyllaDB: the same protocol, the same driver. frame.sh says
# how it is called. It tells
#
#   TRIBUTARY_TEST_CQL       host:port
#   TRIBUTARY_TEST_CQL_CA    with CASSANDRA_TLS: the file with the certificate of who signed the node's
#   TRIBUTARY_TEST_CQL_CLUSTER   what others join it by
#
# CASSANDRA_JOIN, as another one tells in TRIBUTARY_TEST_CQL_CLUSTER, makes it one more node of that cluster, with
# CASSANDRA_NODE=2 or more as its number and the end of its address: all have the same ports, which is how clients find one
# through another. They have to be started one after the other. CASSANDRA_HEAP=512m is less memory than the usual 1g.
# With CASSANDRA_LOGIN=1 it asks for user and password; `cassandra` and `cassandra` are the first of them. With
# CASSANDRA_TLS=1 it takes encrypted connections beside others, with CASSANDRA_TLS=mutual also asks for a certificate
# from its own authority. CERTIFICATE_DAYS=0 gives it a certificate that has expired.
#
# Needs Java 17, Maven, Python 3, and OpenSSL for CASSANDRA_TLS.
version=5.0.6
ports=2
. "$(dirname "${BASH_SOURCE[0]}")/frame.sh"

fetch() {
    from_maven "org.apache.cassandra:cassandra-all:$version"
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

# The commit log is synced before a write is answered: by default it is up to ten seconds later, which one server alone
# that is killed does not survive without loss.
configure() {
    # Its own, or those of the node that it joins.
    [ -z "${CASSANDRA_JOIN:-}" ] || IFS=: read -r -a port <<<"$CASSANDRA_JOIN"
    # A node that joins waits for the tokens and tables of the others; one alone has nobody to wait for.
    local settle=100
    [ -z "${CASSANDRA_JOIN:-}" ] || settle=3000
    address=127.0.0.${CASSANDRA_NODE:-1}
    local authenticator=AllowAllAuthenticator authorizer=AllowAllAuthorizer
    if [ -n "${CASSANDRA_LOGIN:-}" ]; then
        authenticator=PasswordAuthenticator authorizer=CassandraAuthorizer
    fi
    local encryption="{enabled: false}"
    if [ -n "${CASSANDRA_TLS:-}" ]; then
        certify
        local wanted=false
        [ "$CASSANDRA_TLS" = mutual ] && wanted=true
        encryption="{enabled: true, optional: true, require_client_auth: $wanted, keystore: $root/server.pem,
  truststore: $root/ca.pem,
  ssl_context_factory: {class_name: org.apache.cassandra.security.PEMBasedSslContextFactory}}"
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
      - seeds: "127.0.0.1:${port[1]}"
listen_address: $address
storage_port: ${port[1]}
ssl_storage_port: ${port[1]}
rpc_address: $address
native_transport_port: ${port[0]}
endpoint_snitch: SimpleSnitch
client_encryption_options: $encryption
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
    command=(java -Xms512m "-Xmx${CASSANDRA_HEAP:-1g}" -XX:+UseSerialGC "${modules[@]}"
        -Dlogback.configurationFile="$root/logback.xml"
        -Dcassandra.config="file://$root/cassandra.yaml" -Dcassandra.storagedir="$root/data"
        -Dcassandra-foreground=yes -Dcassandra.ring_delay_ms=$settle -Dcassandra.skip_wait_for_gossip_to_settle=0
        -Dcassandra.superuser_setup_delay_ms=0
        -cp "$fetched/*" org.apache.cassandra.service.CassandraDaemon)
}

# Whether it lets a client in: a STARTUP frame of the protocol's version 4, answered with READY (opcode 2), or with
# AUTHENTICATE (3), user and password, and AUTH_SUCCESS (16). It makes its first user a moment after it listens.
answers() {
    python3 - "$address" "${port[0]}" <<'EOF'
import socket, struct, sys

def ask(to, opcode, body):
    to.sendall(struct.pack(">BBHBi", 4, 0, 0, opcode, len(body)) + body)
    head = to.recv(9, socket.MSG_WAITALL)
    to.recv(struct.unpack(">i", head[5:])[0], socket.MSG_WAITALL)
    return head[4]

def text(string):
    return struct.pack(">H", len(string)) + string

with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as to:
    answer = ask(to, 1, struct.pack(">H", 1) + text(b"CQL_VERSION") + text(b"3.0.0"))
    if answer == 3:
        login = b"\0cassandra\0cassandra"
        answer = ask(to, 15, struct.pack(">i", len(login)) + login)
    sys.exit(answer not in (2, 16))
EOF
}

environment() {
    echo "TRIBUTARY_TEST_CQL=$address:${port[0]}"
    echo "TRIBUTARY_TEST_CQL_CLUSTER=${port[0]}:${port[1]}"
    [ -z "${CASSANDRA_TLS:-}" ] || echo "TRIBUTARY_TEST_CQL_CA=$root/ca.pem"
}

serve "$@"
