"""Speed, size and memory of a model: counted without running it, measured in processes of their own."""
