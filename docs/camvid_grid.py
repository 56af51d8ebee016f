"""Pictures of CamVid, truth, single scale, six scales and mirrors: `python docs/camvid_grid.py CKPT`.

Writes docs/figures/camvid_evaluation.jpg. Needs CAMVID; the pictures are CC BY-NC 4.0 (docs/figures/README.md).
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from segmenter_pl import Predictor, load_segmenter
from segmenter_pl.pictures import read_rgb
from segmenter_pl.visualize import beside, colorize, legend, overlay, panel

PICTURES, WIDTH = 4, 1600


def main(checkpoint: str) -> None:
    root = Path(os.environ["CAMVID"])
    model = load_segmenter(checkpoint)
    spec = model.spec
    assert spec is not None
    assert spec.palette is not None
    assert spec.classes is not None
    views = [Predictor(model), Predictor(model, multiscale=True, flip=True)]
    paths = sorted((root / "images/val").glob("*.jpg"))
    rows = []
    for path in paths[:: len(paths) // PICTURES][:PICTURES]:
        image = read_rgb(path)
        truth = np.array(Image.open(root / "labels/val" / f"{path.stem}.png"))
        predicted = [overlay(image, view.segment(path), spec.palette, 0.6) for view in views]
        rows.append([image, colorize(truth, spec.palette), *predicted])
    sheet = panel(rows)
    key = legend([(k, 0.0) for k in range(len(spec.classes))], spec.classes, spec.palette, sheet.shape[0] // 2)
    whole = Image.fromarray(beside(sheet, key[:, : key.shape[1] * 2 // 3]))  # without the shares
    whole.thumbnail((WIDTH, WIDTH))
    whole.save(Path(__file__).parent / "figures/camvid_evaluation.jpg", quality=88)


if __name__ == "__main__":
    main(sys.argv[1])
