#!/usr/bin/env bash
# The first minute with Segno: bank accounts as live views. `make demo` and `make demo-stop` call this.
#
#   scripts/demo.sh start    build, start a daemon with examples/bank.toml, feed it events, show rows; leaves it running
#   scripts/demo.sh stop     stop it
#   scripts/demo.sh clean    remove what it stored (in ./data and ./.demo)
#
# KAFKA=host:port             use that Kafka instead of the embedded log. Topic `bank.accounts` must exist there.
# SEGNO_DEMO_EVENTS=100000    how many events
# SEGNO_DEMO_ACCOUNTS=2000    of how many accounts
# SEGNO__HTTP__LISTEN=127.0.0.1:7878   where the daemon listens, and where the commands look for it
# SEGNO_BIN=path              a binary that is built already
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

count=${SEGNO_DEMO_EVENTS:-100000}
accounts=${SEGNO_DEMO_ACCOUNTS:-2000}
listen=${SEGNO__HTTP__LISTEN:-127.0.0.1:7878}
topic=bank.accounts
folder=.demo
export SEGNO_CONFIG=$PWD/examples/bank.toml SEGNO__HTTP__LISTEN=$listen
if [ -n "${KAFKA:-}" ]; then
    log=kafka
    export SEGNO__NODE__LOG=kafka SEGNO__KAFKA__BROKERS=$KAFKA
else
    log=embedded
fi
data=$PWD/data/demo-$log
export SEGNO__NODE__DATA_DIR=$data

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }
# Shows a command as the reader would type it, and runs it.
show() { printf '\n$ segno %s\n' "$*"; "$segno" "$@"; }

running() { # the process id of the demo's daemon, if it runs
    local pid
    pid=$(cat "$folder/pid" 2>/dev/null) || return 1
    [ "$(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)" ' (deleted)')" = segno ] && echo "$pid"
}

wait_ready() { # pid
    local tries=600
    until curl -fsS -o "$folder/ready" "http://$listen/readyz" 2>/dev/null; do
        kill -0 "$1" 2>/dev/null || {
            cat "$folder/daemon.log" >&2
            rm -f "$folder/pid"
            [ -z "${KAFKA:-}" ] || echo "demo: topic $topic must exist on $KAFKA, for example: kafka-topics.sh" \
                "--bootstrap-server $KAFKA --create --topic $topic --partitions 4" >&2
            die "the daemon ended; what it said is above"
        }
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "not ready after 60 s: see $folder/daemon.log, and http://$listen/readyz"
        sleep 0.1
    done
}

start_daemon() {
    local pid
    if pid=$(running); then
        say "The daemon of an earlier demo is running (process $pid); it is used. make demo-stop ends it."
        return
    fi
    if (exec 3<>"/dev/tcp/${listen%:*}/${listen##*:}") 2>/dev/null; then
        die "something else listens on $listen. Choose another: SEGNO__HTTP__LISTEN=127.0.0.1:7979 make demo"
    fi
    say "Starting: segno run --config examples/bank.toml --data-dir data/demo-$log${KAFKA:+ --brokers $KAFKA}"
    setsid "$segno" run >"$folder/daemon.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$folder/pid"
    wait_ready "$pid"
    echo "ready on http://$listen (process $pid, log in $folder/daemon.log, data in data/demo-$log)"
}

feed() {
    if [ -e "$folder/fed-$log" ]; then
        say "The events are in the log already, from an earlier demo. make clean-data starts over."
        return
    fi
    say "Making $count events of $accounts accounts, and appending them to topic $topic"
    python3 scripts/bank.py generate --events "$count" --accounts "$accounts" --bad 12 >"$folder/events.jsonl"
    head -n 1 "$folder/events.jsonl"
    show append "$topic" "$folder/events.jsonl" --key aggregate_id --timestamp timestamp | tee "$folder/append"
    touch "$folder/fed-$log"
    say "Reading one row, once its view has got as far as that append"
    show get account_balance account-0000000 --at-least "$(tail -n 1 "$folder/append")"
}

start() {
    if [ -n "${SEGNO_BIN:-}" ]; then
        segno=$SEGNO_BIN
    else
        scripts/build.sh
        source scripts/env.sh
        segno=$CARGO_TARGET_DIR/release/segno
    fi
    mkdir -p "$folder" data
    start_daemon
    feed
    say "What the node is doing"
    show status
    say "Rows of view account_balance"
    show list account_balance --limit 5
    cat <<TEXT

The daemon goes on running. Try:

    alias segno=$segno
    export SEGNO_CONFIG=$SEGNO_CONFIG SEGNO__NODE__DATA_DIR=$data SEGNO__HTTP__LISTEN=$listen${KAFKA:+ SEGNO__NODE__LOG=kafka SEGNO__KAFKA__BROKERS=$KAFKA}

    segno get account_balance account-0000000 --json
    curl 'http://$listen/v1/views/account_activity?prefix=account-00000&limit=3'
    echo '{"event_type":"MoneyDeposited","aggregate_id":"account-0000000","payload":{"amount":100}}' |
        segno append $topic --key aggregate_id

kill -9 it and run \`make demo\` again: nothing is lost and nothing counts twice.
Stop it with \`make demo-stop\`; \`make clean-data\` also removes what it stored.
TEXT
}

stop() {
    local pid tries=300
    pid=$(running) || { echo "no demo is running"; rm -f "$folder/pid"; return; }
    kill -TERM "$pid"
    while running >/dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "process $pid has not stopped after 30 s; see $folder/daemon.log"
        sleep 0.1
    done
    rm -f "$folder/pid"
    echo "stopped (process $pid)"
}

case ${1:-start} in
    start) start ;;
    stop) stop ;;
    clean)
        ! running >/dev/null || die "the demo is running: make demo-stop first"
        rm -rf "$folder" data/demo-embedded data/demo-kafka
        rmdir data 2>/dev/null || true
        ;;
    *) sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
