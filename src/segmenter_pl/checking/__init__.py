"""Is a dataset sound? Every file is read; what is wrong is collected, what it holds is counted and drawn."""
