#!/usr/bin/env bash
# Builds the images with buildah, from scratch: the release binary, what it is linked to, CA
# certificates, and for inference the ONNX Runtime library of the pinned wheel. Nothing is pulled.
#
#   functions/images.sh             larder:VERSION, which the chart runs, and those of the functions:
#                                   larder-inference:VERSION and larder-model-sync:VERSION
#   functions/images.sh --smoke     then runs them with podman: inference must answer, model-sync must help,
#                                   and the controller print its CRD
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-target}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
say() { printf '%s\n' "$*" >&2; }

tests/tools/setup.sh images
eval "$(tests/tools/setup.sh env)"
cargo build --release --locked -p larder -p larder-inference -p larder-model-sync

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The machine's own container settings are neither read nor changed. Images and containers are the cache's; the
# latter too, because a container's monitor still cleans up there after podman has answered.
store=${XDG_CACHE_HOME:-$HOME/.cache}/larder/images
mkdir -p "$store"
cat >"$work/containers.conf" <<CONF
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
CONF
cat >"$work/storage.conf" <<CONF
[storage]
driver = "vfs"
graphroot = "$store/storage"
runroot = "$store/run"
CONF
echo 'unqualified-search-registries = []' >"$work/registries.conf"
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
export CONTAINERS_REGISTRIES_CONF=$work/registries.conf

# glibc that Amazon Linux 2023 has: the binaries also run from a zip on provided.al2023.
newest=2.34
for binary in larder-inference larder-model-sync; do
  needs=$(objdump -T "$target/release/$binary" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -n 1)
  if [ "$(printf '%s\n%s\n' "$needs" "$newest" | sort -V | tail -n 1)" != "$newest" ]; then
    say "$binary needs glibc $needs, and Amazon Linux 2023 has $newest"
    exit 1
  fi
done

# root BINARY [LIBRARY]: lays out the root file system of an image.
root() {
  local at=$work/$1/root
  mkdir -p "$at"/{usr/bin,opt/lib,etc/ssl/certs,tmp,mnt/larder,lib64}
  cp "$target/release/$1" "$at/usr/bin/"
  cp /etc/ssl/certs/ca-certificates.crt "$at/etc/ssl/certs/"
  [ $# -lt 2 ] || cp "$2" "$at/opt/lib/libonnxruntime.so"
  # Every library that the dynamic loader would take, at the path where it looks for it.
  { ldd "$target/release/$1"; [ $# -lt 2 ] || ldd "$2"; } | grep -o '/[^ ]*\.so[^ ]*' | sort -u | while read -r library; do
    mkdir -p "$at$(dirname "$library")"
    cp -L "$library" "$at$library"
  done
}

image() { # BINARY FOLDER: the image of a binary, by the folder's Containerfile.
  cp "$2/Containerfile" "$work/$1/"
  buildah build --isolation chroot --quiet --tag "$1:$version" "$work/$1" >/dev/null
  say "$1:$version  $(du -sm "$work/$1/root" | cut -f 1) MB"
}

library=$(find "$(dirname "$LARDER_PYTHON")/../lib" -name 'libonnxruntime.so.*' | head -n 1)
root larder
image larder controller
root larder-inference "$library"
image larder-inference functions/inference
root larder-model-sync
image larder-model-sync functions/model-sync
# What bore these names before.
podman image prune --force >/dev/null

if [ "${1:-}" = --smoke ]; then
  # As the chart runs it: nobody in particular, who may write nothing.
  podman run --rm --network none --read-only --cap-drop ALL "larder:$version" crd |
    diff -q - crds/inferenceendpoints.larder.dev.yaml >/dev/null || {
    say "the controller's image does not print the CRD"
    exit 1
  }
  podman run --rm --network none "larder-model-sync:$version" --help >/dev/null
  models=$(mktemp -d -p "$work")
  packages=$(cd "$(dirname "$library")/../.." && pwd)
  mkdir -p "$models/ocr"
  cp "$packages/rapidocr/models/PP-OCRv6_det_small.onnx" "$models/ocr/det.onnx"
  cp "$packages/rapidocr/models/PP-OCRv6_rec_small.onnx" "$models/ocr/rec.onnx"
  port=$((20000 + RANDOM % 20000))
  id=$(podman run --detach --network host --volume "$models:/models:ro" "larder-inference:$version" \
    serve --listen "127.0.0.1:$port" --models /models)
  trap 'podman rm --force --time 0 "$id" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
  for _ in $(seq 100); do
    curl -sf "http://127.0.0.1:$port/v2/health/ready" >/dev/null && break
    sleep 0.2
  done
  "$LARDER_PYTHON" tests/pictures/draw.py sign "$work/sign.png" --english 'North Gate' --chinese 北门
  answer=$(curl -sf --data-binary "@$work/sign.png" -H 'content-type: image/png' "http://127.0.0.1:$port/ocr?language=en,ch_sim")
  say "$answer"
  case $answer in *'North Gate'*北门* | *北门*'North Gate'*) say "the image reads the sign" ;; *)
    say "the image did not read the sign"
    exit 1
    ;;
  esac
fi
