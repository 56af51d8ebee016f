"""A whole dataset, split by split: what is wrong with it, and what it holds."""

from collections.abc import Iterator, Sequence

from segmenter_pl.checking.comparison import compared
from segmenter_pl.checking.findings import Finding
from segmenter_pl.checking.pairs import Examined, Pair
from segmenter_pl.checking.reading import examined
from segmenter_pl.checking.tally import Tally
from segmenter_pl.data.pairing import Files, PairsDataModule


class Survey:
    """The examination of some splits of a dataset.

    Its constructor lists the files; `run` reads them and yields as it goes, so that a caller can show progress. When
    that has ended, `findings` and `tallies` are complete.
    """

    def __init__(self, datamodule: PairsDataModule, splits: Sequence[str]) -> None:
        self.datamodule, self.classes = datamodule, datamodule.classes
        self.findings: list[Finding] = []
        self.tallies: dict[str, Tally] = {}
        self.pairs: list[Pair] = []
        self.tables = {}
        for split in dict.fromkeys(splits):
            if (files := self._files(split)) is not None:
                self.tables[split] = files.table
                self._list(split, files)

    def run(self, workers: int | None = None) -> Iterator[Examined]:
        """Read all pairs with so many processes; None for one per core."""
        for one in examined(self.pairs, self.tables, len(self.classes), workers):
            self.tallies[one.pair.split].add(one)
            self.findings += one.findings
            yield one
        self.findings += compared(self.datamodule, self.tallies)

    @property
    def problems(self) -> list[Finding]:
        """What has to be put right."""
        return [one for one in self.findings if one.is_problem]

    @property
    def notes(self) -> list[Finding]:
        """What may be as it should."""
        return [one for one in self.findings if not one.is_problem]

    def _files(self, split: str) -> Files | None:
        try:
            return self.datamodule.files(split)
        except FileNotFoundError as error:  # a folder, or a list
            self.findings.append(Finding("split", split, None, str(error)))
            return None

    def _list(self, split: str, files: Files) -> None:
        labels = files.labels
        names = sorted(files.pictures.keys() | (labels or {}).keys())
        number = None if labels is None else len(labels)
        if not files.pictures:
            text = f"there are no pictures in {self.datamodule.root}; {self.datamodule.layout}"
            self.findings.append(Finding("split", split, None, text))
        self.tallies[split] = Tally(len(self.classes), len(files.pictures), number)
        listed = {path for path, _ in files.alone() if not path.exists()}  # by a list, which there is no file for
        for path, lack in files.alone():
            text = "a list names it, but there is no such file" if path in listed else f"there is no {lack} of its name"
            self.findings.append(Finding(f"no {lack}", split, path, text))
        for first, second in files.doubles():
            text = f"{first} has the same name: keep one, or rename one with its label"
            self.findings.append(Finding("shared name", split, second, text))
        for name in names:
            picture = files.pictures.get(name)
            self.pairs.append(Pair(split, None if picture in listed else picture, (labels or {}).get(name)))
