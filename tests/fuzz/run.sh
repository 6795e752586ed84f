#!/usr/bin/env bash
# Fuzzes every parser of outside bytes for SECONDS each (default 20), beginning from the committed corpus.
# A finding ends the run: its input is in tests/fuzz/artifacts, and `cargo fuzz run` plays it again.
#
#   tests/fuzz/run.sh [SECONDS] [TARGET…]
#
# libFuzzer's coverage comes from flags that stable Rust has and does not promise: hence RUSTC_BOOTSTRAP.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=${1:-20}
shift || true
PATH=$("$here/../tools/setup.sh" fuzz):$PATH
export RUSTC_BOOTSTRAP=1
target=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
unset CARGO_TARGET_DIR
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(cd "$here/targets" && ls | sed 's/\.rs$//')

# The code is safe Rust: what is looked for are panics, endless loops and memory without bound, which need
# no sanitizer.
fuzz=(--fuzz-dir "$here" --sanitizer none --target-dir "$target")
cargo fuzz build "${fuzz[@]}"
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
for name in "${targets[@]}"; do
  mkdir -p "$found/$name"
  # New inputs go to the first folder, not into the committed one.
  if ! cargo fuzz run "${fuzz[@]}" "$name" "$found/$name" "$here/corpus/$name" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    >"$found/log" 2>&1; then
    tail -n 40 "$found/log"
    echo "fuzz: $name failed; the input is in $here/artifacts/$name" >&2
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found/log")
  memory=$(sed -n 's/^stat::peak_rss_mb: *//p' "$found/log")
  covered=$(grep -o 'cov: [0-9]*' "$found/log" | tail -n 1 | cut -d ' ' -f 2)
  printf '%-14s %12s inputs in %4s s, %6s edges, %5s MB\n' "$name" "$runs" "$seconds" "$covered" "$memory"
  if [ -n "${KEEP:-}" ]; then cp -n "$found/$name"/* "$KEEP/$name/" 2>/dev/null || true; fi
done
