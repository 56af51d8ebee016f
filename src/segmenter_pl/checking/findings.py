"""What can be found in a dataset: kinds of problems and of notes, in the order in which they are told."""

from dataclasses import dataclass
from pathlib import Path

# Kind → what its files are.
PROBLEMS = {
    "split": "splits without anything to read",
    "no label": "pictures without a label",
    "no picture": "labels without a picture",
    "shared name": "files that share their name with another",
    "unreadable picture": "pictures that cannot be read, or not to their end",
    "unreadable label": "labels that cannot be read, or not to their end",
    "size": "labels of another size than their picture",
    "colour label": "labels with several numbers per pixel",
    "lossy label": "labels saved as JPEG, which alters their values",
    "unknown value": "labels with values that have no class",
    "nothing labelled": "pictures without a pixel that counts",
    "duplicate": "pictures that another split holds too",
}
NOTES = {
    "repeated": "pictures that their own split holds already",
    "odd picture": "JPEG files with a few bytes too many",
    "count": "splits that differ from the published ones",
    "same file": "splits that share files",
    "picture kind": "splits with pictures other than 8-bit RGB (they are read as that)",
    "colours": "colours of several classes",
    "never in train": "classes that no training label holds",
}


@dataclass(frozen=True)
class Finding:
    """One problem or note.

    Attributes:
        kind: of PROBLEMS or NOTES. split: where, or "" for all. file: which, or None. text: what is the matter.
    """

    kind: str
    split: str
    file: Path | None
    text: str

    @property
    def is_problem(self) -> bool:
        """Whether it has to be put right; a note may be as it should."""
        return self.kind in PROBLEMS

    def __str__(self) -> str:
        return ": ".join(filter(None, [str(self.file or self.split), self.text]))
