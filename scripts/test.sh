#!/usr/bin/env bash
# Everything that has to be true before a change lands, the cheap part first.
#
#   scripts/test.sh check    format, house rules, clippy, documentation
#   scripts/test.sh deny     licences, banned crates, sources of crates
#   scripts/test.sh all      both, and every test with a real Kafka broker
#   scripts/test.sh soak     SEGNO_SOAK (20) times as much of the tests that find what is rare; some are in `all` once
#
# A test that is ignored, filtered out or not there counts as a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh

step() { printf '\n==> %s (%d s)\n' "$*" "$SECONDS"; }

scripts_parse() {
    local file
    for file in scripts/*.sh .ci/run; do
        bash -n "$file"
    done
    python3 - scripts/*.py <<'PYTHON'
import ast, pathlib, sys
for name in sys.argv[1:]:
    ast.parse(pathlib.Path(name).read_text(encoding="utf-8"), name)
PYTHON
}

check() {
    step 'scripts: do they parse'
    scripts_parse
    step 'scripts: tests of the oracles'
    python3 -B -m unittest discover -q -s scripts -p '*_test.py'
    step 'cargo fmt'
    cargo fmt --check
    step 'cargo clippy'
    cargo clippy --locked --all-targets -- -D warnings
    step 'house rules'
    cargo test --locked --quiet --test tidy
    step 'cargo doc'
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
}

deny() {
    step 'cargo deny'
    if ! command -v cargo-deny >/dev/null; then
        echo "installing cargo-deny into $SEGNO_CACHE/tools, once; this takes some minutes"
        cargo install --locked --quiet --root "$SEGNO_CACHE/tools" cargo-deny
    fi
    # Advisories need a database from elsewhere and are not checked here; deny.toml says what is known.
    cargo deny --locked --log-level warn check licenses bans sources
}

tests() {
    step 'cargo test: build'
    cargo test --locked --no-run
    step 'cargo test'
    local status=0
    log=$(mktemp "${TMPDIR:-/tmp}/segno-test.XXXXXX")
    trap 'rm -f "$log"' EXIT
    scripts/with-kafka.sh cargo test --locked --no-fail-fast 2>&1 | tee "$log" || status=$?
    sum "$log" "$status"
}

# Test programs, and a filter where not all of one is meant: what makes SEGNO_SOAK times as many rounds.
SOAKS=('storm' 'blackbox pausing')

soak() {
    export SEGNO_SOAK="${SEGNO_SOAK:-20}"
    local soak program filter status=0
    log=$(mktemp "${TMPDIR:-/tmp}/segno-soak.XXXXXX")
    trap 'rm -f "$log"' EXIT
    for soak in "${SOAKS[@]}"; do
        read -r program filter <<<"$soak"
        step "soak, $SEGNO_SOAK times as long: $soak"
        # Their seeds are shown also when all is well.
        scripts/with-kafka.sh cargo test --locked --test "$program" ${filter:+"$filter"} -- --nocapture 2>&1 |
            tee "$log" || status=$?
        if ! grep -q '^test result: .* [1-9][0-9]* passed' "$log"; then
            echo "no test passed: $soak"
            status=1
        fi
    done
    return "$status"
}

sum() { # log, exit status: one line for all test programs
    awk -v status="$2" '
        /^test result:/ { programs++; passed += $4; failed += $6; ignored += $8; filtered += $12 }
        END {
            printf "\n%d passed, %d failed\n", passed, failed
            if (ignored + filtered) { printf "%d ignored and %d filtered out: run every test\n", ignored, filtered; exit 1 }
            if (!programs || !passed) { print "no test ran"; exit 1 }
            exit (failed || status) ? 1 : 0
        }' "$1"
}

case ${1:-all} in
    check) check ;;
    deny) deny ;;
    soak) soak ;;
    all)
        # Where cargo-deny is there it is the cheapest check of all; else its installation is the dearest step.
        early=$(command -v cargo-deny || true)
        [ -z "$early" ] || deny
        check
        tests
        [ -n "$early" ] || deny
        step 'all good'
        ;;
    *) sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
