"""Segmenters from the packaged configuration files or from plain dictionaries, without Hydra."""

import reprlib
from collections.abc import Mapping
from typing import Any

from segmenter_pl import models as m
from segmenter_pl.choices import read_choice

ENCODERS = {f"segmenter_pl.models.{one.__name__}": one for one in (m.ViTEncoder, m.PyramidEncoder)}
DECODERS = {
    f"segmenter_pl.models.{one.__name__}": one
    for one in (
        *(m.LinearDecoder, m.MaskDecoder, m.SETRNaive, m.SETRPUP, m.SETRMLA),
        *(m.DeepLabV3PlusDecoder, m.UPerNetDecoder),
    )
}


def create_segmenter(
    backbone: str = "vit_t16",
    decoder: str = "mask",
    *,
    num_classes: int,
    image_size: int = 512,
    pretrained: bool = False,
    weights: str | None = None,
) -> m.EncoderDecoder:
    """Build a segmenter from the names of the configuration files in ``conf/backbone`` and ``conf/decoder``.

    Args:
        backbone, decoder: such as "vit_b16", "mask". num_classes: K.
        image_size: side in pixels of the pictures it is trained on; any other size works too.
        pretrained: fetch the encoder's weights from the Hugging Face hub. weights: or load them from this file.

    Raises:
        ValueError: there is no such backbone or decoder (the message lists them), or the weights do not fit.
        FileNotFoundError: the weights cannot be found.
    """
    encoder = read_choice("backbone", backbone)
    encoder |= {"image_size": image_size, "pretrained": pretrained, "weights": weights}
    return _build(encoder, read_choice("decoder", decoder), num_classes)


def segmenter_from_config(config: Mapping[str, Any], num_classes: int) -> m.EncoderDecoder:
    """Build a segmenter with random weights from ``{"backbone": {…}, "decoder": {…}}``, as stored in a checkpoint.

    Nothing that the configuration names is imported: only the classes of this package that stand in a fixed table are
    built, and no weights are read.

    Raises:
        ValueError: ``_target_`` names anything else.
    """
    encoder = {**config["backbone"], "pretrained": False, "weights": None}
    return _build(encoder, config["decoder"], num_classes)


def _build(backbone: Mapping[str, Any], decoder: Mapping[str, Any], num_classes: int) -> m.EncoderDecoder:
    make_encoder, encoder_settings = _split(backbone, ENCODERS, "backbone")
    make_decoder, decoder_settings = _split(decoder, DECODERS, "decoder")
    encoder = make_encoder(**encoder_settings)
    make_model = m.Segmenter if isinstance(encoder, m.ViTEncoder) else m.EncoderDecoder
    model = make_model(encoder, make_decoder(encoder.width, num_classes, **decoder_settings))
    model.config = {"backbone": {**backbone, "pretrained": False, "weights": None}, "decoder": dict(decoder)}
    return model


def _split(config: Mapping[str, Any], allowed: Mapping[str, Any], part: str) -> tuple[Any, dict[str, Any]]:
    settings = dict(config)
    target = settings.pop("_target_", None)
    if not isinstance(target, str) or target not in allowed:
        raise ValueError(f"{part}._target_={reprlib.repr(target)} is not one of {', '.join(allowed)}")
    return allowed[target], settings
