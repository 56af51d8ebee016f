"""Published models by name: the table, the cache, and evaluation by name."""

import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from segmenter_pl import load_segmenter, zoo
from segmenter_pl.cli import app
from segmenter_pl.eval import evaluate
from tests import layouts
from tests.foreign import Shape, write_mmseg, write_official, write_paddle
from tests.serving import Site, serving
from tests.test_train import QUIET, configured

TINY = "seg_t_mask16_ade20k"
MMSEG = "seg_s_mask16_ade20k_mmseg"
BAIDU = "seg_t_mask16_ade20k_paddlevit"
S = Shape(depth=1, patch=16, grid=2, classes=150)
COUNTED = "ignore:.*published are.*:UserWarning"  # the trees here are tiny


def test_every_row_of_the_published_tables_is_there(assets: Path) -> None:
    with (assets / "docs/published_results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "model_zoo"]
    published: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        if row["metric"] in ("miou_ss", "miou_ms"):
            key = (row["source"].split("_")[0], row["dataset"], row["backbone"], row["decoder"], row["patch_size"])
            published.setdefault((*key, row["setting"].split(";")[0]), {})[row["metric"]] = float(row["value"])
    found = {}
    for entry in zoo.entries().values():
        parts = entry.name.split("_")
        deit = parts[2] == "deit"
        kind = parts[3] if deit else parts[2]
        decoder, patch = kind.rstrip("0123456789"), kind.lstrip("abcdefghijklmnopqrstuvwxyz")
        backbone = f"{'deit' if deit else 'vit'}_{parts[1]}{patch}"
        key = (entry.source.lower(), entry.dataset, backbone, decoder, patch, f"{entry.window}x{entry.window}")
        found[key] = {"miou_ss": entry.miou_ss} | ({} if entry.miou_ms is None else {"miou_ms": entry.miou_ms})
        assert entry.pixels == ("deit" if deit else "vit")
    assert found == published
    assert len(found) == 19


def test_views_are_those_of_the_published_evaluations() -> None:
    entries = zoo.entries()
    views = {name: (entry.window, entry.stride, entry.short_side) for name, entry in entries.items()}
    assert views["seg_l_mask16_ade20k"] == (640, 640, 640)
    assert views["seg_l_mask16_pascal_context"] == (480, 320, 520)
    assert views["seg_l_mask16_cityscapes"] == (768, 512, 1024)
    assert views["seg_t_mask16_ade20k_mmseg"] == (512, 480, 512)
    assert views["seg_l_mask16_ade20k_mmseg"] == (640, 608, 640)
    for entry in entries.values():
        assert entry.urls == [] or all(url.startswith("https://") for url in entry.urls)
        assert bool(entry.urls) == (entry.source != "PaddleViT")
        if entry.source == "official":
            assert [url.rpartition("/")[2] for url in entry.urls] == ["checkpoint.pth", "variant.yml"]


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Two published models, small and served from here."""
    monkeypatch.setenv("SEGMENTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = write_official(tmp_path / "official", S)
    mmseg = write_mmseg(tmp_path / "m.pth", S).read_bytes()
    named = f"/segmenter_vit-s-{hashlib.sha256(mmseg).hexdigest()[:8]}.pth"
    files = {f"/tiny/{path.name}": path.read_bytes() for path in folder.iterdir()}
    with serving(files={**files, named: mmseg}) as site:
        addresses = {TINY: f"{site.address}/tiny/checkpoint.pth {site.address}/tiny/variant.yml"}
        addresses |= {MMSEG: f"{site.address}{named}"}
        entries = zoo.entries()
        entries |= {name: replace(entries[name], address=address) for name, address in addresses.items()}
        for module in ("segmenter_pl.zoo", "segmenter_pl.checkpoint"):
            monkeypatch.setattr(f"{module}.entries", lambda: entries)
        yield site


def test_a_name_is_fetched_once_and_knows_its_classes(published: Site, tmp_path: Path) -> None:
    model = load_segmenter(TINY)
    assert published.requests == ["/tiny/checkpoint.pth", "/tiny/variant.yml"]
    assert model.spec is not None
    assert model.spec.classes is not None
    assert model.spec.palette is not None
    assert model.spec.classes[:3] == ("wall", "building", "sky")
    assert model.spec.palette[:2] == ((120, 120, 120), (180, 120, 120))
    assert (model.spec.window, model.spec.stride, model.spec.short_side) == (512, 512, 512)
    folder = tmp_path / "cache/zoo" / TINY
    recorded = json.loads((folder / "checksums.json").read_text())
    assert recorded == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("checkpoint.pth", "variant.yml")
    }
    expected = load_segmenter(tmp_path / "official").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in load_segmenter(TINY).state_dict().items())
    assert len(published.requests) == 2


@pytest.mark.parametrize("name", ["checkpoint.pth", "variant.yml"])
def test_a_changed_file_is_refused(published: Site, tmp_path: Path, name: str) -> None:
    load_segmenter(TINY)
    file = tmp_path / "cache/zoo" / TINY / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ValueError, match=f"{name} is not what was fetched at first.*remove it to fetch it again"):
        load_segmenter(TINY)
    file.unlink()
    load_segmenter(TINY)
    published.files[f"/tiny/{name}"] += b" "  # another file at the address is told, too
    file.unlink()
    with pytest.raises(ValueError, match=f"{name} is not what was fetched at first"):
        load_segmenter(TINY)


def test_digits_in_the_name_are_checked(published: Site, tmp_path: Path) -> None:
    model = load_segmenter(MMSEG)
    assert model.encoder.position_mode == "bicubic"
    assert model.spec is not None
    assert model.spec.stride == 480
    (path,) = (path for path in published.files if path.endswith(".pth") and "vit-s" in path)
    (tmp_path / "cache/zoo" / MMSEG / path[1:]).unlink()
    (tmp_path / "cache/zoo" / MMSEG / "checksums.json").unlink()
    published.files[path] = published.files[path][:-1] + b"\x01"
    with pytest.raises(ValueError, match="not what was fetched at first, or what its name says"):
        load_segmenter(MMSEG)


def test_damaged_checksums_are_told(published: Site, tmp_path: Path) -> None:
    load_segmenter(TINY)
    record = tmp_path / "cache/zoo" / TINY / "checksums.json"
    for text in ("", "[1]", '{"checkpoint.pth": 3}'):
        record.write_text(text)
        with pytest.raises(ValueError, match=r"checksums\.json cannot be read: remove it"):
            load_segmenter(TINY)


def test_without_a_network_the_message_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Site
) -> None:
    entries = zoo.entries()
    address = "http://127.0.0.1:9/checkpoint.pth http://127.0.0.1:9/variant.yml"
    entries[TINY] = replace(entries[TINY], address=address)
    monkeypatch.setattr("segmenter_pl.prepare.download.PAUSE", 0.01)
    monkeypatch.setattr("segmenter_pl.checkpoint.entries", lambda: entries)
    with pytest.raises(FileNotFoundError) as error:
        load_segmenter(TINY)
    folder = tmp_path / "cache/zoo" / TINY
    for words in (f"{TINY} is not in the cache", "http://127.0.0.1:9/variant.yml", f"put them into {folder}"):
        assert words in str(error.value)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (tmp_path / "official").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    load_segmenter(TINY)


def test_an_error_of_the_server_and_a_page_are_told(published: Site) -> None:
    published.files["/tiny/checkpoint.pth"] = b"<!DOCTYPE html><p>We have moved</p>"
    with pytest.raises(ValueError, match=r"gives a web page instead of checkpoint\.pth"):
        load_segmenter(TINY)
    del published.files["/tiny/checkpoint.pth"]
    with pytest.raises(FileNotFoundError, match=r"there is no such file \(404"):
        load_segmenter(TINY)


def test_what_is_only_at_baidu_is_fetched_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTER_CACHE", str(tmp_path))
    for name, distilled, mean in ((BAIDU, False, 0.5), ("seg_b_deit_mask16_ade20k_paddlevit", True, 0.485)):
        with pytest.raises(FileNotFoundError, match=f"{name} can only be fetched by hand, from https://pan.baidu.com/"):
            load_segmenter(name)
        folder = tmp_path / "zoo" / name
        folder.mkdir(parents=True)
        write_paddle(folder / "any.pdparams", replace(S, distilled=distilled))
        model = load_segmenter(name)
        assert model.pixel_mean[0] == pytest.approx(255 * mean)  # the file does not tell
        assert model.spec is not None
        assert model.spec.classes is not None
        assert load_segmenter(name, mean=(0.1, 0.2, 0.3)).pixel_mean[0] == pytest.approx(25.5)
        (folder / "any.pdparams").write_bytes(b"other")
        with pytest.raises(ValueError, match="not what was fetched at first"):
            load_segmenter(name)


def test_a_file_of_that_name_wins_and_unknown_names_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Site
) -> None:
    monkeypatch.chdir(tmp_path)
    write_official(tmp_path / TINY, Shape())
    assert load_segmenter(TINY).num_classes == 5
    assert published.requests == []
    with pytest.raises(FileNotFoundError, match="seg_x_mask16 does not exist"):
        load_segmenter("seg_x_mask16")


def test_another_number_of_classes_than_published_is_refused(published: Site, tmp_path: Path) -> None:
    for path in write_official(tmp_path / "other", Shape(classes=7)).iterdir():
        published.files[f"/tiny/{path.name}"] = path.read_bytes()
    with pytest.raises(ValueError, match=f"{TINY}: it has 150 classes for 7 outputs"):
        load_segmenter(TINY)


VIEW = ("dataset.num_workers=0", "window=32", "stride=32", "short_side=32")


@pytest.mark.filterwarnings(COUNTED)
def test_evaluated_by_name(published: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.ade20k(tmp_path / "data")
    data = (f"dataset.root={tmp_path / 'data'}", *VIEW, *QUIET)
    miou = evaluate(configured("eval", f"ckpt={TINY}", "dataset=ade20k", *data))
    assert 0 <= miou < 0.5
    (results,) = (tmp_path / "eval" / TINY).rglob("results.json")
    assert json.loads(results.read_text())["val"]["miou"] == miou
    by_path = evaluate(configured("eval", f"ckpt={tmp_path / 'official'}", "dataset=ade20k", *data))
    assert by_path == miou
    of_mmseg = evaluate(configured("eval", f"ckpt={tmp_path / 'm.pth'}", "dataset=ade20k", *data))
    assert 0 <= of_mmseg < 0.5
    with pytest.raises(ValueError, match="tells no dataset: give dataset=NAME"):
        evaluate(configured("eval", f"ckpt={TINY}", *QUIET))


@pytest.mark.filterwarnings(COUNTED)
def test_eval_zoo_compares_with_what_is_published(
    published: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.ade20k(tmp_path / "data")
    words = ["eval-zoo", TINY, MMSEG, f"dataset.root={tmp_path / 'data'}", *VIEW, *QUIET]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{TINY}: " in done.stdout
    assert "(published 38.10, -" in done.stdout
    assert f"{MMSEG}: " in done.stdout
    assert "(published 46.19, -" in done.stdout
    done = CliRunner().invoke(app, ["eval-zoo", "seg_x"])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: seg_x is no published model: `segmenter zoo` lists them")
    assert CliRunner().invoke(app, ["eval-zoo", "fraction=1"]).stderr.startswith("Error: give at least one name")


def test_the_list(published: Site, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["zoo"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(zoo.entries())
    (tiny,) = (line for line in lines if line.startswith(f"{TINY} "))
    for words in ("38.10", "38.80", "512/512", "official: Seg-T-Mask/16"):
        assert words in tiny
    assert "in the cache" not in tiny
    (baidu,) = (line for line in lines if line.startswith(BAIDU))
    assert "by hand" in baidu
    load_segmenter(TINY)
    (tiny,) = (line for line in CliRunner().invoke(app, ["zoo"]).stdout.splitlines() if line.startswith(f"{TINY} "))
    assert tiny.endswith("in the cache")


def test_torch_hub_entry_points(tmp_path: Path) -> None:
    """torch.hub imports hubconf.py from a checkout, in which the package need not be installed."""
    folder, root = write_official(tmp_path / "m", Shape()), Path(__file__).parents[1]
    code = (
        "import torch\n"
        f"model = torch.hub.load({str(root)!r}, 'segmenter', {str(folder)!r}, source='local')\n"
        f"fresh = torch.hub.load({str(root)!r}, 'create', 'vit_micro', 'mask', num_classes=3, source='local')\n"
        "print(model.num_classes, model.training, fresh.num_classes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "5 False 3"
