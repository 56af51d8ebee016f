"""The W&B workspace that shows our runs: which panels there are, and how they get to a server."""

import warnings
from typing import Any, NamedTuple

from segmenter_pl.loggers.mirror import reason


class Panel(NamedTuple):
    """A panel over keys that a run logs.

    Attributes:
        kind: line (values over steps), bar (values of each run's summary), media (pictures with a slider over steps),
            table (of each run's summary).
        keys: logged keys; a line may have a `pattern` (regular expression) instead.
    """

    kind: str
    title: str
    keys: tuple[str, ...] = ()
    pattern: str | None = None


SECTIONS: dict[str, tuple[Panel, ...]] = {
    "training": (
        Panel("line", "loss", ("train/loss",)),
        Panel("line", "gradient norm", ("train/grad_norm",)),
        Panel("line", "learning rates", pattern="^lr/"),
    ),
    "validation": (
        Panel("line", "mIoU", ("val/miou",)),
        Panel("line", "accuracies", ("val/pixel_accuracy", "val/mean_accuracy")),
        Panel("line", "loss", ("val/loss",)),
        Panel("bar", "mIoU, best and last", ("best/miou", "val/miou")),
    ),
    "classes": (
        Panel("line", "IoU by class", pattern="^val/iou/"),
        Panel("table", "IoU by class, last and best", ("classes",)),
        Panel("media", "confusion matrix", ("val/confusion",)),
    ),
    "pictures": (
        Panel("media", "predictions and truth as masks", ("val/predictions",)),
        Panel("media", "picture, truth, prediction", ("val/panel",)),
    ),
    "system": (
        Panel("line", "images per second", ("train/images_per_second",)),
        Panel("line", "peak memory, GB", ("train/peak_memory_gb",)),
        Panel("line", "device (callbacks=device_stats)", pattern="^device/"),
    ),
}
PINNED = ("run:group", "run:tags", "summary:best/miou", "summary:best/step", "summary:val/miou")


def build_dashboard(project: str, entity: str = "", name: str = "Segmenter") -> Any:
    """The workspace as an object of the package wandb-workspaces; nothing is sent.

    Raises: ValueError where that package is not installed.
    """
    workspaces, panels = _packages()
    sections = [
        workspaces.Section(name=title, panels=[_panel(panels, one) for one in content], is_open=True)
        for title, content in SECTIONS.items()
    ]
    runs = workspaces.RunsetSettings(pinned_columns=list(PINNED))
    return workspaces.Workspace(entity=entity, project=project, name=name, sections=sections, runset_settings=runs)


def push_dashboard(workspace: Any) -> str:
    """Save it as a new view of its project; returns the address.

    Raises: ValueError where W&B cannot be reached or does not take it.
    """
    try:
        return str(workspace.save().url)
    except Exception as error:  # of W&B, its query language, or the network: the package promises none
        raise ValueError(
            f"the workspace could not be saved in {workspace.entity}/{workspace.project} ({reason(error)}): "
            "log in with `wandb login`, and look whether the project exists"
        ) from error


def describe(project: str) -> str:
    """The sections and their panels as lines."""
    lines = [f"Workspace of {project}"]
    for title, content in SECTIONS.items():
        lines.append(title)
        lines += [f"  {one.kind:<6}{one.title}: {one.pattern or ', '.join(one.keys)}" for one in content]
    return "\n".join(lines)


def _panel(panels: Any, one: Panel) -> Any:
    if one.kind == "line":
        chosen = {"metric_regex": one.pattern} if one.pattern else {"y": list(one.keys)}
        return panels.LinePlot(title=one.title, **chosen)
    if one.kind == "bar":
        return panels.BarPlot(title=one.title, metrics=list(one.keys))
    if one.kind == "media":
        return panels.MediaBrowser(title=one.title, media_keys=list(one.keys), gallery_axis="step")
    assert one.kind == "table"
    return panels.WeavePanelSummaryTable(table_name=one.keys[0])


def _packages() -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is written for an older pydantic
        try:
            import wandb_workspaces.reports.v2 as panels
            import wandb_workspaces.workspaces as workspaces
        except ModuleNotFoundError as error:
            raise ValueError(
                'the dashboard needs wandb-workspaces, which is not installed: pip install "segmenter-pl[dashboard]"'
            ) from error
    return workspaces, panels
