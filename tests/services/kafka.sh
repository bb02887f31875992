#!/usr/bin/env bash
# One real Apache Kafka broker (KRaft), for tests. frame.sh says how it is called. It tells
#
#   TRIBUTARY_TEST_KAFKA        host:port, no encryption, no login
#   TRIBUTARY_TEST_KAFKA_TLS    host:port, TLS with SASL PLAIN or SCRAM; user `tributary`, password `test-password`
#   TRIBUTARY_TEST_KAFKA_CA     the file with the certificate of who signed the broker's
#   TRIBUTARY_TEST_KAFKA_BEHIND_PROXY   host:port that calls itself by what KAFKA_PROXY=host:port says, if that is set:
#                               whoever comes by the proxy is told to go on coming by it
#
# KAFKA_PASSWORD is another password of SASL PLAIN. CERTIFICATE_DAYS=0 gives it a certificate that has expired.
#
# Needs Java 17, Maven, Python 3 and OpenSSL.
version=4.1.1
ports=4
. "$(dirname "${BASH_SOURCE[0]}")/frame.sh"

fetch() {
    from_maven "org.apache.kafka:kafka_2.13:$version" "org.apache.kafka:kafka-tools:$version" \
        org.slf4j:slf4j-simple:1.7.36
}

configure() {
    certify
    local listener=listener.name.sasl_ssl login=org.apache.kafka.common.security
    cat >"$root/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${port[1]}
listeners=PLAINTEXT://127.0.0.1:${port[0]},SASL_SSL://127.0.0.1:${port[2]},PROXIED://127.0.0.1:${port[3]},CONTROLLER://127.0.0.1:${port[1]}
advertised.listeners=PLAINTEXT://127.0.0.1:${port[0]},SASL_SSL://127.0.0.1:${port[2]},PROXIED://${KAFKA_PROXY:-127.0.0.1:${port[3]}}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$root/server.pem
$listener.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
$listener.plain.sasl.jaas.config=$login.plain.PlainLoginModule required user_tributary="${KAFKA_PASSWORD:-test-password}";
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
    command=(java -Xmx768m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$fetched/*"
        kafka.Kafka "$root/server.properties")
    [ -e "$root/data/meta.properties" ] && return
    local id
    id=$(python3 -c 'import base64, uuid; print(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))')
    java -cp "$fetched/*" kafka.tools.StorageTool format -t "$id" -c "$root/server.properties" \
        --add-scram 'SCRAM-SHA-512=[name=tributary,password=test-password]' >"$root/format.log" 2>&1 ||
        fail "cannot format its storage; see $root/format.log"
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/${port[0]}")
}

environment() {
    cat <<END
TRIBUTARY_TEST_KAFKA=127.0.0.1:${port[0]}
TRIBUTARY_TEST_KAFKA_TLS=127.0.0.1:${port[2]}
TRIBUTARY_TEST_KAFKA_CA=$root/ca.pem
TRIBUTARY_TEST_KAFKA_BEHIND_PROXY=127.0.0.1:${port[3]}
END
}

serve "$@"
