#!/usr/bin/env bash
# One real Apache Kafka node (KRaft) for tests, benchmarks and trying things out.
#
#   scripts/kafka.sh fetch              copy the jars from Maven Central into the cache, once
#   scripts/kafka.sh start DIR [PID]    start a node that lives in DIR; it ends when process PID ends (if given)
#   scripts/kafka.sh stop DIR           stop it
#   scripts/kafka.sh run DIR            start it, write DIR/env, and stay until standard input ends; then kill it
#
# DIR/env holds KAFKA_PLAINTEXT, KAFKA_SASL (addresses) and KAFKA_PID; DIR/pid the broker's process id; DIR/server.log
# what it says. SASL_PLAINTEXT takes user `segno` with password `segno-secret`, mechanism PLAIN.
# A DIR that a node has lived in keeps its ports and its topics.
# SEGNO_KAFKA_TEMPORARY=1 removes DIR when `run` ends. SEGNO_CACHE (default ~/.cache/segno) is where the jars go.
set -euo pipefail

version=4.1.1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SEGNO_CACHE:-$HOME/.cache/segno}/kafka-$version
wait_seconds=${SEGNO_KAFKA_WAIT:-90}

say() { printf 'kafka.sh: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

need() { # command, Debian package
    command -v "$1" >/dev/null || die "\`$1\` is missing: install it with \`apt-get install -y $2\`"
}

need_java() {
    need java openjdk-17-jdk-headless
    local major
    major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ] ||
        die "Kafka $version needs Java 17, this is ${major:-unknown}: \`apt-get install -y openjdk-17-jdk-headless\`"
}

fetch() {
    [ -d "$cache/libs" ] && return
    need_java
    need mvn maven
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    if [ ! -d "$cache/libs" ]; then
        say "copying the jars of Apache Kafka $version into $cache (54 MB, once)"
        rm -rf "$cache/libs.part"
        mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies \
            -DoutputDirectory="$cache/libs.part" >"$cache/fetch.log" 2>&1 || {
            tail -n 20 "$cache/fetch.log" >&2
            die "Maven could not fetch the jars; the whole answer is in $cache/fetch.log"
        }
        mv "$cache/libs.part" "$cache/libs"
    fi
    exec 9>&-
}

# A port below the kernel's ephemeral range on which nobody listens now.
free_port() {
    local port
    while :; do
        port=$((15000 + (RANDOM * 32768 + RANDOM) % 17000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

configure() { # dir
    local plaintext sasl controller
    plaintext=$(free_port) sasl=$(free_port) controller=$(free_port)
    cat >"$1/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$plaintext,SASL_PLAINTEXT://127.0.0.1:$sasl,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$plaintext,SASL_PLAINTEXT://127.0.0.1:$sasl
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_segno="segno-secret";
log.dirs=$1/kafka-data
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
log.segment.delete.delay.ms=500
PROPERTIES
    printf 'KAFKA_PLAINTEXT=127.0.0.1:%s\nKAFKA_SASL=127.0.0.1:%s\n' "$plaintext" "$sasl" >"$1/addresses"
    rm -rf "$1/kafka-data"
    local uuid
    uuid=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c 1-22)
    java -cp "$cache/libs/*" kafka.tools.StorageTool format -t "$uuid" -c "$1/server.properties" \
        >"$1/format.log" 2>&1 || { tail -n 20 "$1/format.log" >&2; die "the storage in $1 could not be formatted"; }
}

java_pid=
launch() { # dir; sets java_pid and returns 0 when the node answers, 1 when a port was taken
    : >"$1/server.log"
    # The broker dies with this script, whatever kills the script.
    setpriv --pdeathsig KILL java -Xmx1g -Djava.awt.headless=true -XX:+UseSerialGC \
        -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS \
        -cp "$cache/libs/*" kafka.Kafka "$1/server.properties" >>"$1/server.log" 2>&1 </dev/null 9>&- &
    java_pid=$!
    local tries=$((wait_seconds * 10))
    until grep -q 'Kafka Server started' "$1/server.log"; do
        if ! kill -0 "$java_pid" 2>/dev/null; then
            grep -q 'Address already in use' "$1/server.log" && return 1
            tail -n 20 "$1/server.log" >&2
            die "the broker ended while starting; its log is $1/server.log"
        fi
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { kill -KILL "$java_pid"; die "the broker was not ready after $wait_seconds s: $1/server.log"; }
        sleep 0.1
    done
}

serve() { # dir, owner (stdin, none, or a process id)
    local dir=$1 owner=$2 attempt fresh=
    fetch
    need_java
    need setpriv util-linux
    trap 'finish "$dir"' EXIT
    trap 'exit 0' TERM INT
    for attempt in 1 2 3 4 5; do
        [ -f "$dir/addresses" ] || { configure "$dir"; fresh=yes; }
        launch "$dir" && break
        [ -n "$fresh" ] || die "one of the ports of the node in $dir is taken: $(tr '\n' ' ' <"$dir/addresses")"
        [ "$attempt" -lt 5 ] || die "no free ports after $attempt attempts"
        rm -f "$dir/addresses"
    done
    echo "$java_pid" >"$dir/pid"
    { cat "$dir/addresses"; echo "KAFKA_PID=$java_pid"; } >"$dir/env.part"
    mv "$dir/env.part" "$dir/env"
    echo ready
    while kill -0 "$java_pid" 2>/dev/null; do
        case $owner in
            stdin) read -r -t 1 _ || [ $? -gt 128 ] || break ;;
            none) sleep 1 ;;
            *) kill -0 "$owner" 2>/dev/null || break; sleep 0.5 ;;
        esac
    done
}

finish() { # dir
    [ -z "$java_pid" ] || kill -KILL "$java_pid" 2>/dev/null || true
    rm -f "$1/env" "$1/pid"
    [ -z "${SEGNO_KAFKA_TEMPORARY:-}" ] || rm -rf "$1"
}

start() { # dir, owner
    [ ! -f "$1/env" ] || die "a broker lives in $1 already (DIR/env exists): \`$0 stop $1\` first"
    fetch
    need_java
    setsid "$0" serve "$1" "$2" >"$1/start.log" 2>&1 </dev/null &
    local server=$! tries=$((wait_seconds * 10))
    until [ -f "$1/env" ]; do
        kill -0 "$server" 2>/dev/null || { cat "$1/start.log" >&2; exit 1; }
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { kill "$server"; die "the broker was not ready after $wait_seconds s: $1/start.log"; }
        sleep 0.1
    done
    cat "$1/env"
}

stop() { # dir
    [ -f "$1/pid" ] || { say "no broker lives in $1"; return; }
    local pid tries=150
    pid=$(cat "$1/pid")
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { kill -KILL "$pid" 2>/dev/null || true; break; }
        sleep 0.1
    done
    rm -f "$1/env" "$1/pid"
}

verb=${1:-}
case $verb in
    start | stop | run | serve)
        [ -n "${2:-}" ] || die "\`$verb\` needs a directory"
        mkdir -p "$2"
        dir=$(cd "$2" && pwd)
        ;;
esac
case $verb in
    fetch) fetch ;;
    start) start "$dir" "${3:-none}" ;;
    stop) stop "$dir" ;;
    run) serve "$dir" stdin ;;
    serve) serve "$dir" "${3:-none}" ;;
    *) sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
