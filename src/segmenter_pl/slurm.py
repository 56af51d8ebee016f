"""Slurm: the processes that srun started, and a job that goes back into the queue before its time is up."""

import os
import subprocess
from typing import Any

from lightning.pytorch.plugins.environments import SLURMEnvironment


def environment() -> list[Any]:
    """For the Trainer's plugins where srun has started this process.

    Without Lightning's own way to requeue, which saves in the middle of a step; `Interruption` ends the step first.
    """
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def requeue() -> str:
    """Put this job back into the queue; a sentence on what came of it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        return f"It could not be put back into the queue ({reason.strip()}): submit it again"
    return f"It is back in the queue as job {job}"
