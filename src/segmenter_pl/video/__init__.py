"""Videos in and out, frame by frame: memory does not grow with their length."""

from segmenter_pl.video.reading import FrameFiles, Frames, VideoError, VideoFile
from segmenter_pl.video.smoothing import smoothed
from segmenter_pl.video.writing import VideoSink

__all__ = ["FrameFiles", "Frames", "VideoError", "VideoFile", "VideoSink", "smoothed"]
