import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from timm.layers import resample_patch_embed

from segmenter_pl.models import ViTEncoder

NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
TINY = {"image_size": 48, "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn_like(value) for name, value in ViTEncoder(NAME, **TINY).vit.state_dict().items()}


def assert_loaded(encoder: ViTEncoder, state: dict[str, torch.Tensor]) -> None:
    for name, value in encoder.vit.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("size", [224, 384])
def test_safetensors_and_npz_of_the_same_weights_give_the_same_tokens(assets: Path, size: int) -> None:
    encoders = [
        ViTEncoder(NAME, image_size=size, weights=str(assets / "data" / "weights" / f"{NAME}{suffix}")).eval()
        for suffix in (".safetensors", ".npz")
    ]
    images = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        first, second = (encoder(images) for encoder in encoders)
    assert first.shape == (1, (size // 16) ** 2, 192)
    torch.testing.assert_close(first, second, atol=2e-3, rtol=0)


def test_real_weights_at_another_size_have_a_bilinear_position_table(assets: Path) -> None:
    file = assets / "data" / "weights" / f"{NAME}.safetensors"
    table = load_file(file)["pos_embed"].float()
    grid = table[:, 1:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(24, 24), mode="bilinear", align_corners=False)
    expected = torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(ViTEncoder(NAME, image_size=384, weights=str(file)).vit.pos_embed, expected)


@pytest.mark.parametrize(
    ("container", "prefix"),
    [
        (None, ""),
        ("state_dict", "module."),
        ("model", "encoder."),
        ("teacher", "backbone."),
        ("state_dict", "model.encoder.vit."),
    ],
)
def test_containers_and_prefixes(state: dict, tmp_path: Path, container: str | None, prefix: str) -> None:
    content = {prefix + name: value for name, value in state.items()}
    content[prefix + "head.weight"] = torch.zeros(1000, 32)  # the ImageNet classifier
    if prefix:
        content["decoder.head.weight"] = torch.zeros(3, 32)
    torch.save({container: content, "epoch": 3} if container else content, tmp_path / "file.pth")
    assert_loaded(ViTEncoder(NAME, weights=str(tmp_path / "file.pth"), **TINY), state)


def test_names_of_other_releases_are_translated_by_timm(state: dict, tmp_path: Path) -> None:
    save_file({**state, "mask_token": torch.zeros(1, 32)}, tmp_path / "dinov2.safetensors")  # as DINOv2 has it
    assert_loaded(ViTEncoder(NAME, weights=str(tmp_path / "dinov2.safetensors"), **TINY), state)


def test_patch_embedding_is_resampled_with_a_note(
    state: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(state, tmp_path / "p16.safetensors")
    with caplog.at_level(logging.INFO, logger="segmenter_pl"):
        encoder = ViTEncoder(NAME, patch_size=8, weights=str(tmp_path / "p16.safetensors"), **TINY)
    expected = resample_patch_embed(state["patch_embed.proj.weight"], [8, 8])
    torch.testing.assert_close(encoder.vit.patch_embed.proj.weight, expected)
    assert "patch embedding resampled from 16 to 8" in caplog.text
    assert "position table resized from 3x3 to 6x6" in caplog.text


def test_names_and_shapes_that_do_not_fit_are_listed(state: dict, tmp_path: Path) -> None:
    state["blocks.7.norm1.weight"] = state.pop("blocks.0.norm1.weight")
    state["norm.bias"] = torch.zeros(48)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"backbone\.weights=.*odd\.safetensors") as error:
        ViTEncoder(NAME, weights=str(tmp_path / "odd.safetensors"), **TINY)
    text = str(error.value)
    assert "missing: blocks.0.norm1.weight" in text
    assert "unexpected: blocks.7.norm1.weight" in text
    assert "wrong shape: norm.bias (48,), the model has (32,)" in text


def test_weights_of_another_width_are_refused(assets: Path) -> None:
    file = assets / "data" / "weights" / f"{NAME}.npz"
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.qkv\.weight \(576, 192\), the model has \(96, 32\)"):
        ViTEncoder(NAME, weights=str(file), **TINY)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".npz"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"damaged{suffix}"
    file.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(ValueError, match=r"backbone\.weights=.*damaged.* cannot be read"):
        ViTEncoder(NAME, weights=str(file), **TINY)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "object.npz", cls=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="cannot be read"):
        ViTEncoder(NAME, weights=str(tmp_path / "object.npz"), **TINY)
    torch.save({"model": print}, tmp_path / "object.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        ViTEncoder(NAME, weights=str(tmp_path / "object.pth"), **TINY)


def test_a_missing_file_and_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"backbone\.weights=.*nowhere\.pth"):
        ViTEncoder(NAME, weights=str(tmp_path / "nowhere.pth"), **TINY)
    (tmp_path / "file.txt").touch()
    with pytest.raises(ValueError, match=r"cannot be read as a checkpoint .*it is empty"):
        ViTEncoder(NAME, weights=str(tmp_path / "file.txt"), **TINY)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict) -> Iterator[list[str]]:
    """A hub on this machine that serves one file; yields the list of requests it has seen."""
    save_file(state, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.send_response(200)
            for name, value in {"ETag": '"1"', "X-Repo-Commit": "0" * 40, "Content-Length": len(content)}.items():
                self.send_header(name, str(value))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
        yield requests
        server.shutdown()


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_pretrained_downloads_once_and_then_reads_the_cache(hub: list[str], state: dict) -> None:
    assert_loaded(ViTEncoder(NAME, pretrained=True, **TINY), state)
    assert f"GET /timm/{NAME}/resolve/main/model.safetensors" in hub
    hub.clear()
    assert_loaded(ViTEncoder(NAME, pretrained=True, **TINY), state)
    assert hub == []


def test_weights_win_over_pretrained(hub: list[str], state: dict, tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in state.items()}
    save_file(other, tmp_path / "other.safetensors")
    assert_loaded(ViTEncoder(NAME, pretrained=True, weights=str(tmp_path / "other.safetensors"), **TINY), other)
    assert hub == []


def test_without_a_network_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")  # nobody listens at the discard port
    with pytest.raises(FileNotFoundError) as error:
        ViTEncoder(NAME, pretrained=True, **TINY)
    for words in ("backbone.weights=PATH", "backbone.pretrained=false", str(tmp_path / "cache")):
        assert words in str(error.value)


def test_a_model_without_published_weights_says_so() -> None:
    with pytest.raises(ValueError, match=r"backbone\.pretrained=true: timm has no weights for vit_small_patch16_36x1"):
        ViTEncoder("vit_small_patch16_36x1_224", pretrained=True, image_size=32, depth=1)
