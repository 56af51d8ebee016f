"""Other implementations' checkpoints, read into ours and written from ours."""

from segmenter_pl.interop.blueprint import Blueprint
from segmenter_pl.interop.recognition import read_blueprint

__all__ = ["Blueprint", "read_blueprint"]
