"""`segmenter COMMAND`: tools that act on something finished; training and evaluating are `train.py` and `eval.py`."""

import io
import sys
from typing import Annotated

import typer

from segmenter_pl.commands import (
    accuracy,
    attention,
    attention_distance,
    benchmark,
    browse,
    check,
    compare,
    convert,
    dashboard,
    embeddings,
    explore,
    export,
    gallery,
    plot,
    predict,
    prepare,
    results,
    zoo,
)

# Errors of ours are told in a sentence (`faults.explained`); a bug's trace should be an ordinary one.
app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)
app.command(epilog=predict.EPILOG)(predict.predict)
app.add_typer(prepare.app, name="prepare")
app.command(epilog=check.EPILOG)(check.check)
app.command(epilog=browse.EPILOG)(browse.browse)
app.command(epilog=convert.EPILOG)(convert.convert)
app.command(epilog=export.EPILOG)(export.export)
app.command("results", epilog=results.EPILOG)(results.results)
app.add_typer(plot.app, name="plot")
app.command(epilog=attention.EPILOG)(attention.attention)
app.command("attention-distance", epilog=attention_distance.EPILOG)(attention_distance.attention_distance)
app.command(epilog=embeddings.EPILOG)(embeddings.embeddings)
app.command(epilog=explore.EPILOG)(explore.explore)
app.command(epilog=compare.EPILOG)(compare.compare)
app.command(epilog=gallery.EPILOG)(gallery.gallery)
app.command(epilog=accuracy.EPILOG)(accuracy.accuracy)
app.command(epilog=benchmark.EPILOG)(benchmark.benchmark)
app.command(epilog=dashboard.EPILOG)(dashboard.dashboard)
app.command()(zoo.zoo)
app.command("eval-zoo", epilog=zoo.EPILOG)(zoo.eval_zoo)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"segmenter-pl {version('segmenter-pl')}")
        raise typer.Exit


@app.callback()
def segmenter(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Semantic segmentation with Segmenter: tools for trained models.

    segmenter predict best.ckpt photos/ -o out

    Train with segmenter-train (or python train.py), evaluate with segmenter-eval; --help explains each.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8


def main() -> None:
    """The command."""
    app(prog_name="segmenter")


if __name__ == "__main__":
    main()
