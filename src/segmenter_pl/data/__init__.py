"""Datasets, augmentation and sampling. Only `datamodule` knows Lightning, only `transforms` knows albumentations."""
