#!/usr/bin/env bash
# One real Apache Kafka broker (KRaft) on ports of the system's choice, for tests.
#
#   tests/services/kafka.sh start    fetch what is missing, start, wait until it answers; does nothing when it runs
#   tests/services/kafka.sh stop     stop it (SIGTERM) and remove its data
#   tests/services/kafka.sh pause    stop it (SIGTERM), keep data and ports for the next start
#   tests/services/kafka.sh kill     SIGKILL, keep data and ports for the next start
#
# A broker is kept in target/services/kafka, or in $TRIBUTARY_SERVICES/kafka, so that a test can have one to itself.
# The file `env` in there, which `start` also prints, has one to a line:
#
#   TRIBUTARY_TEST_KAFKA        host:port, no encryption, no login
#   TRIBUTARY_TEST_KAFKA_TLS    host:port, TLS with SASL PLAIN or SCRAM; user `tributary`, password `test-password`
#   TRIBUTARY_TEST_KAFKA_CA     the file with the certificate of who signed the broker's
#   TRIBUTARY_TEST_KAFKA_BEHIND_PROXY   host:port that calls itself by what KAFKA_PROXY=host:port says, if that is set:
#                               whoever comes by the proxy is told to go on coming by it
#   KAFKA_PID                   its process id
#
# Needs Java 17, Maven, Python 3 and OpenSSL.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=4.1.1
fetched=$here/../../target/services/fetched
libs=$fetched/kafka-$version
mkdir -p "$fetched" "${TRIBUTARY_SERVICES:=$here/../../target/services}/kafka"
root=$(cd "$TRIBUTARY_SERVICES/kafka" && pwd)
env=$root/env

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

# Fetches the broker with its dependencies from the Maven repository; only one process at a time does.
fetch() {
    [ -e "$libs/complete" ] && return
    command -v mvn >/dev/null || fail "there is no mvn: apt-get install maven"
    exec 9>"$fetched/kafka.lock"
    flock 9
    [ -e "$libs/complete" ] && return
    echo "kafka.sh: fetching Apache Kafka $version" >&2
    rm -rf "$libs" && mkdir -p "$libs"
    cat >"$libs/pom.xml" <<EOF
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tributary.tests</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
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
held = [socket.socket() for _ in range(4)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
EOF
    read -r port controller tls behind <"$root/ports"
}

# An authority of our own, and the broker's key and certificate, which it signed, as one PEM file.
certify() {
    [ -e "$root/broker.pem" ] && return
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Tributary tests" \
        -keyout "$root/ca.key" -out "$root/ca.pem" 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -subj "/CN=127.0.0.1" -keyout "$root/broker.key" -out "$root/broker.csr" 2>/dev/null
    printf 'subjectAltName=IP:127.0.0.1\n' >"$root/broker.ext"
    openssl x509 -req -days 3650 -in "$root/broker.csr" -CA "$root/ca.pem" -CAkey "$root/ca.key" -CAcreateserial \
        -extfile "$root/broker.ext" -out "$root/broker.crt" 2>/dev/null
    cat "$root/broker.key" "$root/broker.crt" "$root/ca.pem" >"$root/broker.pem"
}

configure() {
    local listener=listener.name.sasl_ssl login=org.apache.kafka.common.security
    cat >"$root/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,SASL_SSL://127.0.0.1:$tls,PROXIED://127.0.0.1:$behind,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SASL_SSL://127.0.0.1:$tls,PROXIED://${KAFKA_PROXY:-127.0.0.1:$behind}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$root/broker.pem
$listener.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
$listener.plain.sasl.jaas.config=$login.plain.PlainLoginModule required user_tributary="test-password";
$listener.scram-sha-512.sasl.jaas.config=$login.scram.ScramLoginModule required;
log.dirs=$root/data
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A topic is deleted at once, and its log is not kept for a minute.
log.segment.delete.delay.ms=0
EOF
    [ -e "$root/data/meta.properties" ] && return
    local id
    id=$(python3 -c 'import base64, uuid; print(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))')
    java -cp "$libs/*" kafka.tools.StorageTool format -t "$id" -c "$root/server.properties" \
        --add-scram 'SCRAM-SHA-512=[name=tributary,password=test-password]' >"$root/format.log" 2>&1 ||
        fail "cannot format its storage; see $root/format.log"
}

pid() {
    [ -e "$env" ] && sed -n 's/^KAFKA_PID=//p' "$env"
}

# Whether the process of that id is still the broker that was started here.
runs() {
    local pid
    pid=$(pid) && [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "kafka.Kafka $root/server.properties"
}

start() {
    runs && return
    fetch
    ports
    certify
    configure
    setsid java -Xmx768m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$libs/*" \
        kafka.Kafka "$root/server.properties" >"$root/server.log" 2>&1 </dev/null &
    local started=$!
    cat >"$env" <<EOF
TRIBUTARY_TEST_KAFKA=127.0.0.1:$port
TRIBUTARY_TEST_KAFKA_TLS=127.0.0.1:$tls
TRIBUTARY_TEST_KAFKA_CA=$root/ca.pem
TRIBUTARY_TEST_KAFKA_BEHIND_PROXY=127.0.0.1:$behind
KAFKA_PID=$started
EOF
    local deadline=$((SECONDS + 60))
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        [ -d "/proc/$started" ] || fail "it ended; see $root/server.log"
        [ "$SECONDS" -lt "$deadline" ] || fail "it does not listen after 60 s; see $root/server.log"
        sleep 0.1
    done
}

# Ends the broker with the signal $1 and waits until it is gone.
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
    rm -rf "$root/data" "$root/ports" "$env"
    ;;
pause) end TERM ;;
kill) end KILL ;;
*) fail "usage: kafka.sh start|stop|pause|kill" ;;
esac
