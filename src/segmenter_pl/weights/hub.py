"""Pretrained weights from the Hugging Face hub."""

from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

PROBE_SECONDS = 4.0


def hub_weights(model_name: str, repository: str | None, filename: str | None) -> Path:
    """Path of a model's weights in the Hugging Face cache, downloaded if they are not there yet.

    One short probe comes before the download, because the hub's client retries for most of a minute without a network.

    Raises:
        ValueError: timm knows no weights on the hub for this model.
        FileNotFoundError: they are not in the cache and the hub is out of reach.
    """
    if not repository:
        raise ValueError(f"backbone.pretrained=true: timm has no weights for {model_name}; use backbone.weights=PATH")
    filename = filename or "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return Path(cached)
    try:
        url = huggingface_hub.hf_hub_url(repository, filename)
        huggingface_hub.get_hf_file_metadata(url, timeout=PROBE_SECONDS)
        return Path(huggingface_hub.hf_hub_download(repository, filename))
    except Exception as error:  # connection, proxy, offline mode, missing file: the way out is the same
        raise FileNotFoundError(
            f"backbone.pretrained=true: {filename} of {repository} is not in the cache {constants.HF_HUB_CACHE} and "
            f"cannot be fetched ({type(error).__name__}). Give a file with backbone.weights=PATH, start from random "
            "weights with backbone.pretrained=false, or fill the cache on a machine with a network."
        ) from error
