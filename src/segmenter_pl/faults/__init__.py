"""Mistakes of people, told to people."""

from segmenter_pl.faults.explained import HINT, OURS, TRACE, explained
from segmenter_pl.faults.overrides import check_overrides

__all__ = ["HINT", "OURS", "TRACE", "check_overrides", "explained"]
