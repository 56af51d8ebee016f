"""One sentence for a mistake in settings or data, a traceback only for a bug of ours."""

import os
import re
import signal
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import (
    CompactHydraException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, MissingMandatoryValue

from segmenter_pl.faults.composition import (
    lines_of,
    local_of,
    missing_value,
    not_built,
    not_composed,
    unknown_option,
)

TRACE = "HYDRA_FULL_ERROR"  # Hydra's own switch, 1 for whole traces
OURS = "SEGMENTER_EXPLAINS"  # says that it was us who set TRACE: nested calls and DDP's processes inherit both
HINT = f"{TRACE}=1 shows the whole trace"
HERE = str(Path(__file__).parents[1]) + os.sep
HYDRA = str(Path(hydra.__file__).parent) + os.sep
RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # of torchrun, srun and Lightning
LONGEST = 100  # characters of a word that are shown
PATIENCE = 5  # seconds
LOST = re.compile(r"gloo.*(closed|reset) by peer|NCCL error|remote process exited", re.DOTALL)
STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep


def command(run: Callable[[], Any]) -> None:
    """A person's command: `explained`, and after a signal the exit code 128 + its number, without a trace."""

    def stop(signum: int, frame: FrameType | None) -> None:
        os.write(2, b"Stopped\n")
        os._exit(128 + signum)  # nothing is begun yet, and an import that is cut off says odd things

    before = signal.signal(signal.SIGINT, stop)
    try:
        with explained():
            run()
    except BaseException as error:
        if not hasattr(error, "signum"):
            raise
        print(f"Stopped by {error}", file=sys.stderr)
        raise SystemExit(128 + error.signum) from None
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def explained() -> Iterator[None]:
    """Around a command: what its user can put right becomes `Error: <sentence>` on stderr and exit code 1.

    That is what this package refuses (ValueError, OSError, MemoryError), what Hydra cannot compose, and what Hydra
    cannot build. Everything else is raised as it is, and so is everything where the user set HYDRA_FULL_ERROR=1.
    """
    if os.environ.get(TRACE) == "1" and OURS not in os.environ:
        yield
        return
    before, read = {name: os.environ.get(name) for name in (TRACE, OURS)}, JobReturn.return_value
    os.environ |= dict.fromkeys(before, "1")
    JobReturn.return_value = read.getter(_without_preface)  # type: ignore[attr-defined,method-assign]
    try:
        yield
    except Exception as error:
        sentence = "a job of the sweep failed, see above" if hasattr(error, "told") else explanation(error)
        if sentence is None:
            raise
        _let_the_first_speak()
        sys.stderr.write(f"Error: {sentence}\n{HINT}\n")
        raise SystemExit(1) from error
    finally:
        JobReturn.return_value = read  # type: ignore[method-assign]
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def told_at_once() -> Iterator[None]:
    """Around a job: in a sweep each failure is told as it happens; Hydra goes on and raises the first at the end."""
    try:
        yield
    except Exception as error:
        job = HydraConfig.get()
        if job.mode == RunMode.MULTIRUN and (sentence := explanation(error)):
            print(f"Error in the job {' '.join(job.overrides.task)}: {sentence}", file=sys.stderr)
            error.told = True  # type: ignore[attr-defined]
        raise


def _let_the_first_speak() -> None:
    """What all processes of a run meet is told by the first one, whose end is that of the others; what only one of the
    others has met, a little later."""
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    if rank != "0":
        time.sleep(PATIENCE)


def _without_preface(job: JobReturn) -> Any:
    """A job's result, or its exception; Hydra would print all overrides first."""
    if job.status == JobStatus.FAILED:
        raise job._return_value
    return job._return_value


def explanation(error: BaseException) -> str | None:
    """The sentence for the user, or None where `error` is a bug."""
    chain = [error]
    while isinstance(chain[-1], HydraException) and (below := chain[-1].__cause__ or chain[-1].__context__):
        chain.append(below)
    for one in chain:
        if (text := _ours(one)) is not None:
            return text
    for one in chain:
        if isinstance(one, MissingMandatoryValue):
            return missing_value(error, one)
    match error:
        case MissingConfigException():
            return unknown_option(error)
        case OverrideParseException():
            reason = next((line for line in lines_of(error.message) if not line.startswith("Error parsing")), "")
            return (
                f"{error.override} cannot be read ({reason}): write KEY=VALUE without spaces, and "
                "quote values with special characters twice: 'KEY=\"VALUE\"'"
            )
        case InstantiationException():
            return not_built(error)
        case CompactHydraException():
            return not_composed(error)
        case InterpolationResolutionError() | GrammarParseError():
            return f"{error.full_key or 'a setting'}: {lines_of(str(error))[0]}"
    if isinstance(error, RuntimeError) and LOST.search(str(error)):
        return "another process of this run has ended, see above; the same command continues from the last checkpoint"
    if isinstance(error, RuntimeError) and '"srun"' in str(error):  # of submitit
        return "hydra/launcher=slurm: there is no srun on this machine; start it where Slurm is, or leave it out"
    override = local_of(error, "override")
    if isinstance(error, ValueError) and hasattr(override, "input_line"):  # Hydra's own, about a value for a group
        return f"{override.input_line}: {error}"
    return _not_foreseen(error, override)


def _not_foreseen(error: BaseException, override: Any) -> str | None:
    """What Hydra stumbles over while it puts the words together: brackets by the hundred, lists in place of names."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = any(frame.name == "load_configuration" and frame.filename.startswith(HYDRA) for frame in frames)
    if not inside or frames[-1].filename.startswith(HERE):
        return None
    word = getattr(override, "input_line", None) or " ".join(map(str, local_of(error, "overrides") or ("a setting",)))
    deep = isinstance(error, RecursionError)
    reason = "too many brackets inside one another" if deep else f"{type(error).__name__}: {lines_of(str(error))[0]}"
    return f"{word[:LONGEST]} cannot be composed ({reason}): write KEY=VALUE, and for a group the name of an option"


def _ours(error: BaseException) -> str | None:
    """The message of an exception that was raised in this package, here or in a worker of a DataLoader."""
    if not isinstance(error, (ValueError, OSError, MemoryError)) or isinstance(error, HydraException):
        return None
    text, files = str(error), [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if re.match(r"Caught \w+ in DataLoader worker process", text):
        last = text.rpartition("Traceback (most recent call last):\n")[2]
        files = re.findall(r'^  File "(.+?)", line', last, re.MULTILINE)
        message = re.search(r"^\S.*", last, re.MULTILINE | re.DOTALL)  # frames are indented
        text = message[0].partition(": ")[2].rstrip() if message else text
    if isinstance(error, OSError):  # open() and mkdir() name the file themselves, whoever calls them for us
        while files and files[-1].startswith(STANDARD_LIBRARY) and "site-packages" not in files[-1]:
            files.pop()
    makers = (HERE, HYDRA) if isinstance(error, OSError) else HERE  # Hydra makes the run directory
    if not files or not files[-1].startswith(makers):
        return None
    return text or "the memory does not suffice: lower dataset.batch_size or dataset.num_workers"
