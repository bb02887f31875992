#!/usr/bin/env bash
# One real Apache Kafka broker (KRaft), for tests. frame.sh says how it is called. It tells
#
#   TRIBUTARY_TEST_KAFKA        host:port, no encryption, no login
#   TRIBUTARY_TEST_KAFKA_TLS    host:port, TLS with SASL PLAIN or SCRAM; user `tributary`, password `test-password`
#   TRIBUTARY_TEST_KAFKA_CA     the file with the certificate of who signed the broker's
#   TRIBUTARY_TEST_KAFKA_BEHIND_PROXY   host:port that calls itself by what KAFKA_PROXY=host:port says, if that is set:
#                               whoever comes by the proxy is told to go on coming by it
#   TRIBUTARY_TEST_KAFKA_CLUSTER        what others join it by
#
# KAFKA_JOIN, as another one tells in TRIBUTARY_TEST_KAFKA_CLUSTER, makes it one more broker of that cluster, with KAFKA_NODE=2
# or more as its number. KAFKA_COPIES=3, for all of them, keeps what Kafka itself writes on so many.
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
    local listener=listener.name.sasl_ssl login=org.apache.kafka.common.security copies=${KAFKA_COPIES:-1}
    local join=${KAFKA_JOIN:-} roles=broker controls=
    local cluster=${join%%@*} controller=${join#*@}
    if [ -z "$join" ]; then
        roles=broker,controller controller=127.0.0.1:${port[1]} controls=,CONTROLLER://127.0.0.1:${port[1]}
        [ -e "$root/cluster" ] ||
            python3 -c 'import base64, uuid; print(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))' \
                >"$root/cluster"
        cluster=$(cat "$root/cluster")
    fi
    told=$cluster@$controller
    cat >"$root/server.properties" <<EOF
process.roles=$roles
node.id=${KAFKA_NODE:-1}
controller.quorum.voters=1@$controller
listeners=PLAINTEXT://127.0.0.1:${port[0]},SASL_SSL://127.0.0.1:${port[2]},PROXIED://127.0.0.1:${port[3]}$controls
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
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A broker of several that dies is missed soon.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
# A topic is deleted at once, and its log is not kept for a minute.
log.segment.delete.delay.ms=0
EOF
    command=(java -Xmx768m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$fetched/*"
        kafka.Kafka "$root/server.properties")
    [ -e "$root/data/meta.properties" ] && return
    java -cp "$fetched/*" kafka.tools.StorageTool format "--cluster-id=$cluster" -c "$root/server.properties" \
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
TRIBUTARY_TEST_KAFKA_CLUSTER=$told
END
}

serve "$@"
