"""tools/slurm/train.sbatch, with commands of the test's own in place of Slurm's and of `dit`."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/slurm/train.sbatch"
SRUN = """#!/usr/bin/env bash
while [ "$1" != bash ]; do shift; done
for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=4 SLURM_NNODES=2 "$@" & jobs="$jobs $!"; done
code=0
for job in $jobs; do wait "$job" || code=$?; done
exit $code
"""
SCONTROL = """#!/usr/bin/env bash
case $1 in show) printf 'first\\nsecond\\n' ;; *) echo "$@" >> "$RECORD/scontrol" ;; esac
"""
DIT = """#!/usr/bin/env bash
echo "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT $*" >> "$RECORD/dit"
sleep "$SECONDS_OF_WORK"
if [ "$RANK" = 0 ] && [ -n "$STATE" ]; then
  mkdir -p run
  printf '{"state": "%s",\\n"pid": %s}' "$STATE" $$ > run/status.json
fi
exit $CODE
"""


@pytest.fixture
def submit(tmp_path):
    """Start the script as a job's shell."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "dit": DIT}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)

    def start(*arguments: str, state: str = "", code: int = 0, work: float = 0) -> subprocess.Popen[str]:
        facts = {"STATE": state, "CODE": str(code), "SECONDS_OF_WORK": str(work), "RECORD": str(tmp_path)}
        slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_PER_TASK": "3"}
        environment = os.environ | facts | slurm | {"PATH": f"{commands}:{os.environ['PATH']}"}
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def end(job: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, message = job.communicate()
    return job.returncode, output, message


def requeued(tmp_path: Path) -> bool:
    return (tmp_path / "scontrol").is_file() and (tmp_path / "scontrol").read_text() == "requeue 77\n"


def test_each_task_is_a_process_of_the_run(submit, tmp_path):
    job = submit("recipe.yaml", "--output", "run", "--train.max_steps", "3", state="done")
    assert end(job) == (0, "train.sbatch: run: done, exit code 0\n", "")
    command = "first 20077 train recipe.yaml --output run --train.max_steps 3 --resume"
    assert sorted((tmp_path / "dit").read_text().splitlines()) == [f"0 0 4 2 {command}", f"1 1 4 2 {command}"]
    assert not requeued(tmp_path)


def test_a_preempted_run_queues_again(submit, tmp_path):
    assert end(submit("recipe", "--output=run", state="preempted", code=75))[0] == 0
    assert requeued(tmp_path)


@pytest.mark.parametrize(("state", "code"), [("failed", 1), ("", 2)])
def test_a_run_that_fails_does_not(submit, tmp_path, state, code):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/status.json").write_text('{"state": "preempted"}')  # of the job before
    assert end(submit("recipe", "--output", "run", state=state, code=code))[0] == code
    assert not requeued(tmp_path)


def test_a_signal_to_the_shell_does_not_end_it_before_the_run(submit, tmp_path):
    job = submit("recipe", "--output", "run", state="preempted", code=75, work=1)
    while not (tmp_path / "dit").is_file() and job.poll() is None:
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    job.send_signal(signal.SIGUSR1)
    assert end(job)[1] == "train.sbatch: run: preempted, exit code 75\n"
    assert requeued(tmp_path)


def test_the_folder_of_the_run_is_needed(submit):
    message = "train.sbatch: expected --output RUN, a folder that all nodes see, found none; add it\n"
    assert end(submit("recipe")) == (2, "", message)
