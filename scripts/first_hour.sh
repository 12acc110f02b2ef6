#!/usr/bin/env bash
# The first hour of somebody new: a fresh clone, an installation, and the three tutorials as they stand there.
#
#   bash scripts/first_hour.sh [FOLDER]
#
# FOLDER (a new one under /tmp otherwise) gets the clone, the environment, the drawn folders and all that the commands
# write; what each command printed is in FOLDER/*.txt. Installing takes minutes: VENV=PATH takes an environment that has
# the package already, with the code of the clone. The commands are taken out of docs/tutorials, each with the budget that
# it has there, a minute or so of training on two cores. It fails where one of them does, or leaves no result.
set -euo pipefail
unset OMP_NUM_THREADS MEDSEG_CACHE # as nobody new has set them

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(realpath -m "${1:-$(mktemp -d /tmp/first_hour.XXXXXX)}")
if [ -e "$work/medseg" ]; then
    echo "error: $work/medseg is there already; name another folder" >&2
    exit 2
fi
mkdir -p "$work/mine"

took() { # seconds since the given ones, and what for
    printf '%6d s  %s\n' "$((SECONDS - $1))" "$2" | tee -a "$work/times.txt"
}

began=$SECONDS
git clone --quiet "$source" "$work/medseg"
took "$began" "fresh clone of $(git -C "$work/medseg" rev-parse --short HEAD)"

began=$SECONDS
if [ -n "${VENV:-}" ]; then
    export PATH="$VENV/bin:$PATH" PYTHONPATH="$work/medseg"
else
    "${PYTHON:-python3}" -m venv "$work/venv"
    export PATH="$work/venv/bin:$PATH"
    (cd "$work/medseg" && pip install --quiet --disable-pip-version-check -c constraints.txt .)
    took "$began" "installation"
fi
export MEDSEG_CACHE="$work/cache" WANDB_DATA_DIR="$work/wandb" # leave nothing outside of the folder

began=$SECONDS
python "$work/medseg/scripts/draw_folders.py" "$work/mine"
took "$began" "drawing the three folders"

given() { # the value of a key in a command
    grep -oP "(?<=\s)$2=\K\S+" <<<"$1" || true
}

check() { # that a command has left what it promises
    local left
    for left in $(given "$1" output) $(given "$1" run_dir); do
        if [ -d "$left" ] && [ -z "$(find "$left" -type f -print -quit)" ] || [ ! -e "$left" ]; then
            echo "error: nothing in $left" >&2
            return 1
        fi
    done
    case "$1" in
        *medseg-train\ -m*) test -s "$(given "$1" run_dir)/comparison.html" ;;
        *medseg-train*) test -s "$(given "$1" run_dir)/report.html" -a -s "$(given "$1" run_dir)/checkpoints/best.ckpt" ;;
        *medseg-evaluate*) test -s "$(given "$1" output)/report.html" -a -s "$(given "$1" output)/metrics.json" ;;
    esac
}

walk() { # the commands of a page, in the folder with what was drawn
    local page=$1 log="$work/$(basename "$1" .md).txt" path_began=$SECONDS command
    cd "$work/mine"
    while IFS= read -r command; do
        began=$SECONDS
        echo "\$ $command" >>"$log"
        if ! bash -c "$command" >>"$log" 2>&1 </dev/null || ! check "$command"; then
            tail -20 "$log" >&2
            echo "error: $page: $command" >&2
            exit 1
        fi
        took "$began" "${command:0:100}"
    done < <(python "$work/medseg/scripts/page_commands.py" "$work/medseg/$page")
    took "$path_began" "$page: all of it"
}

walk docs/tutorials/volumes.md
walk docs/tutorials/scenes.md
walk docs/tutorials/encoder.md
took 0 "all"
echo "Printed by the commands: $work/*.txt; predictions and reports: $work/mine"
