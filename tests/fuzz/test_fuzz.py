"""Wrong pictures, labels, class files, checkpoints and settings: a sentence of ours, or a result; nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from segmenter_pl.pictures import LIMIT
from tests.fuzz import originals
from tests.fuzz.judging import Watch, verdict
from tests.fuzz.targets import KINDS, Bench, Case, compose_and_check

CORPUS = Path(__file__).parent / "corpus"  # what was found: KIND-NAME, the kind of reader and the file's name
FEW = {"picture": 120, "label": 120, "predictor": 80, "classes": 80, "checkpoint": 60, "settings": 20}
MANY = {"picture": 3000, "label": 2500, "predictor": 1500, "classes": 1000, "checkpoint": 1000, "settings": 1000}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        patch.setenv(LIMIT, "0.1")
        yield Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def watch(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.chdir(tmp_path)
    return Watch(bench.folder.parent)


def findings(bench: Bench, watch: Watch, cases: Iterator[tuple[str, Case]]) -> dict[str, list[str]]:
    found = {}
    for name, case in cases:
        with watch:
            wrong = bench.findings(case)
        if wrong or watch.seen:
            found[name] = [*wrong, *watch.seen]
            watch.seen.clear()
    return found


def seeded(bench: Bench, kind: str, seeds: range) -> Iterator[tuple[str, Case]]:
    return ((f"{kind} {seed}", bench.case(kind, seed)) for seed in seeds)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_input_gives_a_sentence_or_a_result(kind: str, bench: Bench, watch: Watch) -> None:
    bench.ends.clear()
    assert not findings(bench, watch, seeded(bench, kind, range(FEW[kind])))
    assert min(bench.ends["result"], bench.ends["sentence"]) > 0.1 * FEW[kind]  # neither all harmless nor all hopeless


def test_the_settings_are_right_before_they_are_made_wrong() -> None:
    for words in originals.SETTINGS:
        compose_and_check(*words)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_wrong_inputs(kind: str, bench: Bench, watch: Watch) -> None:
    assert sum(MANY.values()) == 10_000
    assert not findings(bench, watch, seeded(bench, kind, range(1000, 1000 + MANY[kind])))


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_was_found_once(path: Path, bench: Bench, watch: Watch) -> None:
    kind, _, name = path.name.partition("-")
    case = Case(kind, name, path.read_bytes())
    assert not findings(bench, watch, iter([(path.name, case)]))


def test_the_judge_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> None:
        while True:
            pass

    monkeypatch.setattr("tests.fuzz.judging.SECONDS", 0.1)
    assert "does not end" in verdict(endless)
    assert "ZeroDivisionError" in verdict(lambda: 1 / 0)
    assert "ValueError" in verdict(lambda: int("x"))  # not one of ours
    assert not verdict(lambda: None)
    (tmp_path / "in").mkdir()
    watch = Watch(tmp_path / "in")
    with watch:
        (tmp_path / "in/file").write_text("allowed")
        (tmp_path / "file").write_text("outside")
        (tmp_path / "in/file").rename(tmp_path / "elsewhere")
    (tmp_path / "later").write_text("not watched")
    assert [Path(one.split("'")[1]).name for one in watch.seen] == ["file", "elsewhere"]
