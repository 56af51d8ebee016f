"""The packaged experiments as resolved settings."""

from functools import cache
from typing import Any


@cache
def recipe_settings(name: str) -> dict[str, Any]:
    """The configuration of `experiment=NAME`, as a run of it writes it.

    Raises: what Hydra raises for an unknown name.
    """
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from segmenter_pl import searchpath

    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        config = compose("train", overrides=[f"experiment={name}"])
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    settings = OmegaConf.to_container(own, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}
