"""Files of weights: opened by their content, renamed, and fitted to a model."""
