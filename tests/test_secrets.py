"""Passwords and keys of the environment stay there: no setting, file, log or checkpoint has them."""

import sys
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from segmenter_pl.faults import check_overrides, explained
from tests.test_commands import SHORT, TINY, run

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_thisIsNobodysBusiness",
    "CITYSCAPES_USERNAME": "somebodyWithAnAccount",
    "CITYSCAPES_PASSWORD": "correctHorseBatteryStaple",
}


@hydra.main(version_base="1.3", config_path="pkg://segmenter_pl.conf", config_name="train")
def checked(config: DictConfig) -> None:
    check_overrides(config)


def test_no_file_of_a_run_holds_a_secret_of_the_environment(tmp_path: Path) -> None:
    environment = {"WANDB_SILENT": "true", "HOME": str(tmp_path / "home"), **SECRETS}
    steps = (
        "trainer.max_steps=2",
        "dataset.val_every=2",
        "logger=wandb",
        "logger.offline=true",
        "logger.artifacts=best",
    )
    done = run("train.py", *TINY, *SHORT, *steps, runs=tmp_path / "runs", environment=environment)
    assert done.returncode == 0, done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name.rpartition(".")[2] for path in files}
    assert {"ckpt", "wandb", "yaml", "json", "csv", "log"} <= names
    told = [*(path.read_bytes() for path in files), (done.stdout + done.stderr).encode()]
    for secret in SECRETS.values():
        assert not [content for content in told if secret.encode() in content]


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("+logger.wandb.settings.api_key=abc", "logger.wandb.settings.api_key=…"),
        ("+token=abc", "token=…"),
        ("+backbone.hub_token=abc", "backbone.hub_token=…"),
        ("+dataset.password=abc", "dataset.password=…"),
        ("tag=${oc.env:HF_TOKEN}", "tag=${oc.env:HF_TOKEN}"),
        ("name=hf_thisIsNobodysBusiness", "name=${oc.env:HF_TOKEN}"),
        ("+notes=[1,{a: hf_thisIsNobodysBusiness}]", "notes.1.a=${oc.env:HF_TOKEN}"),
    ],
)
def test_secrets_are_no_settings(
    word: str, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SEGMENTER_RUNS", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", SECRETS["HF_TOKEN"])
    monkeypatch.setattr(sys, "argv", ["train.py", "logger=wandb", word])
    with pytest.raises(SystemExit), explained():
        checked()
    said = capsys.readouterr().err
    assert said.startswith(f"Error: {key} is a password or a key")
    assert "abc" not in said
    assert SECRETS["HF_TOKEN"] not in said


def test_short_values_of_the_environment_are_met_by_chance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGMENTER_RUNS", str(tmp_path))
    monkeypatch.setenv("ANY_KEY", "shapes")
    monkeypatch.setattr(sys, "argv", ["train.py", "backbone.token_merging.keep=0.7", "+backbone.class_token=true"])
    checked()
