#!/usr/bin/env bash
# A sweep whose jobs SLURM runs side by side, a GPU each; run it on the login node:
#
#   pip install 'medseg[slurm]'
#   bash scripts/slurm_sweep.sh experiment=NAME data.root=DIR seed=0,1,2 optimizer.lr=1e-3,3e-4
#
# It waits for its jobs, then compares them (comparison.html). Their logs are in .submitit/ of the sweep's folder.
# Further keys: medseg-train hydra/launcher=submitit_slurm --cfg hydra -p hydra.launcher
set -euo pipefail

medseg-train -m hydra/launcher=submitit_slurm hydra.launcher.gpus_per_node=1 hydra.launcher.cpus_per_task=8 \
    hydra.launcher.mem_gb=64 hydra.launcher.timeout_min=1440 hydra.launcher.array_parallelism=8 "$@"
