"""Mistakes of people, told to people."""

from segmenter_pl.faults.explained import HINT, OURS, TRACE, command, explained, told_at_once
from segmenter_pl.faults.overrides import check_bounds, check_overrides

__all__ = ["HINT", "OURS", "TRACE", "check_bounds", "check_overrides", "command", "explained", "told_at_once"]
