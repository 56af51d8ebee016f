"""`segmenter export`: models for use elsewhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

EPILOG = """
Examples:

segmenter export best.ckpt model.onnx --format onnx --output labels

segmenter export best.ckpt model/ --format safetensors --results results.json --push USER/NAME
"""


class Kind(StrEnum):
    """What is written."""

    safetensors = "safetensors"
    onnx = "onnx"
    torch_export = "torch-export"
    torchscript = "torchscript"


class Output(StrEnum):
    """What a graph computes."""

    logits = "logits"
    probabilities = "probabilities"
    labels = "labels"


Checkpoint = Annotated[
    str, Argument(metavar="CKPT", help="Any checkpoint of a segmenter, or a published model's name.")
]
Target = Annotated[Path, Argument(metavar="OUT", help="A new file; for [b]safetensors[/b] a folder.")]
Format = Annotated[
    Kind,
    Option(
        "--format",
        help="[b]safetensors[/b]: a folder with config.json and a model card. The others: a graph for batches of "
        "pictures of any size, normalisation inside.",
    ),
]
What = Annotated[Output, Option("--output", help="Of graphs: at the size of the pictures.")]
Results = Annotated[Path | None, Option(help="A results.json, for the model card; by default the run's own.")]
Push = Annotated[str | None, Option(metavar="USER/NAME", help="Upload the folder to the Hugging Face hub.")]
Private = Annotated[bool, Option("--private", help="As a private repository.")]


def export(
    checkpoint: Checkpoint,
    target: Target,
    format: Format,
    output: What = Output.logits,
    results: Results = None,
    push: Push = None,
    private: Private = False,
) -> None:
    """Write a trained model for use elsewhere.

    What is written is compared with the model, at sizes that it was not made with, and refused if it differs.
    """
    from segmenter_pl.checkpoint import blueprint_of
    from segmenter_pl.export.graphs import export_graph
    from segmenter_pl.export.pretrained import push_to_hub, save_pretrained
    from segmenter_pl.faults import explained

    with explained():
        folder = format == Kind.safetensors
        if push and not folder:
            raise ValueError(f"--push {push}: only --format safetensors is a folder for the hub")
        if results and not folder:
            raise ValueError(f"--results {results}: only --format safetensors has a model card")
        if folder and output != Output.logits:
            raise ValueError(f"--output {output}: --format safetensors holds a model, not a graph")
        blueprint = blueprint_of(checkpoint)
        if folder:
            save_pretrained(blueprint, target, _results(Path(checkpoint), results))
            print(f"Written, read back and equal: {target}")
            if push:
                print(f"Uploaded: {push_to_hub(target, push, private=private)}")
            return
        worst = export_graph(blueprint.build(), target, format, output)
        print(f"Written: {target}. Run on four other sizes, it differs from the model by at most {worst:.2g}")


def _results(checkpoint: Path, given: Path | None) -> dict[str, object]:
    import json

    beside = checkpoint.parent.parent / "results.json"  # RUN/checkpoints/last.ckpt, or best.ckpt
    path = given or (beside if checkpoint.parent.name == "checkpoints" and beside.is_file() else None)
    if path is None:
        return {}
    try:
        results = dict(json.loads(path.read_text(encoding="utf-8")))
        best = given is None and checkpoint.stem == "best"  # val is of the last weights
        return {"val": dict(results["best"])} if best else results
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"--results {path} cannot be read ({error})") from error
