#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and nothing that is there already.
#
#   scripts/setup.sh build    what the build needs: a C++ compiler, libclang, OpenSSL's and zlib's headers, ccache
#   scripts/setup.sh test     that, and what the tests need: a JDK and Maven (for a real Kafka), npm (for real data)
#
# Rust comes from rustup, which this script does not touch. Without root it says what to run and stops.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

say() { printf 'setup: %s\n' "$*" >&2; }

check_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$SEGNO_ROOT/Cargo.toml")
    command -v cargo >/dev/null || {
        say "Rust is missing. Install rustup (https://rustup.rs), then: rustup toolchain install stable"
        exit 1
    }
    found=$(cargo --version | sed 's/^cargo \([0-9.]*\).*/\1/')
    if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
        say "Rust $wanted or newer is needed, this is $found. Run: rustup update stable"
        exit 1
    fi
}

check_components() { # rustup's minimal profile leaves these out
    local missing=()
    cargo fmt --version >/dev/null 2>&1 || missing+=(rustfmt)
    cargo clippy --version >/dev/null 2>&1 || missing+=(clippy)
    [ ${#missing[@]} -eq 0 ] || { say "run: rustup component add ${missing[*]}"; exit 1; }
}

has() { command -v "$1" >/dev/null; }
any_libclang() { # libclang-cpp lies beside it and is of no use to bindgen
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null ||
        compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null || [ -n "${LIBCLANG_PATH:-}" ]
}
java_17() {
    has javac && [ "$(javac -version 2>&1 | sed 's/^javac \([0-9]*\).*/\1/')" -ge 17 ] 2>/dev/null
}

missing_packages() {
    has gcc && has g++ || echo g++
    has make || echo make
    has pkg-config || echo pkg-config
    has ccache || echo ccache
    has python3 || echo python3
    has curl || echo curl
    any_libclang || echo libclang-dev
    pkg-config --exists openssl 2>/dev/null || echo libssl-dev
    pkg-config --exists zlib 2>/dev/null || echo zlib1g-dev
    [ "$1" = test ] || return 0
    java_17 || jdk
    has mvn || echo maven
    has npm || printf '%s\n' nodejs npm
}

jdk() { # newer releases have dropped 17; Kafka runs on their default as well
    local candidate
    candidate=$(apt-cache policy openjdk-17-jdk-headless 2>/dev/null | sed -n 's/^ *Candidate: //p')
    case $candidate in
        '' | '(none)') echo default-jdk-headless ;;
        *) echo openjdk-17-jdk-headless ;;
    esac
}

level=${1:-build}
case $level in
    build | test) ;;
    *) sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac

check_rust
[ "$level" = build ] || check_components
mapfile -t packages < <(missing_packages "$level")
[ ${#packages[@]} -gt 0 ] || exit 0

if ! has apt-get; then
    say "missing: ${packages[*]} (names as in Debian). This script knows apt-get only: install them your system's way."
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    say "missing: ${packages[*]}. Run this, then start again:"
    printf '    sudo apt-get update && sudo apt-get install -y --no-install-recommends %s\n' "${packages[*]}" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
# Only now does apt know which JDK this release has.
mapfile -t packages < <(missing_packages "$level")
say "installing ${packages[*]}"
apt-get install -y -q --no-install-recommends "${packages[@]}" >&2
mapfile -t packages < <(missing_packages "$level")
[ ${#packages[@]} -eq 0 ] || { say "still missing after the installation: ${packages[*]}"; exit 1; }
