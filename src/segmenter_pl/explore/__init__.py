"""`segmenter explore`: a page on this machine to look at pictures through a model. Only this package knows the web."""
