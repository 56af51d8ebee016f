"""Lightning callbacks of a run."""

from segmenter_pl.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints
from segmenter_pl.callbacks.interruption import Interrupted, Interruption
from segmenter_pl.callbacks.panel import Panel, SavePredictions
from segmenter_pl.callbacks.recorder import Progress, Recorder

__all__ = [
    "AtomicCheckpointIO",
    "Checkpoints",
    "Interrupted",
    "Interruption",
    "Panel",
    "Progress",
    "Recorder",
    "SavePredictions",
]
