"""Evaluate: `python eval.py --help`."""

from segmenter_pl.eval import main

if __name__ == "__main__":
    main()
