"""Small valid files of every kind that is read."""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segmenter_pl import load_segmenter, save_pretrained
from segmenter_pl.export.convert import convert
from tests.foreign import Shape, jax_arrays, write_mmseg, write_official, write_paddle

S = Shape(width=16, depth=1, patch=4, grid=2, classes=3)
TABLES = (
    "id,name,R,G,B\n0,sky,1,2,3\n1,road,4,5,6\n7,car,255,0,0\n",
    "id,name\r\n0,background\r\n1,glass\r\n",
    '\ufeffname,id\n"a, b",3\nc,65535\n"two\nlines",2\n',
)
# A command, and its words.
SETTINGS = (
    ("train", "decoder=linear", "dataset.crop=64", "dataset.scale=[0.5,2.0]", "optimizer.lr=1e-3", "seed=3"),
    (
        "train",
        "backbone=vit_t16",
        "backbone.pretrained=false",
        "backbone.drop_path_rate=0.1",
        "loss.class_weights=[1,2,3]",
    ),
    ("train", "dataset=folder", "dataset.root=pictures", "dataset.ignore_value=0", "dataset.label_map={7: 1, 8: 1}"),
    ("train", "experiment=ade20k_seg_b16_mask", "trainer.max_steps=10", "tag=word", "dataset.batch_size=2"),
    (
        "train",
        "optimizer=adamw",
        "callbacks=ema",
        "logger=none",
        "trainer=cpu",
        "+trainer.profiler=simple",
        "~callbacks.panel",
    ),
    (
        "train",
        "recipe=mmseg",
        "decoder=mask",
        "decoder.depth=1",
        "name=${dataset.name}-x",
        "backbone.token_merging.keep=0.7",
    ),
    ("eval", "ckpt=x", "split=val", "tta=flip", "fraction=0.5", "+dataset.root=y", "seed=1"),
    ("eval", "ckpt=x", "dataset=folder", "dataset.root=y", "window=64", "stride=32", "save_predictions=true"),
)
VALUES = (
    *("0", "3", "-1", "0.5", "1e9", "1e999", "nan", "null", "true", "abc", "''", "[]", "[1,2]", "[a]", "{a: 1}", "{}"),
    *("${seed}", "${nowhere}", "${oc.env:HOME}", "1,2", "folder", "linear", "../x", "é"),
)


def _noise(*shape: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (4, 5, *shape[2:]), dtype=np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)[: shape[0], : shape[1]]


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    """By name; 30 x 37 pixels of colours."""
    rgb = Image.fromarray(_noise(30, 37, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "plain.jpg": saved(rgb, "JPEG"),
        "turned.jpg": saved(rgb, "JPEG", progressive=True, exif=exif),
        "grey.jpg": saved(rgb.convert("L"), "JPEG"),
        "four.jpg": saved(rgb.convert("CMYK"), "JPEG"),
        "plain.png": saved(rgb, "PNG"),
        "palette.png": saved(rgb.quantize(16), "PNG", transparency=3),
        "alpha.png": saved(rgb.convert("RGBA"), "PNG"),
        "plain.bmp": saved(rgb, "BMP"),
        "plain.tif": saved(rgb, "TIFF"),
        "packed.tif": saved(rgb, "TIFF", compression="tiff_lzw"),
        "lossy.webp": saved(rgb, "WEBP"),
        "plain.webp": saved(rgb, "WEBP", lossless=True),
    }


def labels() -> dict[str, bytes]:
    """By name; 30 x 37 numbers 0 to 2."""
    ids = Image.fromarray(_noise(30, 37) % 3)
    coloured = ids.copy()
    coloured.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    return {
        "grey.png": saved(ids, "PNG"),
        "palette.png": saved(coloured, "PNG", bits=2),
        "wide.png": saved(Image.fromarray(np.array(ids).astype(np.uint16)), "PNG"),
        "bits.png": saved(ids.convert("1"), "PNG"),
        "grey.tif": saved(ids, "TIFF", compression="tiff_adobe_deflate"),
        "grey.bmp": saved(ids, "BMP"),
    }


def checkpoints(folder: Path) -> dict[str, Path]:
    """Files by kind; what is loaded is the file, or its folder where others lie beside it."""
    folder.mkdir()
    official = write_official(folder / "official", S)
    convert(official, folder / "ours.ckpt", "ours")
    save_pretrained(load_segmenter(official), folder / "exported")
    np.savez(folder / "jax.npz", **jax_arrays(S))  # type: ignore[arg-type]
    return {
        "ours": folder / "ours.ckpt",
        "official": official / "checkpoint.pth",
        "variant": official / "variant.yml",
        "mmseg": write_mmseg(folder / "mmseg.pth", S),
        "safetensors": folder / "exported/model.safetensors",
        "config": folder / "exported/config.json",
        "paddle": write_paddle(folder / "paddle.pdparams", S),
        "jax": folder / "jax.npz",
    }


def predictor_file(folder: Path) -> Path:
    """A model for pictures of any size: window 32."""
    path = write_mmseg(folder / "model.pth", S)
    torch.manual_seed(0)
    return path


def coco() -> str:
    """Annotations of two pictures, a.png and b.png."""
    box = [[2, 2, 20, 2, 20, 20, 2, 20]]
    return json.dumps(
        {
            "images": [{"id": k, "file_name": f"{name}.png", "width": 37, "height": 30} for k, name in enumerate("ab")],
            "categories": [{"id": 1, "name": "thing"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": box, "iscrowd": 0}],
        }
    )
