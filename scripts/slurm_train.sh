#!/usr/bin/env bash
# One training on all GPUs of some machines under SLURM:  sbatch scripts/slurm_train.sh experiment=NAME data.root=DIR
# Put into the queue again (scontrol requeue JOB, or by SLURM when a machine failed), it goes on from its last epoch.
# Adapt the lines of SBATCH; --ntasks-per-node and --gres are to name the same number.
#SBATCH --job-name=medseg
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
#SBATCH --mem=128G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

run_dir="runs/slurm/$SLURM_JOB_ID"
resume=()
if [ -f "$run_dir/checkpoints/last.ckpt" ]; then
    resume=(ckpt_path=last)
fi
# One process for each GPU: srun starts them, Lightning finds out about it. The first one prepares, the others wait.
# --kill-on-bad-exit: if one ends with an error, the others are not left waiting.
srun --kill-on-bad-exit=1 medseg-train trainer=ddp \
    trainer.devices="$SLURM_NTASKS_PER_NODE" trainer.num_nodes="$SLURM_JOB_NUM_NODES" \
    run_dir="$run_dir" "${resume[@]}" "$@"
