"""Other implementations' checkpoints, read into ours."""

from segmenter_pl.interop.official import load_official

__all__ = ["load_official"]
