"""ADE20K: the archive of the 2016 challenge; its test pictures are one of their own."""

from pathlib import Path

from segmenter_pl.data.ade20k import ADE20KDataModule
from segmenter_pl.data.pairing import by_name
from segmenter_pl.prepare.recipe import Archive, Counts, Recipe, pairs

SITE = "http://data.csail.mit.edu/places/ADEchallenge"
TERMS = """\
ADE20K is for non-commercial research and education; its owners do not hold the rights in the pictures.
Who uses it cites Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017."""
BY_HAND = "By hand: http://sceneparsing.csail.mit.edu has the archives; give them with --source FOLDER"


def recipe() -> Recipe:
    """Training and validation pictures with labels."""
    archive = Archive(
        "ADEChallengeData2016.zip",
        f"{SITE}/ADEChallengeData2016.zip",
        "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
    )
    return Recipe(
        key="ade20k",
        terms=TERMS,
        by_hand=BY_HAND,
        archives=(archive,),
        brings=("ADEChallengeData2016", "images", "annotations"),
        count=pairs(ADE20KDataModule, ("train", "val")),
        sizes=ADE20KDataModule.sizes,
    )


def release_test() -> Recipe:
    """The pictures of the test server, which has the labels."""
    archive = Archive("release_test.zip", f"{SITE}/release_test.zip", "sha1:e05747892219d10e9243933371a497e905a4860c")
    return Recipe(
        key="ade20k_test",
        terms="The same terms apply to ADE20K's test pictures.",
        by_hand=BY_HAND,
        archives=(archive,),
        brings=("release_test",),
        count=_count,
    )


def _count(root: Path) -> Counts:
    folder = root / "release_test" / "testing"
    if pictures := by_name(folder, (".jpg",)):
        return {"test": len(pictures)}
    raise FileNotFoundError(f"{folder} holds no pictures (*.jpg)")
