"""Getting datasets: download, verify, extract, convert, import."""
