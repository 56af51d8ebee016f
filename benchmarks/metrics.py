"""Counting one megapixel into the confusion matrix: `python benchmarks/metrics.py`. Prints a Markdown table.

1024×1024 labels and predictions, a tenth ignored, one thread; CPU milliseconds, medians of alternating runs. The
project's metric gets them as uint8, and as int64, the type in which validation and evaluation have them. Beside it
what is usual, from uint8: torch.bincount of valid pixels as int64, and torchmetrics' own update.
"""

import torch
from side_by_side import alternated
from torchmetrics.classification import MulticlassConfusionMatrix

from segmenter_pl.metrics import SegmentationMetrics


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| K | ours, ms | ours from int64, ms | bincount, ms | torchmetrics, ms |\n|---|---|---|---|---|")
    for classes in (19, 60, 150):
        target = torch.randint(0, classes, (1024, 1024), dtype=torch.uint8)
        target[torch.rand(1024, 1024) < 0.1] = 255
        found = torch.randint(0, classes, (1024, 1024), dtype=torch.uint8)
        ours, wide = SegmentationMetrics(classes), (found.long(), target.long())
        theirs = MulticlassConfusionMatrix(classes, ignore_index=255, validate_args=False)

        def bincount(found=found, target=target, classes=classes) -> None:
            valid = target != 255
            pairs = target[valid].long() * classes + found[valid].long()
            torch.bincount(pairs, minlength=classes**2).view(classes, classes)

        took = alternated(
            {
                "ours": lambda ours=ours, found=found, target=target: ours.update(found, target),
                "ours from int64": lambda ours=ours, wide=wide: ours.update(*wide),
                "bincount": bincount,
                "torchmetrics": lambda theirs=theirs, found=found, target=target: theirs.update(
                    found.long(), target.long()
                ),
            },
            9,
        )
        print(f"| {classes} | " + " | ".join(f"{1000 * seconds:.2f}" for seconds in took.values()) + " |")


if __name__ == "__main__":
    main()
