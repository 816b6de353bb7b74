#!/usr/bin/env bash
# Runs a command with a Kafka broker beside it, which is gone when the command is, however it ended.
#
#   scripts/with-kafka.sh COMMAND [ARGUMENT...]
#
# The command finds the broker's addresses in SEGNO_TEST_KAFKA (plaintext) and SEGNO_TEST_KAFKA_SASL. Where
# SEGNO_TEST_KAFKA is set already, that broker is used and none is started.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
[ $# -gt 0 ] || { sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }

if [ -n "${SEGNO_TEST_KAFKA:-}" ]; then
    exec "$@"
fi

kafka=$SEGNO_ROOT/scripts/kafka.sh
folder=$(mktemp -d "${TMPDIR:-/tmp}/segno-kafka.XXXXXX")
stop() {
    trap '' INT TERM HUP
    "$kafka" stop "$folder" || true
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The broker watches this process, for the end that no trap sees.
"$kafka" start "$folder" $$ >&2
# shellcheck source=/dev/null
source "$folder/env"
export SEGNO_TEST_KAFKA=$KAFKA_PLAINTEXT SEGNO_TEST_KAFKA_SASL=$KAFKA_SASL

"$@"
