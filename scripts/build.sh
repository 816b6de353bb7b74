#!/usr/bin/env bash
# Builds the release binary. The first time RocksDB and librdkafka are compiled too: 8 to 20 minutes on two cores.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
"$here/setup.sh" build
# Only now, so that a ccache that was just installed is seen.
source "$here/env.sh"
cd "$SEGNO_ROOT"
cargo build --locked --release --bin segno
echo "built $CARGO_TARGET_DIR/release/segno"
