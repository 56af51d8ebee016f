"""What the commands are started with: valid words and files, and from a seed wrong ones."""

import io
import random
from pathlib import Path

from PIL import Image

from tests.fuzz import originals
from tests.fuzz.mutations import WORDS, misspelt, spoilt

SMALL = (
    *("backbone.embed_dim=32", "backbone.depth=1", "backbone.num_heads=1", "decoder.depth=1", "dataset.batch_size=2"),
    *(f"dataset.{key}=32" for key in ("crop", "window", "stride", "short_side")),
)
# Behind all other words, so that no word makes a start long, or a crowd of processes.
TRAINER = ("trainer.devices=1", "trainer.num_nodes=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false")
FIXED = {
    "train.py": ("trainer.max_steps=1", "dataset.val_every=1", "dataset.num_workers=0", *TRAINER),
    "eval.py": ("++dataset.num_workers=0", *TRAINER),
    "segmenter": (),
}
PICTURES = ("dataset=folder", "dataset.root=in/pictures")
HELD_OUT = ("--val", "0.5", "--pictures", "in")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("train.py", *PICTURES, *SMALL),
    ("train.py", "decoder=linear", "optimizer=sgd_mmseg", "seed=1", "tag=word", "loss.label_smoothing=0.1"),
    ("train.py", *PICTURES, *SMALL, "resume=in/run.ckpt", "bad_sample=skip"),
    ("eval.py", "ckpt=in/run.ckpt", "+dataset.root=in/pictures", "tta=flip", "save_predictions=true"),
    ("eval.py", "ckpt=in/mmseg.pth", *PICTURES, "dataset.batch_size=1", "window=32", "stride=16", "fraction=0.5"),
    ("segmenter", "predict", "in/run.ckpt", "in/pictures/images/val", "-o", "out", "--legend", "--window", "32"),
    ("segmenter", "predict", "in/mmseg.pth", "in/film.gif", "in/pictures/images/val/a.png", "-o", "out", "--video"),
    ("segmenter", "check", "in/pictures", "dataset.ignore_value=0", "-o", "out", "--workers", "1"),
    ("segmenter", "browse", "in/pictures", "-o", "out.png", "--split", "val"),
    ("segmenter", "convert", "in/run.ckpt", "out", "--to", "timm"),
    ("segmenter", "export", "in/run.ckpt", "out", "--format", "safetensors"),
    ("segmenter", "prepare", "folder", "--root", "out", "--from", "coco", "--train", "in/coco.json", *HELD_OUT),
    ("segmenter", "prepare", "folder", "--root", "out", "--from", "csv", "--pairs", "in/pairs.csv"),
    ("segmenter", "results", "in", "-o", "out.csv"),
    ("segmenter", "plot", "curves", "in", "-o", "out.png"),
)
ODD = tuple(word for word in WORDS if "\0" not in word and "/" not in word)  # no word of ours leads elsewhere


def furnish(folder: Path) -> dict[str, bytes]:
    """The files that the commands read, by name below `in`."""
    made = originals.checkpoints(folder / "made")
    files = {"mmseg.pth": made["mmseg"].read_bytes(), "coco.json": originals.coco().encode()}
    for split in ("train", "val"):
        for name, picture in (("a", "plain.png"), ("b", "alpha.png")):
            files[f"pictures/images/{split}/{name}.png"] = originals.pictures()[picture]
            files[f"pictures/labels/{split}/{name}.png"] = originals.labels()["grey.png"]
    files["a.png"] = files["b.png"] = originals.pictures()["plain.png"]
    files["pictures/classes.csv"] = b"id,name\n0,a\n1,b\n2,c\n"
    pairs = "".join(
        f"{split},pictures/images/{split}/a.png,pictures/labels/{split}/a.png\n" for split in ("train", "val")
    )
    files["pairs.csv"] = f"split,picture,label\n{pairs}".encode()
    film = io.BytesIO()
    frames = [Image.new("RGB", (37, 30), (k, 0, 0)) for k in range(3)]
    frames[0].save(film, "GIF", save_all=True, append_images=frames[1:])
    files["film.gif"] = film.getvalue()
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def case(seed: int, files: dict[str, bytes]) -> tuple[tuple[str, ...], dict[str, bytes]]:
    """Words and files of a seed: in half of the cases words are wrong, in the others a file that is read."""
    rng = random.Random(f"start {seed}")
    words, files = [*COMMANDS[seed % len(COMMANDS)]], dict(files)
    given = [word.rpartition("=")[2] for word in words]
    read = [name for name in files if any(f"in/{name}/".startswith(f"{path}/") for path in given)]
    if not read or rng.random() < 0.5:
        first = 1 if words[0].endswith(".py") else 2
        at = rng.randrange(first, len(words))
        if "=" in words[at] and rng.random() < 0.5:
            words[at] = f"{words[at].partition('=')[0]}={rng.choice(originals.VALUES)}"
        else:
            words[at] = misspelt(words[at], rng, ODD).replace("\0", "") or rng.choice(["x", "=", "--"])
        if rng.random() < 0.1:
            words.insert(at, rng.choice(["-m", "--cfg=job", "--help", "--", "-", "a\udcffb", "name=a\udcffb"]))
    else:
        name = rng.choice(read)
        binary = b"\0" in files[name]
        files[name] = (
            spoilt(files[name], rng, files["a.png"]) if binary else misspelt(files[name].decode(), rng).encode()
        )
    return (*words, *FIXED[words[0]]), files
