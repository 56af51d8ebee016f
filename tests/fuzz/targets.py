"""What is fuzzed: where a case comes from, and what reads it."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from segmenter_pl import Predictor, load_segmenter, searchpath
from segmenter_pl.checking.pairs import Pair, examine
from segmenter_pl.data.classes import read_classes
from segmenter_pl.data.pairs import read_label, read_picture
from segmenter_pl.faults import check_bounds, check_overrides
from segmenter_pl.models import ViTEncoder
from segmenter_pl.pictures import read_rgb
from tests.fuzz import originals
from tests.fuzz.judging import verdict
from tests.fuzz.mutations import misspelt, spoilt

KINDS = ("picture", "label", "predictor", "classes", "checkpoint", "settings")


@dataclass(frozen=True)
class Case:
    """One input. Attributes: name: of the file, or of the kind; content: of the file, or the words, one a line."""

    kind: str
    name: str
    content: bytes


class Bench:
    """Reads cases of all kinds in a folder of its own, which is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "case"
        self.folder.mkdir(parents=True)
        self.pictures, self.labels = originals.pictures(), originals.labels()
        files = originals.checkpoints(folder / "checkpoints")
        self.checkpoints = {kind: (path, path.read_bytes()) for kind, path in files.items()}
        model = load_segmenter(originals.predictor_file(folder))
        self.predictor = Predictor(model, window=32, stride=32, device="cpu")
        self.ends = Counter[str]()  # of the calls
        self.table = np.full(65536, -1, np.int16)
        self.table[:3] = range(3)

    def case(self, kind: str, seed: int) -> Case:
        """The case of a seed."""
        rng = random.Random(f"{kind} {seed}")
        if kind == "settings":
            words = [*rng.choice(originals.SETTINGS)]
            for _ in range(rng.choice([1, 1, 2])):
                at = rng.randrange(1, len(words))
                value = f"{words[at].partition('=')[0]}={rng.choice(originals.VALUES)}"
                words[at] = misspelt(words[at], rng) if rng.random() < 0.4 else value
            return Case(kind, kind, "\x1e".join(words).encode())
        if kind == "classes":
            return Case(kind, "classes.csv", misspelt(rng.choice(originals.TABLES), rng).encode())
        if kind == "checkpoint":
            name = rng.choice([*self.checkpoints])
            whole = self.checkpoints[name][1]
            if name in ("variant", "config"):
                return Case(kind, name, misspelt(whole.decode(), rng).encode())
            return Case(kind, name, spoilt(whole, rng, self.checkpoints["jax"][1]))
        files = self.labels if kind == "label" else self.pictures
        name = rng.choice([*files])
        return Case(kind, name, spoilt(files[name], rng, rng.choice([*files.values()])))

    def findings(self, case: Case) -> list[str]:
        """What is wrong with how each reader ends."""
        if case.kind == "settings":
            words = case.content.decode().split("\x1e")
            found = verdict(lambda: compose_and_check(*words), ends=self.ends)
            return [found] if found else []
        if case.kind == "checkpoint":
            return self._checkpoint(case)
        path = self.folder / case.name
        path.unlink(missing_ok=True)
        path.write_bytes(case.content)
        return [found for call in self._readers(case.kind, path) if (found := verdict(call, str(path), self.ends))]

    def _readers(self, kind: str, path: Path) -> Iterator[Callable[[], object]]:
        if kind == "classes":
            yield lambda: read_classes(path)
        if kind == "predictor":
            yield lambda: self.predictor.segment(path)
        if kind == "picture":
            yield lambda: read_picture(path)
            yield lambda: read_rgb(path)
        if kind == "label":
            yield lambda: read_label(path)
        if kind in ("picture", "label"):  # finds, and never raises
            yield lambda: examine(Pair("train", path, path), self.table, 3, lambda: "").findings

    def _checkpoint(self, case: Case) -> list[str]:
        path, whole = self.checkpoints[case.name]
        given = path.parent if case.name in ("config", "variant", "safetensors") else path
        path.unlink()  # the file may be mapped
        path.write_bytes(case.content)
        try:
            return [found for call in _loads(case.name, given) if (found := verdict(call, given.name, self.ends))]
        finally:
            path.unlink()
            path.write_bytes(whole)


def compose_and_check(entry: str, *words: str) -> None:
    """What a command does before it builds anything."""
    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        whole = compose(entry, overrides=list(words), return_hydra_config=True)
        HydraConfig.instance().set_config(whole)
        try:
            config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
            check_overrides(config)
            check_bounds(config)
            OmegaConf.to_container(config, resolve=True)
        finally:
            HydraConfig.instance().cfg = None


def _loads(kind: str, given: Path) -> Iterator[Callable[[], object]]:
    if kind == "jax":
        sizes = {"image_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 1}
        yield lambda: ViTEncoder("vit_tiny_patch16_224", weights=str(given), **sizes)
        return
    with torch.no_grad():
        yield lambda: load_segmenter(given)(torch.zeros(1, 3, 9, 7, dtype=torch.uint8))
