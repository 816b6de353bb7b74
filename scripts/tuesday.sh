#!/usr/bin/env bash
# The stage for the story of README.md, "The views are wrong since Tuesday".
#
#   scripts/tuesday.sh start     start a daemon with a copy of examples/tuesday.toml: Monday's events, a snapshot, Tuesday's
#   scripts/tuesday.sh restart   stop it and start it again, with .tuesday/segno.toml as it is now
#   scripts/tuesday.sh stop      stop it
#
# Everything is in ./.tuesday. SEGNO_BIN=path: a binary that is built already.
# SEGNO__HTTP__LISTEN=127.0.0.1:7879: where the daemon listens.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=.tuesday
listen=${SEGNO__HTTP__LISTEN:-127.0.0.1:7879}
export SEGNO_CONFIG=$PWD/$folder/segno.toml SEGNO__NODE__DATA_DIR=$PWD/$folder/data SEGNO__HTTP__LISTEN=$listen
if [ -n "${SEGNO_BIN:-}" ]; then
    segno=$SEGNO_BIN
else
    scripts/build.sh
    source scripts/env.sh
    segno=$CARGO_TARGET_DIR/release/segno
fi

events() { # day: monday or tuesday, as JSON Lines
    python3 -B - "$1" <<'PYTHON'
import json, sys
from datetime import datetime, timedelta, timezone

today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
at = tuesday = today - timedelta(days=(today.weekday() - 1) % 7)
if sys.argv[1] == "monday":
    at -= timedelta(hours=14)

def event(kind, account, **payload):
    global at
    at += timedelta(seconds=10)
    print(json.dumps({"event_type": kind, "aggregate_id": f"account-{account:03}", "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "payload": payload}))

if sys.argv[1] == "monday":
    for account in range(200):
        event("AccountOpened", account, owner=("Ada", "Grace", "Edsger", "Barbara")[account % 4])
    for account in range(2000):
        event("MoneyDeposited", account % 200, amount=100)
    for account in range(200):
        event("MoneyWithdrawn", account, amount=50)
else:
    for account in range(500):
        event("MoneyDeposited", account % 200, amount=10)
    for account in range(20):
        event("MoneyWithdrawn", account, amount=70, fee=2)
PYTHON
}

run() {
    setsid "$segno" run >>"$folder/daemon.log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
    local tries=600
    until curl -fsS -o "$folder/ready" "http://$listen/readyz" 2>/dev/null; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ] || ! kill -0 "$(cat "$folder/pid")" 2>/dev/null; then
            cat "$folder/daemon.log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

append() { # day; waits until its events are in the view
    local token
    token=$(events "$1" | "$segno" append bank.accounts --key aggregate_id --timestamp timestamp)
    "$segno" get account_balance account-007 --at-least "$token" >"$folder/ready"
}

stop() {
    local pid tries=300
    pid=$(cat "$folder/pid" 2>/dev/null) || { echo "it does not run"; return; }
    kill -TERM "$pid" 2>/dev/null || true
    while [ "$(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)" ' (deleted)')" = segno ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { echo "process $pid has not stopped after 30 s; see $folder/daemon.log" >&2; exit 1; }
        sleep 0.1
    done
    rm -f "$folder/pid"
    echo stopped
}

case ${1:-} in
    start)
        [ ! -e "$folder/pid" ] || { echo "it runs already: scripts/tuesday.sh stop" >&2; exit 1; }
        rm -rf "$folder"
        mkdir "$folder"
        cp examples/tuesday.toml "$folder/segno.toml"
        run
        append monday
        "$segno" snapshot create
        append tuesday
        printf '\nIt is running. In this shell:\n\n    alias segno=%s\n    export %s %s %s\n' "$segno" "SEGNO_CONFIG=$SEGNO_CONFIG" \
            "SEGNO__NODE__DATA_DIR=$SEGNO__NODE__DATA_DIR" "SEGNO__HTTP__LISTEN=$listen"
        ;;
    restart)
        stop >"$folder/stopped"
        run
        echo "started again with $folder/segno.toml"
        ;;
    stop) stop ;;
    *) sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
