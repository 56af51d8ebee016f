"""eval.py against a computation of its own: full-size averaging, counting in numpy."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning import LightningModule
from PIL import Image
from torch import Tensor

from segmenter_pl import build, load_segmenter
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.submission import ade20k_path, ade20k_submission, cityscapes_path, cityscapes_submission
from segmenter_pl.eval import evaluate
from segmenter_pl.evaluation import LabelWriter
from segmenter_pl.evaluation.confusion import confusion_csv, confusion_picture
from segmenter_pl.inference import predict_probabilities
from segmenter_pl.train import train
from tests.test_commands import run
from tests.test_guard import folder, of_folder
from tests.test_metrics import brute_force
from tests.test_metrics_foreground import Picture, agree
from tests.test_metrics_foreground import brute_force as foreground_brute_force
from tests.test_train import QUIET, configured, tiny_run

PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def untrained(folder: Path, root: Path, *overrides: str, dataset: str = "folder", sharpness: float = 4) -> Path:
    """A checkpoint of random weights for the pictures in `root`; its classes vary over a picture, some are sure."""
    config = tiny_run(folder, f"dataset={dataset}", f"dataset.root={root}", "decoder=mask", *overrides)
    datamodule = build.build_datamodule(config)
    torch.manual_seed(0)
    model = build.build_model(config, len(datamodule.classes))
    for scale in model.decoder.mask_norm.parameters():
        scale.data *= sharpness
    task = build.build_task(config, model, datamodule)
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": task.state_dict(), "segmenter": task.checkpoint_info, "global_step": 0}, path)
    return path


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


# --- genuine pictures, 150 classes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ade20k(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three validation pairs in the layout of dataset=folder; label values 0 (none) and 1…150."""
    root = tmp_path_factory.mktemp("ade20k")
    source = assets / "data/ade20k/ADEChallengeData2016"
    for kind, theirs in (("images", "images"), ("labels", "annotations")):
        (root / kind).mkdir()
        (root / kind / "val").symlink_to(source / theirs / "validation")
    (root / "classes.csv").write_text("id,name\n" + "".join(f"{k},class {k}\n" for k in range(1, 151)))
    return root


@pytest.fixture(scope="module")
def checkpoint(ade20k: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = [f"dataset.{key}" for key in ("window=88", "stride=56", "short_side=96", "ignore_value=0")]
    return untrained(tmp_path_factory.mktemp("run"), ade20k, "dataset.num_workers=0", *sizes)


def plain_scores(model: Any, image: Tensor, window: int, stride: int, short: int, augmented: bool) -> Tensor:
    """Class probabilities (K, H, W) at full size, one window at a time, as reference §6.1 says."""
    height, width = image.shape[1:]
    mean = torch.zeros(model.num_classes, height, width)
    versions = list(product(PAPER_SCALES, (False, True))) if augmented else [(1.0, False)]
    for scale, mirrored in versions:
        factor = scale * short / min(height, width)
        size = [int(height * factor + 0.5), int(width * factor + 0.5)]
        picture = F.interpolate(image[None].float(), size=size, mode="bilinear")
        if min(size) < window:
            size = [int(side * window / min(size)) for side in size]
            picture = F.interpolate(picture, size=size, mode="bilinear")
        if mirrored:
            picture = picture.flip(-1)
        total, count = torch.zeros(1, model.num_classes, *size), torch.zeros(size)
        for y in [*range(0, size[0] - window, stride), size[0] - window]:
            for x in [*range(0, size[1] - window, stride), size[1] - window]:
                place = (..., slice(y, y + window), slice(x, x + window))
                total[place] += model(picture[place])
                count[place] += 1
        logits = F.interpolate(total / count, size=(height, width), mode="bilinear")[0]
        mean += (logits.flip(-1) if mirrored else logits).softmax(0)
    return mean / len(versions)


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    error, edges = 0.0, np.linspace(0, 1, 16)
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return error


def authors_band(mask: np.ndarray) -> np.ndarray:
    """The inner boundary of one class' mask, by repeated erosion (Cheng et al.'s way)."""
    width = max(1, round(0.02 * np.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return mask & (cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1] == 0)


@pytest.mark.parametrize("tta", ["none", pytest.param("multiscale_flip", marks=pytest.mark.slow)])
@torch.inference_mode()
def test_genuine_pictures_equal_brute_force(tta: str, ade20k: Path, checkpoint: Path) -> None:
    miou = evaluate(configured("eval", f"ckpt={checkpoint}", f"tta={tta}", "save_predictions=true", *QUIET))
    folder = checkpoint.parents[1] / f"eval/last/folder-val-{tta}"
    results, model = results_of(folder), load_segmenter(checkpoint)
    predictions, targets, confidences, likelihoods = [], [], [], []
    bands = np.zeros((2, 150))
    ties = 0
    for path in sorted((ade20k / "images/val").iterdir()):
        image = torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)
        raw = np.array(Image.open(ade20k / "labels/val" / f"{path.stem}.png")).astype(int)
        target = np.where(raw == 0, 255, raw - 1)
        scores = plain_scores(model, image, 88, 56, 96, augmented=tta != "none")
        ours = np.array(Image.open(folder / "predictions" / f"{path.stem}.png")).astype(int)
        best = scores.amax(0).numpy()
        # Where two classes are equally probable, either may be taken; elsewhere none but the best one.
        chosen = scores.gather(0, torch.from_numpy(ours)[None])[0].numpy()
        assert (best - chosen).max() < 1e-5
        ties += int((scores.argmax(0).numpy() != ours).sum())
        valid = target != 255
        truth = torch.from_numpy(np.where(valid, target, 0))
        predictions.append(ours)
        targets.append(target)
        confidences.append(best[valid])
        likelihoods.append(scores.gather(0, truth[None])[0].numpy()[valid])
        for k in range(150):
            one, other = authors_band(target == k), authors_band((ours == k) & valid)
            bands[0, k] += (one & other).sum()
            bands[1, k] += (one | other).sum()
    labelled = np.concatenate([t[t != 255] for t in targets])
    guessed = np.concatenate([p[t != 255] for p, t in zip(predictions, targets, strict=True)])
    print(
        f"{tta}: {ties} ties among {sum(t.size for t in targets)} pixels, {len(np.unique(guessed))} classes predicted"
    )
    assert ties < 20
    assert len(np.unique(guessed)) > 10
    for key, value in brute_force(predictions, targets, 150, 255).items():
        assert results["val"][key] == pytest.approx(value, abs=1e-12)
    assert miou == results["val"]["miou"]
    assert results["val"]["loss"] == pytest.approx(-np.log(np.concatenate(likelihoods).astype(float)).mean(), abs=1e-5)
    error = calibration_error(np.concatenate(confidences).astype(float), guessed == labelled)
    assert results["expected_calibration_error"] == pytest.approx(error, abs=1e-5)
    present = bands[1] > 0
    assert results["boundary_iou"] == pytest.approx((bands[0][present] / bands[1][present]).mean(), abs=1e-12)
    assert sum(one["pixels"] for one in results["object_sizes"].values()) == len(labelled)
    assert results["pictures"] == 3


def test_everything_is_written_and_agrees_with_itself(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(configured("eval", f"ckpt={checkpoint}", "tta=flip", *QUIET))
    printed = capsys.readouterr().out.splitlines()
    folder = checkpoint.parents[1] / "eval/last/folder-val-flip"
    results = results_of(folder)
    assert {path.name for path in folder.iterdir()} == {"results.json", "classes.csv", "confusion.csv", "confusion.png"}
    assert {"config", "command", "versions", "faults"} < set(results)
    assert "foreground" not in results  # there are more classes than two
    assert (results["config"]["tta"], results["config"]["window"]) == ("flip", 88)
    with (folder / "confusion.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["truth", *(row[0] for row in rows)] == ["truth", *results["classes"]]
    matrix = np.array([[int(cell) for cell in row[1:]] for row in rows])
    assert results["val"]["pixel_accuracy"] == np.trace(matrix) / matrix.sum()
    with (folder / "classes.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["class", "iou", "accuracy", "boundary_iou", "pixel_share"]
    for k, row in enumerate(table):
        union = matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]
        assert row["iou"] == ("" if union == 0 else str(matrix[k, k] / union))
        assert float(row["pixel_share"]) == pytest.approx(matrix[k].sum() / matrix.sum(), abs=1e-15)
    assert printed[0].split() == ["class", "IoU", "accuracy", "boundary", "IoU", "pixels"]
    assert len(printed) == 1 + 150 + 3
    assert printed[-3].startswith(f"mIoU {results['val']['miou']:.4f}, pixel accuracy ")
    assert printed[-2].startswith("mIoU by size of object (number): small ")
    assert printed[-1].startswith("Written to ")


# --- drawn pictures: settings and odd sizes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures of two classes, one a single pixel wide, one smaller than a patch."""
    root = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for i, (height, width) in enumerate([(70, 50), (50, 1), (3, 5), (41, 67), (64, 64)]):
        mask = (rng.random((height // 9 + 1, width // 9 + 1)) > 0.5).astype(np.uint8).repeat(9, 0).repeat(9, 1)
        mask = mask[:height, :width]
        image = (mask[..., None] * 90 + rng.integers(0, 60, (height, width, 3))).astype(np.uint8)
        Image.fromarray(image).save(root / f"images/val/{i}.png")
        Image.fromarray(mask).save(root / f"labels/val/{i}.png")
    (root / "classes.csv").write_text("id,name\n0,dark\n1,light\n")
    return root


@pytest.fixture
def small(odd: Path, tmp_path: Path) -> Path:
    """A checkpoint for them in a directory of this test, with a window that is no multiple of the patch."""
    sizes = [f"dataset.{key}" for key in ("window=40", "stride=28", "short_side=48", "num_workers=0")]
    return untrained(tmp_path / "run", odd, *sizes)


def numbers(results: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if key not in ("speed", "config", "command", "versions")}


def test_two_devices_give_the_same_bits_as_one(small: Path, tmp_path: Path) -> None:
    folder = small.parents[1] / "eval/last/folder-val-flip"
    words = (f"ckpt={small}", "tta=flip", "save_predictions=true", *QUIET)
    evaluate(configured("eval", *words))
    alone = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
    shutil.rmtree(folder)
    done = run("eval.py", *words, "trainer.devices=2", runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mIoU by size") == 1
    together = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
    one, two = (json.loads(files.pop(Path("results.json"))) for files in (alone, together))
    assert numbers(one) == numbers(two)
    assert alone == together  # tables, the matrix, five predictions
    assert len(alone) == 3 + one["pictures"] == 3 + 5


def test_the_second_of_two_classes_is_told_of_by_what_the_labels_hold(
    odd: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(configured("eval", f"ckpt={small}", *QUIET))
    results = results_of(small.parents[1] / "eval/last/folder-val-none")
    found = results["foreground"]
    assert (found["class"], found["all"]["pictures"]) == ("light", 5)
    lacking = sum(not np.array(Image.open(path)).any() for path in (odd / "labels/val").iterdir())
    assert found["without"]["pictures"] == lacking
    assert found["with"]["counted"]["max_f"] == found["with"]["pictures"] == 5 - lacking
    # Soft scores at the threshold of one half are those of the labels.
    assert found["all"]["pooled"]["iou"] == pytest.approx(results["val"]["classes"]["light"], abs=1e-3)
    assert found["all"]["pooled"]["ber"] == pytest.approx(1 - results["val"]["mean_accuracy"], abs=1e-3)
    mean = found["all"]["per_picture"]
    line = f"light, mean of all (5): MAE {mean['mae']:.4f}, IoU {mean['iou']:.4f}, max F {mean['max_f']:.4f}, "
    assert line in capsys.readouterr().out


def test_odd_sizes_under_every_augmentation(small: Path) -> None:
    mious = {}
    for tta in ("none", "flip", "multiscale", "multiscale_flip"):
        mious[tta] = evaluate(configured("eval", f"ckpt={small}", f"tta={tta}", "short_side=null", *QUIET))
        results = results_of(small.parents[1] / f"eval/last/folder-val-{tta}-short_sideNone")
        assert results["val"]["miou"] == mious[tta]
        assert results["val"]["loss"] > 0
        assert sum(one["pixels"] for one in results["calibration_bins"]) == 70 * 50 + 50 + 15 + 41 * 67 + 64 * 64
    assert len(set(mious.values())) == 4


def test_a_fraction_is_fixed_nested_and_named(small: Path) -> None:
    evaluated = []
    for fraction in ("0.2", "0.4", "0.6", "1"):
        evaluate(configured("eval", f"ckpt={small}", f"fraction={fraction}", "save_predictions=true", *QUIET))
        suffix = "" if fraction == "1" else f"-fraction{fraction}"
        folder = small.parents[1] / f"eval/last/folder-val-none{suffix}"
        evaluated.append({path.name for path in (folder / "predictions").iterdir()})
        assert results_of(folder)["pictures"] == len(evaluated[-1])
    assert [len(names) for names in evaluated] == [1, 2, 3, 5]
    assert evaluated[0] < evaluated[1] < evaluated[2] < evaluated[3]


def test_unreadable_pictures_are_left_out_and_listed(small: Path, odd: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(odd, tmp_path / odd.name))  # the same data elsewhere
    words = (f"ckpt={small}", f"+dataset.root={data}", "bad_sample=skip", *QUIET)
    folder = small.parents[1] / "eval/last/folder-val-none"
    (data / "images/val/3.png").write_bytes(b"")
    evaluate(configured("eval", *words))
    skipped = results_of(folder)
    for kind in ("images", "labels"):
        (data / kind / "val/3.png").unlink()
    evaluate(configured("eval", *words))
    without = results_of(folder)
    (message,) = skipped.pop("faults")["unreadable"]
    assert message.startswith(f"{data / 'images/val/3.png'} cannot be read")
    assert without.pop("faults")["unreadable"] == []
    assert numbers(skipped) == numbers(without)
    assert without["pictures"] == 4


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tta=mirror", "tta=mirror: choose none, flip, multiscale, multiscale_flip"),
        ("fraction=0", "fraction=0: give a number above 0 and up to 1"),
        ("fraction=1.5", "fraction=1.5: give a number above 0"),
        ("fraction=true", "fraction=True: give a number above 0"),
        ("stride=41", "stride=41 must lie in 1…window=40"),
        ("window=0", "window=0: give a whole number of pixels"),
        ("split=testing", "images/testing is not a folder"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_written(word: str, message: str, small: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        evaluate(configured("eval", f"ckpt={small}", word, *QUIET))
    assert not (small.parents[1] / "eval").exists()


def test_spoilt_weights_are_refused(small: Path) -> None:
    content = torch.load(small, weights_only=True)
    for name, tensor in content["state_dict"].items():
        if "mask_norm" in name:
            tensor *= float("nan")
    torch.save(content, small)
    with pytest.raises(ValueError, match=r"values that are not finite.*mask_norm"):
        evaluate(configured("eval", f"ckpt={small}", *QUIET))


def test_labels_that_are_all_ignored_are_refused(small: Path) -> None:
    with pytest.raises(ValueError, match=r"no picture of the split has a labelled pixel"):
        evaluate(configured("eval", f"ckpt={small}", "+dataset.label_map={0: 255, 1: 255}", *QUIET))


def test_the_bar_shows_the_miou_so_far(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miou = evaluate(configured("eval", f"ckpt={small}", "trainer.accelerator=cpu"))
    assert f"Evaluating, mIoU {miou:.4f}" in capsys.readouterr().out


# --- glass ------------------------------------------------------------------------------------------------------------

GLASS = {"scene1/0001": 0.6, "scene1/0002": 0.2, "scene1/0003": 0.0, "noglass3/0001": 0.0, "noglass3/0002": 0.0}


def glass_tree(root: Path, samples: dict[str, float]) -> Path:
    """Pictures of 48x72 and so on in the official layout, with a share of glass in blocks of 9 pixels."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for i, (sample, share) in enumerate(samples.items()):
            height, width = 48 + 3 * i, 72 - 5 * i
            mask = (rng.random((10, 10)) < share).repeat(9, 0).repeat(9, 1)[:height, :width] * np.uint8(255)
            color = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)  # in other blocks, so that the scores vary
            image = color.repeat(12, 0).repeat(12, 1)[:height, :width] // 2 + mask[..., None] // 2
            (root / part / sample).mkdir(parents=True)
            Image.fromarray(image).save(root / part / sample / "rgb.png")
            Image.fromarray(mask).save(root / part / sample / "mask.png")
    return root


def untrained_glass(folder: Path, samples: dict[str, float]) -> Path:
    sizes = [f"dataset.{key}" for key in ("window=40", "stride=28", "short_side=48", "num_workers=0")]
    root = glass_tree(folder / "data", samples)
    return untrained(folder / "run", root, *sizes, dataset="rgbt_glass", sharpness=1)


@pytest.mark.parametrize("tta", ["none", "flip"])
@torch.inference_mode()
def test_glass_equals_brute_force_on_soft_probabilities(
    tta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = untrained_glass(tmp_path, GLASS)
    evaluate(configured("eval", f"ckpt={checkpoint}", f"tta={tta}", *QUIET))
    found = results_of(tmp_path / f"run/eval/last/rgbt_glass-val-{tta}")["foreground"]
    model = load_segmenter(checkpoint)
    pictures: list[Picture] = []
    for sample in GLASS:
        image = torch.from_numpy(np.array(Image.open(tmp_path / "data/test" / sample / "rgb.png"))).permute(2, 0, 1)
        soft = predict_probabilities(model, image, window=40, stride=28, short_side=48, flip=tta == "flip")[1]
        mask = np.array(Image.open(tmp_path / "data/test" / sample / "mask.png")) // 255
        pictures.append((soft.numpy(), mask, "noglass" in sample))
    assert min(soft.std() for soft, _, _ in pictures) > 0.03  # neither flat nor saturated: this is about soft values
    assert found.pop("class") == "glass"
    groups = {
        "all": pictures,
        "with": [one for one in pictures if not one[2]],  # of a scene with glass, also where there is none in sight
        "without": [one for one in pictures if one[2]],
    }
    assert list(found) == list(groups)
    for name, some in groups.items():
        for kind in ("per_picture", "pooled"):
            found[name][kind] = {key: np.nan if x is None else x for key, x in found[name][kind].items()}
        agree(found[name], foreground_brute_force(some), within=1e-6)
    assert [one["pictures"] for one in found.values()] == [5, 3, 2]
    assert found["with"]["counted"] == {"mae": 3, "iou": 3, "max_f": 2, "ber": 2}
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("glass, ")]
    heads = ["glass, mean of all (5)", "glass, mean of those with it (3)", "glass, mean of those without (2)"]
    assert [line.partition(":")[0] for line in lines] == heads
    assert ", max F -, max F of mean curves -, BER -; pixels pooled: MAE " in lines[2]


def test_a_single_scene_without_glass_is_known_as_such(tmp_path: Path) -> None:
    checkpoint = untrained_glass(tmp_path, {"noglass3/0001": 0.0, "noglass3/0002": 0.0})
    evaluate(configured("eval", f"ckpt={checkpoint}", "save_predictions=true", *QUIET))
    folder = tmp_path / "run/eval/last/rgbt_glass-val-none"
    found = results_of(folder)["foreground"]
    assert [found[group]["pictures"] for group in ("all", "with", "without")] == [2, 0, 2]
    assert set(found["with"]["pooled"].values()) == set(found["with"]["per_picture"].values()) == {None}
    assert (folder / "predictions/noglass3/0002/rgb.png").is_file()


# --- the confusion matrix ---------------------------------------------------------------------------------------------


def test_confusion_picture_is_dark_where_pixels_are() -> None:
    names = [f"class {k}" for k in range(15)]
    matrix = np.zeros((15, 15), np.int64)
    matrix[0, :2], matrix[1, 1] = (90, 10), 50
    picture = np.asarray(confusion_picture(matrix, names)).astype(int)
    end, cell = np.array(picture.shape[:2]) - 12, 48  # a margin on the right and below

    def color(row: int, column: int) -> list[int]:
        y, x = end - (15 - np.array([row, column])) * cell + 5
        return picture[y, x].tolist()

    assert color(1, 1) == [8, 48, 107]  # all of the row
    assert sum(color(1, 1)) < sum(color(0, 0)) < sum(color(0, 1)) < sum(color(0, 2)) == 3 * 255
    assert color(2, 2) == color(14, 0) == [228] * 3  # classes that do not occur
    assert confusion_csv(matrix[:2, :2], ["sky", "a, b"]).splitlines() == [
        'truth,sky,"a, b"',
        "sky,90,10",
        '"a, b",0,50',
    ]


@pytest.mark.parametrize(("classes", "longest"), [(1, 400), (19, 1400), (150, 2600)])
def test_confusion_picture_fits_any_number_of_classes(classes: int, longest: int) -> None:
    picture = confusion_picture(np.eye(classes, dtype=np.int64), [f"class number {k}" for k in range(classes)])
    assert classes * 13 < picture.height < longest


# --- what the servers read --------------------------------------------------------------------------------------------


def test_submissions_hold_the_servers_own_values(assets: Path) -> None:
    def columns(name: str, *keys: str) -> Iterator[tuple[int, ...]]:
        with (assets / "data/classes" / name).open(newline="") as file:
            for row in csv.DictReader(file):
                yield tuple(int(row[key]) for key in keys)

    ade = dict(columns("ade20k.csv", "id", "label_value"))
    assert len(ade) == 150
    assert dict(enumerate(ade20k_submission(np.arange(150)[None])[0].tolist())) == ade
    scored = columns("cityscapes_labels.csv", "train_id", "label_id", "ignore_in_eval")
    cityscapes = {train: label for train, label, ignored in scored if not ignored}
    assert len(cityscapes) == 19
    assert dict(enumerate(cityscapes_submission(np.arange(19)[None])[0].tolist())) == cityscapes
    assert ade20k_submission(np.zeros((2, 3), int)).dtype == np.uint8


def test_submissions_are_named_as_the_servers_look_for_them() -> None:
    assert str(ade20k_path("ADE_test_00000001")) == "ADE_test_00000001.png"
    assert str(cityscapes_path("berlin/berlin_000000_000019_leftImg8bit")) == "berlin_000000_000019_labelIds.png"
    with pytest.raises(ValueError, match="picture7 is no Cityscapes picture"):
        cityscapes_path("val/picture7")


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"class ids 0…19 but Cityscapes has the classes 0…18"):
        cityscapes_submission(np.arange(20)[None])


def test_submissions_are_written_beside_the_predictions(tmp_path: Path) -> None:
    dataset = SimpleNamespace(
        name=lambda index: "ulm/ulm_000000_000007_leftImg8bit",
        classes=Classes(tuple(map(str, range(19))), ((1, 2, 3),) * 19),
    )
    trainer: Any = SimpleNamespace(val_dataloaders=SimpleNamespace(dataset=dataset))
    labels = torch.tensor([[0, 18, 7]])
    batch = {"index": torch.tensor([0]), "unreadable": [""]}
    LabelWriter(tmp_path, "cityscapes").on_validation_batch_end(trainer, LightningModule(), labels, batch, 0)
    with Image.open(tmp_path / "submission/ulm_000000_000007_labelIds.png") as image:
        assert (image.mode, np.array(image).tolist()) == ("L", [[7, 33, 20]])
    with Image.open(tmp_path / "predictions/ulm/ulm_000000_000007_leftImg8bit.png") as image:
        assert (image.mode, np.array(image).tolist()) == ("P", [[0, 18, 7]])


def test_a_submission_of_a_split_without_labels(trained_on_folder: Path) -> None:
    root, checkpoint = trained_on_folder / "data", f"ckpt={trained_on_folder / 'run/checkpoints/last.ckpt'}"
    shutil.copytree(root / "images/val", root / "images/test")
    words = (checkpoint, "split=test", "submission=ade20k", *QUIET)
    with pytest.raises(ValueError, match="submission=ade20k writes label files: give save_predictions=true too"):
        evaluate(configured("eval", *words))
    with pytest.raises(ValueError, match="submission=mars: choose ade20k, cityscapes, or null"):
        evaluate(configured("eval", checkpoint, "submission=mars", *QUIET))
    evaluate(configured("eval", *words, "save_predictions=true"))
    written = trained_on_folder / "run/eval/last/folder-test-none"
    assert sorted(path.name for path in (written / "submission").iterdir()) == ["0.png", "1.png", "2.png"]
    with Image.open(written / "submission/1.png") as sent, Image.open(written / "predictions/1.png") as kept:
        assert np.array_equal(np.array(sent), np.array(kept) + 1)


def test_a_split_without_labels_gives_label_files(trained_on_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, checkpoint = trained_on_folder / "data", f"ckpt={trained_on_folder / 'run/checkpoints/last.ckpt'}"
    shutil.copytree(root / "images/val", root / "images/test")
    with pytest.raises(ValueError, match="split=test has no labels to compare with: give save_predictions=true"):
        evaluate(configured("eval", checkpoint, "split=test", *QUIET))
    assert np.isnan(evaluate(configured("eval", checkpoint, "split=test", "save_predictions=true", *QUIET)))
    evaluate(configured("eval", checkpoint, "save_predictions=true", *QUIET))
    test, val = (trained_on_folder / f"run/eval/last/folder-{split}-none" for split in ("test", "val"))
    assert "3 pictures of a split without labels" in capsys.readouterr().out
    assert json.loads((test / "results.json").read_text())["pictures"] == 3
    assert not (test / "classes.csv").exists()
    for path in (val / "predictions").iterdir():
        assert path.read_bytes() == (test / "predictions" / path.name).read_bytes()


@pytest.fixture
def trained_on_folder(tmp_path: Path) -> Path:
    """data/ and run/: a short training on a folder of pictures."""
    train(of_folder(folder(tmp_path / "data"), tmp_path / "run", "dataset.num_workers=0"))
    return tmp_path


def test_evaluations_of_other_data_or_precision_are_kept_apart(trained_on_folder: Path) -> None:
    checkpoint = f"ckpt={trained_on_folder / 'run/checkpoints/last.ckpt'}"
    other = folder(trained_on_folder / "other", val=1)
    for overrides in ((), ("window=48", "stride=32"), (f"+dataset.root={other}",), ("trainer.precision=bf16-mixed",)):
        evaluate(configured("eval", checkpoint, *overrides, *QUIET))
    found = {path.name for path in (trained_on_folder / "run/eval/last").iterdir()}
    (hashed,) = found - {"folder-val-none", "folder-val-none-bf16-mixed"}
    assert len(found) == 3
    assert re.fullmatch("folder-val-none-[0-9a-f]{8}", hashed)


def test_spoilt_weights_are_refused_without_labels_too(trained_on_folder: Path) -> None:
    path = trained_on_folder / "run/checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["model.decoder.proj_patch"] *= 1e38  # finite, but no product of it
    torch.save(checkpoint, path)
    (trained_on_folder / "data/images/val").rename(trained_on_folder / "data/images/test")
    with pytest.raises(ValueError, match="the model's scores are not finite numbers"):
        evaluate(configured("eval", f"ckpt={path}", "split=test", "save_predictions=true", *QUIET))
