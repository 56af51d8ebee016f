"""`segmenter embeddings`: what the model has learned of each class."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from segmenter_pl.commands import options as o

if TYPE_CHECKING:
    from segmenter_pl.models import EncoderDecoder

EPILOG = """
Examples:

segmenter embeddings best.ckpt out

segmenter embeddings best.ckpt out --class car --class road --nearest 10

segmenter embeddings best.ckpt out --method tsne     (extra `projections`)
"""
METHODS = ("svd", "tsne", "umap")

Out = Annotated[Path, Argument(metavar="OUT", help="Folder for the results.")]
Method = Annotated[
    str,
    Option("--method", metavar="|".join(METHODS), help="How the classes are brought to the plane."),
]
Uncentred = Annotated[
    bool, Option("--uncentred", help="With svd: do not subtract the mean of the classes before the decomposition.")
]
Nearest = Annotated[int, Option("--nearest", min=1, help="Number of nearest classes to tell.")]
Class = Annotated[
    list[str] | None,
    Option(
        "--class",
        metavar="NAME",
        help="Tell the neighbours of this class, by name or number; may be repeated. By default of all.",
        show_default=False,
    ),
]
Seed = Annotated[int, Option("--seed", min=0, help="Of tsne and umap.")]


def embeddings(
    checkpoint: o.Checkpoint,
    out: Out,
    method: Method = "svd",
    uncentred: Uncentred = False,
    nearest: Nearest = 5,
    classes: Class = None,
    seed: Seed = 0,
) -> None:
    """Show the class embeddings of a mask decoder, or the weights of another: which classes are alike?

    OUT gets projection.png (Figure 8 of the paper), similarity.png (cosines), and the numbers of both:
    projection.csv with the nearest classes, and similarity.csv.
    """
    from segmenter_pl.faults import explained

    with explained():
        if method not in METHODS:
            raise ValueError(f"--method {method}: give {', '.join(METHODS)}")
        if uncentred and method != "svd":
            raise ValueError(f"--uncentred is for --method svd, not {method}: leave out one of them")
        if out.exists() and not out.is_dir():
            raise ValueError(f"OUT {out} is a file: give a folder")
        from segmenter_pl.analysis.drawing import require_possible
        from segmenter_pl.analysis.embeddings import Method, require_method

        require_possible(out / "projection.png")
        require_method(Method(method))
        from segmenter_pl.checkpoint import load_segmenter

        _work(load_segmenter(checkpoint), out, method, uncentred, nearest, classes or [], seed)


def _work(
    model: "EncoderDecoder", out: Path, method: str, uncentred: bool, count: int, classes: list[str], seed: int
) -> None:
    from segmenter_pl.analysis import embeddings as e
    from segmenter_pl.analysis.attention_queries import class_names, find_class
    from segmenter_pl.analysis.embeddings_plot import draw_projection, draw_similarity, write_table
    from segmenter_pl.models import MaskDecoder
    from segmenter_pl.visualize import default_palette

    names = class_names(model)
    told = [find_class(word, names) for word in classes] or list(range(len(names)))
    e.require_method(e.Method(method), len(names))
    vectors = e.class_embeddings(model)
    if not bool(vectors.isfinite().all()):
        raise ValueError("the class embeddings are not finite: the weights are spoilt")
    similarity = e.similarities(vectors)
    neighbours = e.nearest(similarity, count)
    if method == "svd":
        places, shares = e.project_svd(vectors, centred=not uncentred)
        what = "squares" if uncentred else "variance"
        axes = tuple(f"singular direction {i + 1} ({100 * share:.0f} % of {what})" for i, share in enumerate(shares))
    else:
        places, axes = e.project_neighbours(vectors, e.Method(method), seed), (f"{method} 1", f"{method} 2")
    palette = (model.spec and model.spec.palette) or default_palette(len(names))
    kind = "Class embeddings" if isinstance(model.decoder, MaskDecoder) else "Class weights of the decoder"
    draw_projection(places, names, palette, (axes[0], axes[1]), kind, out / "projection.png")
    draw_similarity(similarity, names, out / "similarity.png")
    heading = ["class", "name", "x", "y", *(f"nearest_{i + 1}" for i in range(neighbours[0].shape[1]))]
    near = [[names[n] for n in numbers] for numbers in neighbours[0].tolist()]
    rows = [[k, name, *places[k].tolist(), *near[k]] for k, name in enumerate(names)]
    write_table(out / "projection.csv", heading, rows)
    write_table(
        out / "similarity.csv", ["", *names], [[n, *r] for n, r in zip(names, similarity.tolist(), strict=True)]
    )
    for k in dict.fromkeys(told):
        pairs = zip(near[k], neighbours[1][k].tolist(), strict=True)
        print(f"{names[k]}: {', '.join(f'{name} ({cosine:+.2f})' for name, cosine in pairs) or '–'}")
    print(f"{len(names)} classes of {vectors.shape[1]} numbers, {method} → {out}")
