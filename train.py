"""Train: `python train.py --help`."""

from segmenter_pl.train import main

if __name__ == "__main__":
    main()
