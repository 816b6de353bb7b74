# shellcheck shell=bash
# Sourced by the other scripts: where things are built and kept, and with which compilers.
#
# SEGNO_CACHE        (default ~/.cache/segno) build output, tools, the jars of Kafka, data sets: nothing in the checkout
# CARGO_TARGET_DIR   (default SEGNO_CACHE/target) one directory for every profile and every checkout
# CC, CXX            through ccache where there is one, so that RocksDB and librdkafka are compiled once and then
#                    answered from the cache for every other profile (Cargo.toml keeps their flags the same)

SEGNO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export SEGNO_ROOT
export SEGNO_CACHE="${SEGNO_CACHE:-${HOME:?}/.cache/segno}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$SEGNO_CACHE/target}"

# rustup's own place, for shells that have not read its profile; then the tools that setup.sh installs.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH
fi
export PATH="$SEGNO_CACHE/tools/bin:$PATH"

if command -v ccache >/dev/null; then
    export CC="${CC:-ccache gcc}" CXX="${CXX:-ccache g++}"
fi
