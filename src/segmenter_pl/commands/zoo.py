"""`segmenter zoo` and `segmenter eval-zoo`: published models, and how they do here."""

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from segmenter_pl.zoo import Entry

EPILOG = """
Examples:

segmenter eval-zoo seg_t_mask16_ade20k

segmenter eval-zoo seg_t_mask16_ade20k seg_t_mask16_ade20k_mmseg tta=multiscale_flip fraction=0.1

Each is: python eval.py ckpt=NAME dataset=ITS_OWN …
"""
Words = Annotated[
    list[str], Argument(metavar="NAME... [KEY=VALUE]...", help="Names that segmenter zoo lists; settings of eval.py.")
]


def zoo() -> None:
    """List the published models that load by name, e.g. as ckpt=NAME."""
    from segmenter_pl.zoo import entries, is_cached

    rows = [("name", "published as", "mIoU", "scales, mirrors", "window/stride", "short side", "M", "")]
    for entry in entries().values():
        state = "in the cache" if is_cached(entry) else "" if entry.urls else "by hand: Baidu"
        multi = "" if entry.miou_ms is None else f"{entry.miou_ms:.2f}"
        view = (f"{entry.window}/{entry.stride}", str(entry.short_side), f"{entry.parameters_millions:g}", state)
        rows.append((entry.name, f"{entry.source}: {entry.method}", f"{entry.miou_ss:.2f}", multi, *view))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def eval_zoo(words: Words) -> None:
    """Evaluate published models on their own validation data, and show both numbers."""
    from segmenter_pl.eval import evaluate
    from segmenter_pl.faults import explained
    from segmenter_pl.zoo import entries, fetch

    known = entries()
    names, overrides = [w for w in words if "=" not in w], [w for w in words if "=" in w]
    with explained():
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{unknown[0]} is no published model: `segmenter zoo` lists them")
        if not names:
            raise ValueError("give at least one name: `segmenter zoo` lists them")
        for name in names:
            fetch(known[name])  # all of them, before the first is evaluated
        lines = []
        for name in names:
            miou = 100 * evaluate(_configuration(known[name], overrides))
            lines.append(_compared(known[name], miou, overrides))
    print("\n".join(["", "mIoU on val, per cent", *lines]))
    raise Exit


def _compared(entry: "Entry", miou: float, overrides: list[str]) -> str:
    multiscale = "tta=multiscale_flip" in overrides
    published = entry.miou_ms if multiscale else entry.miou_ss
    told = "none published" if published is None else f"published {published:.2f}, {miou - published:+.2f}"
    return f"{entry.name}: {miou:.2f} ({told})"


def _configuration(entry: "Entry", overrides: list[str]) -> "DictConfig":
    from hydra import compose, initialize_config_module

    from segmenter_pl import searchpath

    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        return compose("eval", overrides=[f"ckpt={entry.name}", f"dataset={entry.dataset}", *overrides])
