"""Mistakes in settings and data, as a person makes them: one sentence with setting, value met and way out."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from logging import root as root_logger
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from segmenter_pl import build
from segmenter_pl import eval as evaluation
from segmenter_pl import train as training
from segmenter_pl.choices import choices
from segmenter_pl.faults import HINT, OURS, TRACE, check_overrides, explained
from segmenter_pl.models import ViTEncoder
from tests.test_train import TINY, configured

MAIN: dict[str, Callable[[], Any]] = {"train.py": training.main, "eval.py": evaluation.main}
CPU = ("trainer.accelerator=cpu", "trainer.enable_progress_bar=false")
SHORT = (*TINY, *CPU, "trainer.max_steps=1", "dataset.val_every=1", "dataset.batch_size=2")
FOLDER = ("dataset=folder", *(f"dataset.{key}" for key in ("crop=32", "window=32", "stride=32", "short_side=32")))


@hydra.main(version_base="1.3", config_path="pkg://segmenter_pl.conf", config_name="train")
def checked(config: DictConfig) -> None:
    check_overrides(config)


@hydra.main(version_base="1.3", config_path="pkg://segmenter_pl.conf", config_name="eval")
def checked_eval(config: DictConfig) -> None:
    check_overrides(config)


@pytest.fixture(autouse=True)
def as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs below `tmp_path`, and the logging that Hydra sets up taken back."""
    monkeypatch.setenv("SEGMENTER_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv(TRACE, raising=False)
    handlers, level = root_logger.handlers[:], root_logger.level
    yield
    root_logger.handlers[:], root_logger.level = handlers, level


Complain = Callable[..., str]


@pytest.fixture
def complain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complain:
    """What a command that must fail says: `complain("train.py", "key=value", …)`."""

    def call(script: str, *words: str, main: Callable[[], Any] | None = None) -> str:
        monkeypatch.setattr(sys, "argv", [script, *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop, explained():
            (main or MAIN[script])()
        said = capsys.readouterr().err
        assert stop.value.code == 1
        assert said.startswith("Error: ")
        assert said.endswith(f"\n{HINT}\n")
        assert "Traceback" not in said
        assert "\nError: " not in said
        return said.removeprefix("Error: ").removesuffix(f"\n{HINT}\n")

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A sound folder dataset: 2 pictures of 32x32 per split, label values 0 and 1."""
    folder = tmp_path / "pictures"
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            (folder / kind / split).mkdir(parents=True)
            for name in "ab":
                size = (32, 32, 3) if kind == "images" else (32, 32)
                pixels = np.random.default_rng(0).integers(2, size=size, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / kind / split / f"{name}.png")
    (folder / "classes.csv").write_text("id,name\n0,sky\n1,road\n")
    return folder


def says(message: str, *words: str) -> None:
    for word in words:
        assert word in message


def on_folder(pictures: Path, *more: str) -> tuple[str, ...]:
    settings = ("callbacks=none", "dataset.num_workers=0", f"dataset.root={pictures}")
    return (*SHORT, *FOLDER, *settings, *more)


def test_sound_pictures_train(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *on_folder(pictures)])
    with explained():
        training.main()


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("backbone=vit_b17", ("backbone=vit_b17: there is no such option", "did you mean vit_b16", "dinov2_s14")),
        ("optimizer=adam", ("optimizer=adam: there is no such option; did you mean adamw?; there is adamw,",)),
        ("hydra/launcher=joblib", ("hydra/launcher=joblib needs a package", "pip install hydra-joblib-launcher")),
        ("experiment=camvid_seg_mask", ("did you mean camvid_seg_t16_mask",)),
        ("optimiser=sgd", ("optimiser=sgd: there is no setting optimiser; did you mean optimizer",)),
        ("optimizer.lrr=1", ("optimizer.lrr=1: there is no setting optimizer.lrr; did you mean optimizer.lr",)),
        ("batch_size=3", ("there is no setting batch_size; did you mean dataset.batch_size?",)),
        ("foo.bar=3", ("there is no setting foo.bar; `python train.py --cfg job` lists them all",)),
        ("optimizer.amsgrad=1", ("+optimizer.amsgrad=1 hands it to torch.optim.SGD, if that takes it",)),
        ("+dataset.crop=64", ("An item is already at 'dataset.crop'", "remove + prefix")),
        ("~compile", ("~compile: this setting is read, and cannot be taken away",)),
        ("~loss.label_smoothing", ("~loss.label_smoothing: this setting is read",)),
        ("optimizer=[]", ("there is no optimizer: choose one with optimizer=NAME",)),
        ("~dataset.foo", ("Could not delete", "'dataset.foo' does not exist")),
        ("dataset.scale=[1,2", ("dataset.scale=[1,2 cannot be read", "KEY=VALUE", "quote")),
        ("dataset.crop", ("dataset.crop cannot be read (missing EQUAL", "KEY=VALUE")),
        ("seed=1,2", ("'seed=1,2'", "--multirun")),
        ("optimizer=null", ("optimizer=null: Config group override must be a string",)),
        ("optimizer.lr=${dataset.foo}", ("'dataset.foo' not found",)),
        ("dataset=folder", ("dataset.root has no value yet (???): give dataset.root=VALUE",)),
    ],
)
def test_what_cannot_be_composed(word: str, expected: tuple[str, ...], complain: Complain, tmp_path: Path) -> None:
    message = complain("train.py", word)
    says(message, *expected)
    assert "To append to your config use" not in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_misspelt_keys_are_not_advised_to_be_added(complain: Complain) -> None:
    assert "+" not in complain("train.py", "dataset.batchsize=3")


def test_evaluation_needs_a_checkpoint_and_its_dataset_is_extended_with_plus(complain: Complain) -> None:
    says(complain("eval.py"), "ckpt has no value yet (???): give ckpt=VALUE")
    says(complain("eval.py", "dataset.root=/x"), "because dataset is null; +dataset.root=/x adds it")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dataset.crop=abc", "dataset.crop=abc must be a whole number (the default is 128): correct the value"),
        ("dataset.crop=64.5", "dataset.crop=64.5 must be a whole number"),
        ("trainer.max_steps=abc", "trainer.max_steps=abc must be a whole number (the default is 300)"),
        ("trainer.max_steps=1e3", "trainer.max_steps=1e3 must be a whole number"),
        ("optimizer.lr=abc", "optimizer.lr=abc must be a number (the default is 0.1)"),
        ("seed=", "seed= must be a whole number (the default is 0)"),
        ("compile=maybe", "compile=maybe must be true or false (the default is false)"),
        ("dataset.scale=3", "dataset.scale=3 must be a list"),
        ("schedule=cosine", "schedule=cosine must be a group of settings (_target_, "),
        ("dataset.batch_size=[2]", "dataset.batch_size=[2] must be a whole number"),
        ("dataset.short_side=[64]", "dataset.short_side=[64] must be a whole number (the default is null)"),
        ("backbone.norm_eps={a: 1}", "backbone.norm_eps={a: 1} must be a number (the default is null)"),
        ("optimizer.lr=null", "optimizer.lr=null must be a number (the default is 0.1)"),
        ("dataset.scale=[1]", "dataset.scale=[1]: give the least and the largest factor, such as [0.5,2.0]"),
        ("dataset.scale=null", "dataset.scale=None: give the least and the largest factor"),
        ("dataset.scale=[2,1]", "dataset.scale=[2, 1]: give the least and the largest factor"),
        (
            "loss.class_weights=3",
            "loss.class_weights=3: give one number per class, median_frequency, inverse_log or null",
        ),
    ],
)
def test_words_where_numbers_are_wanted(word: str, expected: str, complain: Complain, tmp_path: Path) -> None:
    says(complain("train.py", "decoder=linear", word, main=checked), expected)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("script", "word", "expected"),
    [
        ("eval.py", "ckpt=3", "ckpt=3 must be text; a name that looks like a number is quoted: 'ckpt=\"3\"'"),
        ("eval.py", "ckpt=null", "ckpt=null must be text"),
        ("eval.py", "split=[a]", "split=['a'] must be text"),
        ("train.py", "dataset=folder dataset.root=2024", "dataset.root=2024 must be text"),
        ("train.py", "dataset=folder dataset.root=x dataset.train_split=null", "dataset.train_split=null must be text"),
        ("train.py", "resume=true", "resume=True must be text"),
        ("train.py", "run_root=", "run_root is empty (SEGMENTER_RUNS too?): give a folder, or . for this one"),
        ("train.py", "name=../x", "name=../x: give a word or folders below run_root, without .."),
        ("train.py", "name=[a]", "name=['a']: give a word or folders below run_root"),
    ],
)
def test_other_things_where_names_are_wanted(
    script: str, word: str, expected: str, complain: Complain, tmp_path: Path
) -> None:
    needed = ["ckpt=x"] if script == "eval.py" and "ckpt" not in word else []
    mains = {"train.py": checked, "eval.py": checked_eval}
    says(complain(script, *needed, *word.split(), main=mains[script]), expected)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "word",
    [
        "optimizer.lr=1",
        "dataset.short_side=64",
        "trainer.devices=auto",
        "backbone.image_size=[64,32]",
        "dataset.short_side=null",
        "loss.class_weights=inverse_log",
        "loss.class_weights=[1,2,3,4,5,6]",
        "trainer.precision=32",
        "dataset.scale=[1,2]",
        "callbacks.panel=null",
        "+optimizer.maximize=true",
        "optimizer=adamw",
        "tag=7",
    ],
)
def test_values_that_may_be_right_pass(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", word])
    checked()
    monkeypatch.setattr(sys, "argv", ["eval.py", "ckpt=x", "window=64", "+dataset.root=y"])
    checked_eval()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("+dataset.cropp=3",), ("+dataset.cropp=3: ", "ShapesDataModule", "unexpected keyword argument 'cropp'")),
        (("+optimizer.foo=3",), ("+optimizer.foo=3: optimizer: torch.optim.sgd.SGD: ", "argument 'foo'")),
        (("optimizer.lr=-1",), ("optimizer: torch.optim.sgd.SGD: Invalid learning rate: -1",)),
        (("trainer.precision=abc",), ("trainer: ", "Precision 'abc' is invalid. Allowed precision values:")),
        (("backbone.num_heads=3",), ("dim should be divisible by num_heads",)),
        (("dataset.crop=8",), ("image_size=8 (dataset.crop", "smaller than a patch of 16", "set dataset.crop to 16")),
        (("dataset.crop=0",), ("image_size=0 (dataset.crop", "whole numbers")),
        (("backbone.weights=/nowhere.pth",), ("backbone.weights=/nowhere.pth does not exist: give a file of weights",)),
        (("run_dir=x",), ("run_dir=x: the run sets it itself; use run_root, name or tag",)),
    ],
    ids=lambda value: value[0],
)
def test_what_cannot_be_built(words: tuple[str, ...], expected: tuple[str, ...], complain: Complain) -> None:
    says(complain("train.py", *SHORT, "callbacks=none", *words), *expected)


def test_crop_that_is_no_multiple_of_the_patch_is_the_grid_of_the_next_multiple() -> None:
    torch.manual_seed(0)
    sizes = {"embed_dim": 32, "depth": 1, "num_heads": 1}
    odd, even = (ViTEncoder("vit_tiny_patch16_224", image_size=side, **sizes).eval() for side in (40, 48))
    odd.load_state_dict(even.state_dict())
    images = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    assert torch.equal(odd(images), even(images))  # right and bottom are padded with the mean colour


def test_batch_that_does_not_divide_by_the_devices(capsys: pytest.CaptureFixture[str]) -> None:
    datamodule = build.build_datamodule(configured("train", "dataset.batch_size=3"))
    datamodule.setup("fit")
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(total=SimpleNamespace(ready=0))))
    two = SimpleNamespace(max_steps=1, accumulate_grad_batches=1, global_rank=0, world_size=2, fit_loop=loop)
    datamodule.trainer = two  # type: ignore[assignment]
    with pytest.raises(SystemExit), explained():
        datamodule.train_dataloader()
    says(capsys.readouterr().err, "dataset.batch_size=3", "does not divide by the 2 devices", "use a multiple of 2")


# --- data -----------------------------------------------------------------------------------------------------------


def test_missing_folder_and_partner(complain: Complain, pictures: Path) -> None:
    message = complain("train.py", *on_folder(Path("/nowhere")))
    says(message, "dataset.root=/nowhere is not a folder: set dataset.root=PATH")
    (pictures / "labels/train/b.png").rename(pictures / "labels/train/c.png")
    message = complain("train.py", *on_folder(pictures))
    says(message, "1 files without a label", str(pictures / "images/train/b.png"), "same stems")
    shutil.rmtree(pictures / "labels/val")
    says(complain("train.py", *on_folder(pictures)), "labels/val is not a folder", "dataset.val_split")


@pytest.mark.parametrize("workers", [0, 1])
def test_label_of_another_size(workers: int, complain: Complain, pictures: Path) -> None:
    for name in "ab":
        Image.fromarray(np.zeros((16, 32), np.uint8)).save(pictures / f"labels/train/{name}.png")
    message = complain("train.py", *on_folder(pictures, f"dataset.num_workers={workers}"))
    says(message, str(pictures / "images/train/"), "is 32x32", "is 32x16 pixels: make the label again")
    assert "\n" not in message


def test_label_value_outside_the_table_and_a_hole_in_the_ids(complain: Complain, pictures: Path) -> None:
    (pictures / "classes.csv").write_text("id,name\n0,sky\n1,road\n3,car\n")
    Image.fromarray(np.full((32, 32), 2, np.uint8)).save(pictures / "labels/val/b.png")
    message = complain("train.py", *on_folder(pictures))  # 0, 1, 3 are legal, and the pictures of train hold no 2
    says(message, str(pictures / "labels/val/b.png"), "without a class: 2", str(pictures / "classes.csv"))
    says(message, "add rows", "dataset.ignore_value", "dataset.label_map")


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_truncated_picture(kind: str, complain: Complain, pictures: Path) -> None:
    for name in "ab":
        file = pictures / kind / f"train/{name}.png"
        file.write_bytes(file.read_bytes()[:100])
    says(complain("train.py", *on_folder(pictures)), str(pictures / kind / "train/"), "or remove it")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id,name\n0,a\n0,b\n", ("ids more than once: [0]", "its own id")),
        ("id,name\n0,a\n,b\n", ("whole numbers as id", "correct the row ,b (")),
        ("id,name\n0,a\n1\n", ("needs a name", "correct the row 1, (")),
        ("name\na\nb\n", ("header 'name'; it must be id,name",)),
        ("id,name\n", ("has 0 class names", "add one row id,name per class")),
        ("id,name\n0,caf\xe9\n", ("no CSV in UTF-8", "save it as one")),
    ],
)
def test_broken_class_table(content: str, expected: tuple[str, ...], complain: Complain, pictures: Path) -> None:
    (pictures / "classes.csv").write_bytes(content.encode("latin-1"))
    says(complain("train.py", *on_folder(pictures)), str(pictures / "classes.csv"), *expected)


@pytest.mark.parametrize("setting", ["ignore_value=abc", "ignore_value=[70000]", "label_map={7:car}"])
def test_label_settings_that_no_label_can_hold(setting: str, complain: Complain, pictures: Path) -> None:
    message = complain("train.py", *on_folder(pictures, f"dataset.{setting}"))
    says(message, f"dataset.{setting.partition('=')[0]} holds ", "0…65535")


# --- weights and checkpoints ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a short run."""
    run_dir = tmp_path_factory.mktemp("run")
    training.train(configured("train", *SHORT, f"run_dir={run_dir}"))
    return run_dir / "checkpoints/last.ckpt"


def test_weights_of_another_width_and_cut_off_weights(complain: Complain, trained: Path, tmp_path: Path) -> None:
    words = (*SHORT, "callbacks=none")
    message = complain("train.py", *words, f"backbone.weights={trained}", "backbone.embed_dim=64")
    says(message, f"backbone.weights={trained} does not fit the model: choose the backbone")
    says(message, "cls_token (1, 1, 32), the model has (1, 1, 64)", "more")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(trained.read_bytes()[:5000])
    says(
        complain("train.py", *words, f"backbone.weights={cut}"), f"weights={cut} cannot be read as a checkpoint", "copy"
    )


def evaluated(path: Path, *words: str) -> tuple[str, ...]:
    return (f"ckpt={path}", *CPU, *words)


def test_checkpoints_that_are_missing_cut_off_or_of_another_kind(
    complain: Complain, trained: Path, tmp_path: Path
) -> None:
    says(complain("eval.py", *evaluated(tmp_path / "none.ckpt")), "none.ckpt does not exist", "a run's best.ckpt")
    says(complain("eval.py", *evaluated(tmp_path)), f"{tmp_path} is a folder without config.json and model.safetensors")
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(trained.read_bytes()[:5000])
    says(complain("eval.py", *evaluated(cut)), f"{cut} cannot be read", "cut off", "copy it again")
    for content in ({"model": {}}, {"state_dict": {}}):  # the first as an official one without its variant.yml
        torch.save(content, tmp_path / "checkpoint.pth")
        message = complain("eval.py", *evaluated(tmp_path / "checkpoint.pth"))
        says(message, "checkpoint.pth is no checkpoint of a segmenter", "a run's best.ckpt")
    torch.save({"state_dict": {}, "segmenter": {}}, tmp_path / "empty.ckpt")
    says(complain("eval.py", *evaluated(tmp_path / "empty.ckpt")), "KeyError('config')", "that train.py wrote")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.ckpt")
    message = complain("eval.py", *evaluated(tmp_path / "code.ckpt"))
    says(message, "code.ckpt cannot be read as a checkpoint")
    assert "weights_only" not in message  # torch's advice would run the file's code
    assert "\n" not in message


def test_checkpoint_whose_tensors_are_another_models(complain: Complain, trained: Path, tmp_path: Path) -> None:
    content = torch.load(trained, weights_only=True)
    content["segmenter"]["config"]["backbone"]["embed_dim"] = 64
    torch.save(content, tmp_path / "wide.ckpt")
    message = complain("eval.py", *evaluated(tmp_path / "wide.ckpt"))
    says(
        message, "wide.ckpt: the segmenter-pl checkpoint does not fit the model", "(1, 1, 32), the model has (1, 1, 64)"
    )


@pytest.mark.parametrize("content", ["a: 1\n", "a: [1\n"])
def test_official_checkpoint_with_a_broken_variant_file(content: str, complain: Complain, tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "checkpoint.pth")
    (tmp_path / "variant.yml").write_text(content)
    message = complain("eval.py", *evaluated(tmp_path, "dataset=shapes"))
    says(message, f"{tmp_path}/variant.yml does not describe a Segmenter", "copy it again")


def test_nothing_in_the_run_directory_is_overwritten(
    complain: Complain, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [word for word in on_folder(pictures) if word != "callbacks=none"]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with explained():
        training.main()
    (results,) = (tmp_path / "runs").rglob("results.json")
    results.unlink()  # as if it had been interrupted
    before = {path: path.stat().st_mtime_ns for path in results.parent.rglob("*") if path.is_file()}
    assert len(before) >= 4  # two checkpoints, config.yaml, metrics.csv
    (pictures / "classes.csv").write_text("id,name\n0,sky\n0,road\n")
    says(complain("train.py", *words), "ids more than once")
    after = {path: path.stat().st_mtime_ns for path in results.parent.rglob("*") if path.is_file()}
    assert {path: time for path, time in after.items() if path in before} == before


# --- the context itself -----------------------------------------------------------------------------------------------


def test_bugs_and_exits_pass_untouched() -> None:
    for error in (KeyError("x"), ValueError("not raised in the package"), RuntimeError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, explained():
            raise error
        assert caught.value is error
    with pytest.raises(json.JSONDecodeError), explained():
        json.loads("x")
    with pytest.raises(SystemExit) as stop, explained():
        sys.exit(7)
    assert stop.value.code == 7


def test_a_file_that_may_not_be_written_is_for_the_user(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from segmenter_pl.report import write_config

    (tmp_path / "file").touch()
    with pytest.raises(SystemExit), explained():
        write_config({}, tmp_path / "file" / "run")
    says(capsys.readouterr().err, "Error: ", "Not a directory", str(tmp_path / "file"))


def test_a_run_directory_that_cannot_be_made(complain: Complain, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    says(complain("train.py", f"run_root={tmp_path / 'file'}"), "Not a directory", str(tmp_path / "file"))


def test_nested_contexts_and_child_processes_explain_once_and_leave_no_trace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with explained():
        assert os.environ[TRACE] == os.environ[OURS] == "1"  # what DDP's processes inherit
        with pytest.raises(SystemExit), explained():
            ViTEncoder("no_such_model")
        assert os.environ[TRACE] == os.environ[OURS] == "1"
    assert capsys.readouterr().err.count("Error: ") == 1
    assert TRACE not in os.environ
    assert OURS not in os.environ


def test_whoever_asks_for_the_trace_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACE, "1")
    with pytest.raises(ValueError, match="no_such_model"), explained():
        ViTEncoder("no_such_model")
    assert os.environ[TRACE] == "1"


def test_sweep_names_the_job_that_failed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "checkpoint_every=0,5", "nonfinite_limit=-1,0", *SHORT])
    with pytest.raises(SystemExit) as ended:
        training.main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    told = [line for line in said.err.splitlines() if line.startswith("Error in the job")]
    assert len(told) == 3  # each as it failed
    assert "checkpoint_every=0: give a number, 1 or more" in told[0]
    assert "nonfinite_limit=-1: give a number, 0 or more" in told[2]
    assert "Error: a job of the sweep failed, see above" in said.err
    assert said.out.count("val mIoU") == 1  # the sound one ran


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("checkpoint_every=null", "checkpoint_every=None: give a number, 1 or more"),
        ("dataset.val_every=0", "dataset.val_every=0: give a number, 1 or more"),
        ("trainer.log_every_n_steps=0", "trainer.log_every_n_steps=0: give a number, 1 or more"),
        ("trainer.accumulate_grad_batches=0", "accumulate_grad_batches=0: give a number, 1 or more"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1: give a number, 0 or more"),
        ("seed=-1", "seed=-1: give a number, 0 or more"),
    ],
)
def test_numbers_below_what_makes_sense(word: str, expected: str, complain: Complain, tmp_path: Path) -> None:
    says(complain("train.py", *SHORT, word), expected)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_as_a_process(tmp_path: Path) -> None:
    code = "from segmenter_pl import faults, train\nwith faults.explained():\n    train.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "decoder=masc"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    expected = (
        f"Error: decoder=masc: there is no such option; did you mean mask?; there is {', '.join(choices('decoder'))}"
    )
    assert done.stderr.splitlines() == [expected, HINT]
    assert not list(tmp_path.rglob("*.yaml"))
