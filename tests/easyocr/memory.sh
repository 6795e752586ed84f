#!/usr/bin/env bash
# What larder-inference takes for EasyOCR's models (CRAFT, english_g2, zh_sim_g2 and thai_g1) and a picture of 4:3 whose
# longest side is 640, 1280 and 2560 pixels: its peak resident memory, once started and once answered.
# Needs `make tools build`.
set -euo pipefail
cd "$(dirname "$0")/../.."
eval "$(tests/tools/setup.sh env)"
program=${CARGO_TARGET_DIR:-target}/debug/larder-inference
library=$("$LARDER_PYTHON" -c 'import glob, onnxruntime; print(glob.glob(onnxruntime.__path__[0] + "/capi/libonnxruntime.so.*")[0])')
work=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid"; rm -r "$work"' EXIT
mkdir "$work/models"
ln -s "$LARDER_EASYOCR/models" "$work/models/signs"
peak() { awk '/VmHWM/ { printf "%d MiB", $2 / 1024 }' "/proc/$pid/status"; }
for side in 640 1280 2560; do
  "$LARDER_PYTHON" - "$LARDER_EASYOCR/pictures/000.png" "$side" "$work/picture.png" <<'PYTHON'
import sys
from PIL import Image

sign, side, target = Image.open(sys.argv[1]).convert("RGB"), int(sys.argv[2]), sys.argv[3]
picture = Image.new("RGB", (side, side * 3 // 4), (200, 200, 200))
picture.paste(sign.resize((side // 2, sign.height * side // 2 // sign.width)), (10, 10))
picture.save(target)
PYTHON
  AWS_LAMBDA_FUNCTION_MEMORY_SIZE=10240 ORT_DYLIB_PATH=$library "$program" serve \
    --listen 127.0.0.1:39881 --models "$work/models" --request-timeout 600 > "$work/log" 2>&1 &
  pid=$!
  curl -sf --retry 60 --retry-connrefused --retry-delay 1 -o "$work/ready" 127.0.0.1:39881/v2/health/ready
  started=$(peak)
  curl -sf --data-binary "@$work/picture.png" -H 'content-type: image/png' -o "$work/answer" 127.0.0.1:39881/models/signs
  echo "$side pixels: $started once started, $(peak) once answered"
  kill "$pid"
  wait "$pid" || true
  pid=
done
