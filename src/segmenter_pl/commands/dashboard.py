"""`segmenter dashboard`: a workspace for the runs that logger=wandb records."""

from typing import Annotated

from typer import Argument, Option

EPILOG = """
Examples:

segmenter dashboard segmenter-pl

segmenter dashboard my-team/segmenter-pl --push
"""

Project = Annotated[str, Argument(metavar="[ENTITY/]PROJECT", help="Where the runs are: logger.wandb.project.")]
Push = Annotated[bool, Option("--push", help="Save it on the server; needs a network and `wandb login`.")]
Name = Annotated[str, Option("--name", help="Of the workspace.")]


def dashboard(project: Project, push: Push = False, name: Name = "Segmenter") -> None:
    """Build a W&B workspace with sections for training, validation, classes, pictures and system.

    Without --push it is built and listed, and nothing is sent. Each --push makes a new saved view; your own workspace
    in the project stays as it is.
    """
    from segmenter_pl.faults import explained

    with explained():
        from segmenter_pl.dashboard import build_dashboard, describe, push_dashboard

        entity, slash, short = project.rpartition("/")
        if not short or (slash and not entity) or "/" in entity:
            raise ValueError(f"{project} is no project: give PROJECT or ENTITY/PROJECT")
        if push and not entity:
            raise ValueError(f"--push needs to know whose project {project} is: give ENTITY/{project}")
        workspace = build_dashboard(short, entity, name)
        print(describe(project))
        print(f"→ {push_dashboard(workspace)}" if push else "Nothing was sent; --push saves it on the server")
