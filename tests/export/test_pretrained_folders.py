"""Folders for other people: on this disk, in the card's words, and on a hub that runs here."""

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from segmenter_pl import from_pretrained, load_segmenter, push_to_hub, save_pretrained
from segmenter_pl.cli import app
from segmenter_pl.models import Segmenter
from segmenter_pl.train import train
from tests.foreign import Shape, write_mmseg, write_official
from tests.test_train import tiny_run

NAMES = {"dataset_meta": {"classes": list("abcde"), "palette": [[k, k, k] for k in range(5)]}}


@pytest.fixture
def model(tmp_path: Path) -> Segmenter:
    return load_segmenter(write_mmseg(tmp_path / "m.pth", Shape(), meta=NAMES))


def assert_same(found: Segmenter, expected: Segmenter) -> None:
    assert found.spec == expected.spec
    picture = torch.randint(0, 256, (1, 3, 31, 45), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(found(picture), expected(picture))


def test_a_folder_gives_the_model_back(model: Segmenter, tmp_path: Path) -> None:
    files = save_pretrained(model, tmp_path / "export")
    assert [path.name for path in files] == ["model.safetensors", "config.json", "README.md"]
    assert sorted(tmp_path.joinpath("export").iterdir()) == sorted(files)
    assert_same(from_pretrained(tmp_path / "export"), model)
    assert_same(load_segmenter(tmp_path / "export"), model)
    save_pretrained(model, tmp_path / "export")  # again, over itself
    (tmp_path / "export/other").touch()
    with pytest.raises(FileExistsError, match="export holds other things"):
        save_pretrained(model, tmp_path / "export")
    bare = load_segmenter(tmp_path / "m.pth")
    bare.config = None
    with pytest.raises(ValueError, match="does not know its settings"):
        save_pretrained(bare, tmp_path / "bare")


def test_a_model_that_was_changed_is_saved_as_it_is(model: Segmenter, tmp_path: Path) -> None:
    with torch.no_grad():
        model.decoder.cls_emb.add_(1)
    save_pretrained(model, tmp_path / "export")
    assert_same(load_segmenter(tmp_path / "export"), model)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_file_says_so(model: Segmenter, tmp_path: Path, missing: str) -> None:
    save_pretrained(model, tmp_path / "export")
    (tmp_path / "export" / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"without {'config.json and model.safetensors'}"):
        load_segmenter(tmp_path / "export")
    with pytest.raises(FileNotFoundError, match="is no export"):
        push_to_hub(tmp_path / "export", "somebody/model")


def test_weights_and_settings_of_two_models_do_not_mix(model: Segmenter, tmp_path: Path) -> None:
    save_pretrained(model, tmp_path / "export")
    state = load_file(tmp_path / "export/model.safetensors")
    save_file({**state, "decoder.cls_emb": torch.zeros(1, 6, 64)}, tmp_path / "export/model.safetensors")
    with pytest.raises(ValueError, match=r"(?s)export: .*decoder\.cls_emb \(1, 6, 64\), the model has \(1, 5, 64\)"):
        load_segmenter(tmp_path / "export")


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text


def test_card_of_a_model_without_results(model: Segmenter, tmp_path: Path) -> None:
    save_pretrained(model, tmp_path / "export")
    head, text = card_of(tmp_path / "export")
    assert head == {"library_name": "segmenter-pl", "pipeline_tag": "image-segmentation", "tags": ["segmenter"]}
    assert "| encoder | ViT, 2 blocks of width 64, patches of 8 pixels |" in text
    assert "Results" not in text
    assert "from_pretrained" in text


def segmenter(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_a_training_is_exported_with_its_results(tmp_path: Path) -> None:
    train(tiny_run(tmp_path / "run"))
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    code, said, told = segmenter("export", checkpoint, tmp_path / "export", "--format", "safetensors")
    assert (code, told) == (0, "")
    assert "Written, read back and equal" in said
    assert_same(from_pretrained(tmp_path / "export"), load_segmenter(checkpoint))
    results = json.loads((tmp_path / "run/results.json").read_text())["val"]
    head, text = card_of(tmp_path / "export")
    (entry,) = head["model-index"][0]["results"]
    assert entry["dataset"] == {"type": "shapes", "name": "shapes"}
    assert entry["metrics"] == [{"type": "mean_iou", "name": "mIoU", "value": round(results["miou"], 4)}]
    assert f"| mIoU | {results['miou']:.4f} |" in text
    for name, iou in results["classes"].items():
        assert (f"| IoU of {name} | {iou:.4f} |" in text) == (iou is not None)
    stored = json.loads((tmp_path / "export/config.json").read_text())
    assert stored["config"]["dataset"]["name"] == "shapes"
    assert stored["classes"] == list(results["classes"])
    (tmp_path / "other.json").write_text(json.dumps({"val": {"miou": 0.125}}))
    code, _, _ = segmenter(
        "export", checkpoint, tmp_path / "two", "--format", "safetensors", "--results", tmp_path / "other.json"
    )
    assert code == 0
    assert "| mIoU | 0.1250 |" in card_of(tmp_path / "two")[1]


def test_results_are_of_the_weights_that_are_exported(tmp_path: Path) -> None:
    """results.json has those of the last weights under val; best.ckpt has others."""
    train(tiny_run(tmp_path / "run"))
    results = json.loads((tmp_path / "run/results.json").read_text())
    segmenter("export", tmp_path / "run/checkpoints/best.ckpt", tmp_path / "export", "--format", "safetensors")
    head, text = card_of(tmp_path / "export")
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == round(results["best"]["miou"], 4)
    assert f"| pixel accuracy | {results['best']['pixel_accuracy']:.4f} |" in text


@dataclass
class Hub:
    """What a hub has, and was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    address: str = ""


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None: ...

        def answer(self, content: Any, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_POST(self) -> None:
            hub.requests.append(f"POST {self.path}")
            hub.tokens.add(self.headers.get("Authorization"))
            if "Content-Length" in self.headers:
                body = self.rfile.read(int(self.headers["Content-Length"]))
            else:
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            if self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self.answer({"url": f"{hub.address}/somebody/model"})
            elif self.path.endswith("/preupload/main"):
                paths = [entry["path"] for entry in json.loads(body)["files"]]
                self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
            elif self.path.endswith("/commit/main"):
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                url = f"{hub.address}/somebody/model/commit/{'1' * 40}"
                self.answer({"commitUrl": url, "commitOid": "1" * 40, "success": True})
            else:
                self.answer({})

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            name = self.path.rpartition("/")[2]
            if self.path.startswith("/api/models/somebody/model/tree/"):
                entries = {name: len(content) for name, content in hub.files.items()}
                self.answer([{"type": "file", "path": n, "size": size, "oid": "2" * 40} for n, size in entries.items()])
            elif self.path.startswith("/api/models/somebody/model"):
                siblings = [{"rfilename": name} for name in hub.files]
                self.answer({"id": "somebody/model", "sha": "1" * 40, "siblings": siblings})
            elif "/somebody/model/resolve/" in self.path and name in hub.files:
                tag = f'"{name}{len(hub.files[name])}"'
                self.answer(hub.files[name], ETag=tag, X_Repo_Commit="1" * 40)
            else:
                self.send_error(404)

        do_HEAD = do_GET

    return Handler


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(found)) as server:
        found.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use(monkeypatch, found.address, tmp_path)
        yield found
        server.shutdown()


def use(monkeypatch: pytest.MonkeyPatch, address: str, folder: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_uploaded_and_fetched_again(model: Segmenter, tmp_path: Path, hub: Hub) -> None:
    save_pretrained(model, tmp_path / "export")
    address = push_to_hub(tmp_path / "export", "somebody/model", private=True, token="hf_secret")
    assert address == f"{hub.address}/somebody/model"
    assert hub.created[0]["name"] == "model"
    assert hub.created[0]["organization"] == "somebody"
    assert hub.created[0].get("private", hub.created[0].get("visibility")) in (True, "private")
    assert hub.tokens == {"Bearer hf_secret"}
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "export").iterdir()}
    hub.files |= {"model.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x02.", "sub/config.json": b"{}"}
    assert_same(from_pretrained("somebody/model"), model)
    fetched = [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert {request.rpartition("/")[2] for request in fetched} == {"config.json", "model.safetensors"}


def test_the_command_uploads(tmp_path: Path, hub: Hub) -> None:
    folder = write_official(tmp_path / "official", Shape())
    words = ("export", folder, tmp_path / "export", "--format", "safetensors", "--push", "somebody/model")
    code, said, told = segmenter(*words)
    assert (code, told) == (0, "")
    assert f"Uploaded: {hub.address}/somebody/model" in said
    assert_same(from_pretrained("somebody/model"), load_segmenter(folder))


def test_without_a_network_one_sentence_says_what_to_do(
    model: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "http://127.0.0.1:9", tmp_path)  # nobody listens at the discard port
    with pytest.raises(FileNotFoundError, match="somebody/nothing is no folder, and cannot be fetched"):
        from_pretrained("somebody/nothing")
    save_pretrained(model, tmp_path / "m")
    words = ("export", tmp_path / "m", tmp_path / "export", "--format", "safetensors", "--push", "somebody/model")
    code, _, told = segmenter(*words)
    assert code == 1
    assert told.startswith("Error: ")
    assert "somebody/model" in told
    assert len(told.splitlines()) == 2
