#!/usr/bin/env bash
# Makes the images of this folder again, with buildah: a model as KServe's modelcars are, in two
# layers of which the upper one replaces, links and takes away, compressed by gzip and by zstd and in Docker's form.
# The tests read what lies here, so that they need no buildah. Needs root, or `buildah unshare`.
#
#   functions/model-sync/tests/images/make.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/storage"\nrunroot = "%s/run"\n' "$work" "$work" >"$work/storage.conf"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$work/policy.json"
export CONTAINERS_STORAGE_CONF=$work/storage.conf

base=$(buildah from scratch)
root=$(buildah mount "$base")
mkdir -p "$root/etc" "$root/models/onnx" "$root/models/old"
echo 'not of the model' >"$root/etc/hostname"
seq 1 2000 >"$root/models/onnx/model.onnx"
echo '{"version": 1}' >"$root/models/config.json"
echo 'taken away' >"$root/models/gone.txt"
echo 'hidden with its folder' >"$root/models/old/vocabulary.txt"
buildah umount "$base" >/dev/null
buildah commit --quiet --timestamp 0 "$base" base >/dev/null

upper=$(buildah from base)
root=$(buildah mount "$upper")
echo '{"version": 2}' >"$root/models/config.json"
rm "$root/models/gone.txt"
rm -r "$root/models/old" && mkdir "$root/models/old" && echo 'new' >"$root/models/old/keys.txt"
mkdir -p "$root/models/$(printf 'deep%.0s' {1..30})/$(printf 'deeper%.0s' {1..20})"
echo 'a long name' >"$root/models/$(printf 'deep%.0s' {1..30})/$(printf 'deeper%.0s' {1..20})/note.txt"
ln "$root/models/config.json" "$root/models/same.json"
ln -s onnx/model.onnx "$root/models/latest.onnx"
ln -s ../../etc/hostname "$root/models/onnx/host"
buildah umount "$upper" >/dev/null
buildah commit --quiet --timestamp 0 "$upper" modelcar >/dev/null

push() { # NAME OPTION…: the manifest, and beside it each blob under its digest
  rm -rf "$1"
  buildah push --quiet --signature-policy "$work/policy.json" "${@:2}" modelcar "dir:$1"
}
push gzip --format oci --compression-format gzip
push zstd --format oci --compression-format zstd
push docker --format v2s2
rm -f ./*/version
