"""What a segmenter has learned of each class: a vector, its neighbours, its place in the plane (Segmenter, Figure 8).

Shapes: K classes, D width.
"""

from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from segmenter_pl.models import EncoderDecoder, MaskDecoder


class Method(StrEnum):
    """Of projecting to the plane."""

    svd = "svd"
    tsne = "tsne"
    umap = "umap"


PACKAGES = {Method.tsne: ("sklearn", "scikit-learn"), Method.umap: ("umap", "umap-learn")}
LEAST = 4  # classes for which neighbourhoods mean something


def class_embeddings(model: EncoderDecoder) -> Tensor:
    """One vector for each class (K, D) float32 on the CPU: the mask decoder's learned embedding, as it enters the first
    layer, or the row of weights of another decoder's classifier.
    """
    decoder = model.decoder
    vectors = decoder.cls_emb[0] if isinstance(decoder, MaskDecoder) else decoder.head.weight.flatten(1)
    return vectors.detach().float().cpu()


def similarities(embeddings: Tensor) -> Tensor:
    """Cosines (K, K) between vectors (K, D); 1 on the diagonal, also of a vector of zeros."""
    unit = F.normalize(embeddings.double(), dim=-1)
    return (unit @ unit.T).clamp(-1, 1).fill_diagonal_(1).float()


def nearest(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """For each class the `count` others with the highest cosine: numbers (K, count) and cosines (K, count)."""
    others = similarity.clone().fill_diagonal_(-torch.inf)
    cosines, numbers = others.topk(min(count, len(similarity) - 1), dim=1)
    return numbers, cosines


def project_svd(embeddings: Tensor, *, centred: bool = True) -> tuple[Tensor, Tensor]:
    """Coordinates (K, 2) along the first two singular directions, and their shares of the sum of squares (2,).

    Args: centred: subtract the mean of the classes first, so that the plane shows how they differ, and not also what
        they have in common; the squares are then variances.
    """
    vectors = embeddings.double()
    if centred:
        vectors = vectors - vectors.mean(0)
    left, values, _ = torch.linalg.svd(vectors, full_matrices=False)
    coordinates = F.pad(left * values, (0, max(0, 2 - len(values))))[:, :2]
    # A singular vector's sign is arbitrary: the coordinate that is largest is positive.
    largest = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True))
    coordinates = coordinates * torch.where(largest < 0, -1.0, 1.0)
    squares = F.pad(values**2, (0, max(0, 2 - len(values))))
    return coordinates.float(), (squares[:2] / squares.sum().clamp(min=1e-30)).float()


def require_method(method: Method, count: int | None = None) -> None:
    """Raises ValueError where the library that `method` needs is missing, or `count` classes are too few for it."""
    from importlib.util import find_spec

    if method in PACKAGES and find_spec(PACKAGES[method][0]) is None:
        raise ValueError(
            f"--method {method} needs {PACKAGES[method][1]}, which is not installed: pip install "
            '"segmenter-pl[projections]", or give --method svd'
        )
    if count is not None and method is not Method.svd and count < LEAST:
        raise ValueError(f"--method {method} needs {LEAST} classes or more, and there are {count}: give --method svd")


def project_neighbours(embeddings: Tensor, method: Method, seed: int = 0) -> Tensor:
    """Coordinates (K, 2) by t-SNE or UMAP, of cosine distances: near classes stay near, far ones mean nothing.

    Raises: ValueError as `require_method`.
    """
    count = len(embeddings)
    require_method(method, count)
    vectors = embeddings.numpy()
    if method is Method.tsne:
        from sklearn.manifold import TSNE

        # The perplexity must be below the number of points; init=random, since PCA knows no cosines.
        reducer = TSNE(perplexity=min(30.0, (count - 1) / 3), metric="cosine", init="random", random_state=seed)
    else:
        from umap import UMAP

        reducer = UMAP(n_neighbors=min(15, count - 1), metric="cosine", init="random", random_state=seed, n_jobs=1)
    return torch.as_tensor(reducer.fit_transform(vectors)).float()
