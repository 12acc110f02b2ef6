#!/usr/bin/env bash
# One training on several machines without a scheduler: run this on each of them, with the same arguments.
#
#   NODES=2 DEVICES=8 HEAD=host0:29500 bash scripts/torchrun_train.sh run_dir=runs/mine experiment=NAME data.root=DIR
#
# NODES (1): machines; DEVICES (1): GPUs of each; HEAD (localhost:29500): one of the machines, and a port that is free.
# run_dir and cache_dir are best on a file system that all of them see. On one machine, medseg-train trainer=ddp is all
# that is needed.
set -euo pipefail

nodes="${NODES:-1}"
devices="${DEVICES:-1}"
torchrun --nnodes="$nodes" --nproc-per-node="$devices" \
    --rdzv-backend=c10d --rdzv-endpoint="${HEAD:-localhost:29500}" --rdzv-id=medseg \
    --no-python medseg-train trainer=ddp trainer.devices="$devices" trainer.num_nodes="$nodes" "$@"
