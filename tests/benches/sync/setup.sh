#!/usr/bin/env bash
# Makes what the comparison needs: rclone and the AWS CLI (version 2, with its transfer client in C) from Debian,
# and a Python with boto3[crt], in the cache of tests/tools/setup.sh. Prints the Python.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
missing=()
for name in rclone awscli python3-venv; do
  [[ $(dpkg-query -W -f '${Status}' "$name" 2>/dev/null) == *"ok installed" ]] || missing+=("$name")
done
if ((${#missing[@]})); then
  if [[ $(id -u) != 0 ]]; then
    echo "Packages are missing. Run: sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >&2
fi
venv=${XDG_CACHE_HOME:-$HOME/.cache}/larder/python/bench-$(sha256sum "$here/requirements.txt" | cut -c1-12)
if [[ ! -e $venv/.whole ]]; then
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -q -r "$here/requirements.txt" >&2
  "$venv/bin/python" -c 'import awscrt, boto3'
  touch "$venv/.whole"
fi
echo "$venv/bin/python"
