"""Fewer tokens: `python benchmarks/token_merging.py speed`, or `… accuracy CKPT [AFTER …]`. Prints a Markdown table.

speed: encoder and mask decoder (150 classes) without upsampling, batch 1, one thread, tuned malloc, random weights:
pictures per second of process CPU time, medians of alternating runs. keep=1 is the model as it always is, with the
attention that `models/attention.py` chooses.

accuracy: the whole evaluation of a training checkpoint that knows nothing of merging, on its own validation pictures,
at each budget and behind each of the blocks AFTER (default: a third of them), and how many pixels keep the label that
they have without merging. A model that is trained with merging is another matter:

    python train.py experiment=camvid_seg_t16_mask_modern dataset.root=$CAMVID backbone.token_merging.keep=0.5
    python eval.py ckpt=RUN/checkpoints/last.ckpt
"""

import json
import sys
from typing import Any

from side_by_side import alternated, child

KEEPS = (1.0, 0.9, 0.7, 0.5)
CASES = (("t", 256), ("t", 512), ("s", 512), ("b", 512))
RUNS = {"t": 7, "s": 5, "b": 3}


def measure(size: str, side: int, precision: str) -> None:
    """In a process of its own: pictures per second at each budget, printed as JSON."""
    import torch

    from segmenter_pl import create_segmenter
    from segmenter_pl.models.merging import make_merging

    torch.manual_seed(0)
    model = create_segmenter(f"vit_{size}16", "mask", num_classes=150, image_size=side).eval()
    image = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)

    def at(keep: float) -> Any:
        merging = make_merging({"keep": keep}, blocks=model.encoder.depth, vit=model.encoder.vit)

        def forward() -> None:
            model.encoder.merging = merging
            model.coarse_logits(image)

        return forward

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        seconds = alternated({str(keep): at(keep) for keep in KEEPS}, RUNS[size])
    print(json.dumps([1 / value for value in seconds.values()]))


def speed() -> None:
    columns = ("model", "pixels", "precision", *(f"keep {keep}, images/s" for keep in KEEPS))
    print("|", " | ".join([*columns, *(f"× at {keep}" for keep in KEEPS[1:])]), "|\n" + "|---" * 10 + "|")
    for size, side in CASES:
        for precision in ("fp32", "bf16"):
            rates = child(__file__, size, side, precision, malloc="tuned")
            cells = [f"Seg-{size.upper()}-Mask/16", f"{side}²", precision]
            cells += [f"{rate:.2f}" for rate in rates] + [f"{rate / rates[0]:.2f}" for rate in rates[1:]]
            print("|", " | ".join(cells), "|", flush=True)


def accuracy(checkpoint: str, blocks: list[int | None]) -> None:
    import torch
    from evaluating import agreement, evaluated

    torch.set_num_threads(1)
    print("| keep | after block | val mIoU | pixels with the same label, % |\n|---|---|---|---|")
    miou, usual = evaluated(checkpoint, token_merging={"keep": 1.0})
    print(f"| 1.0 | | {miou:.4f} | 100 |", flush=True)
    for after in blocks:
        for keep in KEEPS[1:]:
            miou, labels = evaluated(checkpoint, token_merging={"keep": keep, "after": after})
            where = "a third" if after is None else after
            print(f"| {keep} | {where} | {miou:.4f} | {agreement(labels, usual):.2f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["speed"]:
        speed()
    elif sys.argv[1:2] == ["accuracy"]:
        accuracy(sys.argv[2], [int(word) for word in sys.argv[3:]] or [None])
    else:
        measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])
