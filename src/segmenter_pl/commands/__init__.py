"""The commands of `segmenter`, one module each; what they need at work is imported when they work."""
