"""What an exported graph computes, and what it says about itself."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from segmenter_pl.models import EncoderDecoder

OUTPUTS = ("logits", "probabilities", "labels")


class Portable(nn.Module):
    """Pictures (B, 3, H, W) uint8 RGB to `output`, at the size of the pictures; pixels are normalised inside.

    "logits" and "probabilities" are (B, K, H, W) float32, "labels" (B, H, W) uint8, int16 above 256 classes.

    Raises: ValueError for another `output`.
    """

    def __init__(self, model: EncoderDecoder, output: str = "logits") -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"--output {output}: choose {', '.join(OUTPUTS)}")
        self.model, self.output = model, output
        self.eval()
        self.label_dtype = torch.uint8 if model.num_classes <= 256 else torch.int16

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        logits = self.model(images)
        if self.output == "logits":
            return logits
        return logits.argmax(1).to(self.label_dtype) if self.output == "labels" else logits.softmax(1)


def description(model: EncoderDecoder, output: str) -> str:
    """JSON that goes with the graph: what the output is, the classes, and how the model wants to be used."""
    spec = model.spec
    said: dict[str, Any] = {
        "input": "uint8 RGB pictures (B, 3, H, W), 0…255",
        "output": output,
        "num_classes": model.num_classes,
        "patch_size": model.stride,
    }
    if spec is not None:
        names = ("classes", "palette", "ignore_index", "window", "stride", "short_side")
        said |= {name: getattr(spec, name) for name in names}
    return json.dumps(said)
