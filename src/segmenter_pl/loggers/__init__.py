"""What a run writes while it trains: its metrics file, and mirrors of it in other tools."""

from segmenter_pl.loggers.base import Prediction, RunLogger, finished
from segmenter_pl.loggers.metrics_csv import MetricsCSV
from segmenter_pl.loggers.mirror import Mirror
from segmenter_pl.loggers.tensorboard import TensorBoard
from segmenter_pl.loggers.wandb import Wandb
from segmenter_pl.loggers.wandb_history import WandbRun, read_wandb_history, read_wandb_run

__all__ = [
    "MetricsCSV",
    "Mirror",
    "Prediction",
    "RunLogger",
    "TensorBoard",
    "Wandb",
    "WandbRun",
    "finished",
    "read_wandb_history",
    "read_wandb_run",
]
