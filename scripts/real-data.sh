#!/usr/bin/env bash
# Real data, made by nobody here: the npm package `vega-datasets`, turned into events.
#
#   scripts/real-data.sh DIR    writes DIR/birdstrikes.csv and DIR/flights-10k.json as they come from the package, and
#                               DIR/strikes.jsonl and DIR/flights.jsonl, the events for the topics of
#                               examples/airports.toml
#
# The package is fetched once, with npm, and kept in SEGNO_CACHE (default ~/.cache/segno).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

version=3.2.1
[ $# -eq 1 ] || { sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }
cache=$SEGNO_CACHE/vega-datasets-$version

if [ ! -d "$cache" ]; then
    command -v npm >/dev/null || { echo 'real-data.sh: npm is missing: run scripts/setup.sh test' >&2; exit 1; }
    mkdir -p "$SEGNO_CACHE"
    part=$(mktemp -d "$SEGNO_CACHE/vega-datasets.XXXXXX")
    trap 'rm -rf "$part"' EXIT
    (cd "$part" && npm pack --silent "vega-datasets@$version" >/dev/null)
    tar -xzf "$part"/vega-datasets-*.tgz -C "$part" package/data/birdstrikes.csv package/data/flights-10k.json
    # Whoever comes second finds the first one's copy in place.
    mv -T "$part/package/data" "$cache" 2>/dev/null || [ -d "$cache" ]
fi

mkdir -p "$1"
cp "$cache/birdstrikes.csv" "$cache/flights-10k.json" "$1/"
python3 "$SEGNO_ROOT/scripts/real_data.py" strikes "$1/birdstrikes.csv" >"$1/strikes.jsonl"
python3 "$SEGNO_ROOT/scripts/real_data.py" flights "$1/flights-10k.json" >"$1/flights.jsonl"
