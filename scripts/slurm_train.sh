#!/usr/bin/env bash
# One training on all GPUs of some machines under SLURM:  sbatch scripts/slurm_train.sh experiment=NAME data.root=DIR
# Two minutes before its time is over, SLURM sends SIGUSR1: the training saves a checkpoint and exits with 138, and the
# job puts itself into the queue again. It continues exactly where it was; likewise after scontrol requeue JOB, a
# pre-emption (SIGTERM), or the failure of a machine.
# Adapt the lines of SBATCH; --ntasks-per-node and --gres are to name the same number.
#SBATCH --job-name=medseg
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
#SBATCH --mem=128G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
set -euo pipefail

# One process for each GPU: srun starts them, Lightning finds out about it. The first one prepares, the others wait.
# --kill-on-bad-exit: if one ends with an error, the others are not left waiting.
# ckpt_path=last starts from scratch where there is no checkpoint yet.
status=0
srun --kill-on-bad-exit=1 medseg-train trainer=ddp \
    trainer.devices="$SLURM_NTASKS_PER_NODE" trainer.num_nodes="$SLURM_JOB_NUM_NODES" \
    run_dir="runs/slurm/$SLURM_JOB_ID" ckpt_path=last "$@" || status=$?
if [ "$status" -eq 138 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
