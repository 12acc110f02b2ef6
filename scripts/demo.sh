#!/usr/bin/env bash
# The whole way on the phantom: train, predict files, evaluate files, draw one case. make demo runs it.
set -euo pipefail
unset OMP_NUM_THREADS # make sets it for the tests

out=demo
rm -rf "$out"
mkdir -p "$out"
export MEDSEG_CACHE="$PWD/$out/cache"

medseg-train experiment=phantom run_dir="$out/run"
images=$(dirname "$(find "$MEDSEG_CACHE/phantom_volumes" -name imagesTs -print -quit)")
medseg-predict checkpoint="$out/run/checkpoints/best.ckpt" input="$images/imagesTs" output="$out/predictions"
medseg-evaluate predictions="$out/predictions" labels="$images/labelsTs" images="$images/imagesTs" output="$out/scores"
python scripts/draw_case.py "$images" "$out/predictions" "$out/picture.png"
echo "Picture of image, label and prediction: $out/picture.png; report: $out/scores/report.html"
