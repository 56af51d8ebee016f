"""Labels tile by tile against full-size accumulation: `python benchmarks/inference.py [memory]`. Prints a table.

Seg-T/16 with a mask decoder and 150 classes (random weights: the numbers do not matter), window and stride 512, one
thread. The plain way is what the other implementations do: plain.py in float32, one window at a time, full-size logits
by F.interpolate, added up and divided at full size, soft-max and sum over versions at full size, arg-max. Process CPU
time, medians of alternating runs. Labels of both in float32 are compared. `memory` prints what labelling adds to the
peak of a fresh process's resident memory: of the small picture both ways, of 12 megapixels by tiles alone, where one
accumulator of the plain way would take 22 GB at six scales.
"""

import json
import resource
import sys
import time
from statistics import median
from typing import Any

from side_by_side import MALLOCS, child

SIZES = {"683×512": (512, 683), "2048×1024": (1024, 2048)}
VIEWS = ("single scale", "6 scales, flip")


def plain(model: Any, image: Any, scales: tuple[float, ...], flip: bool) -> Any:
    """Labels (H, W) the usual way."""
    import torch.nn.functional as F

    from segmenter_pl.inference import rescaled, window_anchors

    window, probabilities = 512, 0
    for scale in scales:
        picture, size = rescaled(image, window, None, scale)
        picture = F.interpolate(picture[None].float(), size=size, mode="bilinear")[0]
        for mirrored in (False, True) if flip else (False,):
            seen = picture.flip(-1) if mirrored else picture
            total, count = seen.new_zeros(model.num_classes, *size), seen.new_zeros(size)
            for y in window_anchors(size[0], window, window):
                for x in window_anchors(size[1], window, window):
                    total[:, y : y + window, x : x + window] += model(seen[None, :, y : y + window, x : x + window])[0]
                    count[y : y + window, x : x + window] += 1
            total /= count
            if size != tuple(image.shape[-2:]):
                total = F.interpolate(total[None], size=tuple(image.shape[-2:]), mode="bilinear")[0]
            probabilities = probabilities + (total.flip(-1) if mirrored else total).softmax(0)
    return probabilities.argmax(0)


def measure(size: str, view: str, runs: int, only: str = "") -> None:
    """In a process of its own: seconds of all variants and the pixels that differ; or the memory of one, in MB."""
    import torch
    from plain import PlainSegmenter

    from segmenter_pl import create_segmenter, predict_labels
    from segmenter_pl.inference import SCALES

    torch.manual_seed(0)
    model = create_segmenter("vit_t16", "mask", num_classes=150, image_size=512).eval()
    usual = PlainSegmenter(model).eval()
    height, width = SIZES.get(size, (3000, 4000))
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    many: dict[str, Any] = {"scales": SCALES, "flip": True} if view != VIEWS[0] else {"scales": (1.0,), "flip": False}

    def tiles(bf16: bool = False) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return predict_labels(model, image, window=512, stride=512, **many)

    variants = {"plain": lambda: plain(usual, image, **many), "fp32": tiles, "bf16": lambda: tiles(True)}
    if only:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with torch.inference_mode():
            variants[only]()
        print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))
        return
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    labels = {}
    with torch.inference_mode():
        for _ in range(runs):
            for name, function in variants.items():
                start = time.process_time()
                labels[name] = function()
                seconds[name].append(time.process_time() - start)
    differ = int((labels["plain"] != labels["fp32"]).sum())
    print(json.dumps([*(median(taken) for taken in seconds.values()), differ]))


def main() -> None:
    if "memory" in sys.argv:
        print("| picture | view | plain, MB | fp32, MB | plain / fp32 |\n|---|---|---|---|---|")
        for view in VIEWS:
            usual, ours = (child(__file__, "683×512", view, 0, name) for name in ("plain", "fp32"))
            print(f"| 683×512 | {view} | {usual:.0f} | {ours:.0f} | {usual / ours:.1f} |", flush=True)
        for view in VIEWS:
            print(f"| 4000×3000 | {view} | – | {child(__file__, '12', view, 0, 'fp32'):.0f} | – |", flush=True)
        return
    columns = ("picture", "view", "malloc", "plain, s", "fp32, s", "bf16, s", "fp32 ×", "bf16 ×", "labels that differ")
    print("|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|")
    for size in SIZES:
        for view in VIEWS:
            for malloc in MALLOCS:
                if size != "683×512" and view != VIEWS[0]:
                    continue  # minutes for the plain way
                runs = 5 if view == VIEWS[0] else 3
                usual, fp32, bf16, differ = child(__file__, size, view, runs, malloc=malloc)
                row = f"{usual:.2f} | {fp32:.2f} | {bf16:.2f} | {usual / fp32:.1f} | {usual / bf16:.1f} | {differ:.0f}"
                print(f"| {size} | {view} | {malloc} | {row} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    else:
        main()
