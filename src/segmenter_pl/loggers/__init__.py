"""What a run writes while it trains: its metrics file, and mirrors of it in other tools."""

from segmenter_pl.loggers.base import RunLogger, finished
from segmenter_pl.loggers.metrics_csv import MetricsCSV
from segmenter_pl.loggers.mirror import Mirror
from segmenter_pl.loggers.tensorboard import TensorBoard
from segmenter_pl.loggers.wandb import Wandb
from segmenter_pl.loggers.wandb_history import read_wandb_history

__all__ = ["MetricsCSV", "Mirror", "RunLogger", "TensorBoard", "Wandb", "finished", "read_wandb_history"]
