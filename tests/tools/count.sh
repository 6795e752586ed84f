#!/usr/bin/env bash
# Runs a test command, shows its output, and ends with one line that sums up: "N passed, N failed, N skipped".
# Fails when the command fails, when a test fails, or when no test ran.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
awk -v code="$code" '
  /^test result: / {
    for (i = 1; i < NF; i++) {
      if ($(i + 1) ~ /^passed/) passed += $i
      if ($(i + 1) ~ /^failed/) failed += $i
      if ($(i + 1) ~ /^ignored/) ignored += $i
    }
  }
  END {
    printf "%d passed, %d failed, %d skipped\n", passed, failed, ignored
    exit (code != 0 || failed > 0 || passed == 0) ? 1 : 0
  }' "$log"
