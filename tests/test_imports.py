"""Who may import whom (design: models know no data, the task knows no brand), seen in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import segmenter_pl

SOURCE = Path(segmenter_pl.__file__).parent
# timm itself imports wandb where it is installed, so what loads timm cannot be asked to leave it out.
WITH_TIMM = ("lightning", "hydra", "albumentations", "torchmetrics", "cv2")
HEAVY = (*WITH_TIMM, "wandb")


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in memory after a statement."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import segmenter_pl", (*HEAVY, "torch", "timm", "numpy")),
        ("import segmenter_pl.train", (*HEAVY[:1], "torch", "albumentations", "wandb")),
        ("import segmenter_pl.eval", (*HEAVY[:1], "torch", "albumentations", "wandb")),
        ("import segmenter_pl.ops, segmenter_pl.inference", (*HEAVY, "timm")),
        ("import segmenter_pl.models, segmenter_pl.checkpoint, segmenter_pl.factory", WITH_TIMM),
        ("import segmenter_pl.data.dataset, segmenter_pl.data.sampling", ("lightning", "hydra", "albumentations")),
        ("import segmenter_pl.data.transforms", ("lightning", "hydra", "timm")),
        ("import segmenter_pl.metrics, segmenter_pl.optim, segmenter_pl.visualize", ("lightning", "hydra", "timm")),
        ("import segmenter_pl.task", ("hydra", "albumentations", "wandb")),
        ("import segmenter_pl.data.datamodule", ("hydra", "timm", "wandb")),
    ],
)
def test_importing_loads_only_what_the_level_allows(statement: str, forbidden: tuple[str, ...]) -> None:
    assert not loaded_by(statement) & set(forbidden)


def imported_modules(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def files_importing(prefix: str) -> set[str]:
    return {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if any(name == prefix or name.startswith(prefix + ".") for name in imported_modules(path))
    }


def test_single_homes() -> None:
    assert files_importing("albumentations") == {"data/transforms.py"}
    assert files_importing("hydra.utils.instantiate") == {"build.py"}
    assert files_importing("wandb") == {f"loggers/{name}.py" for name in ("wandb", "wandb_history", "wandb_media")}


def test_models_and_data_do_not_know_each_other_nor_the_task() -> None:
    below = {path for path in files_importing("segmenter_pl.data") if path.startswith(("models/", "ops/"))}
    above = {path for path in files_importing("segmenter_pl.models") if path.startswith("data/")}
    assert below == above == set()
    levels = {"models", "ops", "data", "inference.py", "metrics", "optim.py", "visualize.py"}
    for upper in ("evaluation", "task", "callbacks", "loggers", "build", "train", "eval", "checkpoint", "factory"):
        assert not {path for path in files_importing(f"segmenter_pl.{upper}") if path.split("/")[0] in levels}
    assert files_importing("segmenter_pl.models") & {"task.py"} == set()


def test_public_names_exist() -> None:
    for name in segmenter_pl.__all__:
        assert getattr(segmenter_pl, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        segmenter_pl.nothing  # noqa: B018
