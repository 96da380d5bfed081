"""Embeddings of cells judged by labels that no method was given.

References:
    Hubert and Arabie (1985), Comparing partitions (adjusted Rand index).
    Rousseeuw (1987), Silhouettes.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 15
SILHOUETTE_CELLS = 5_000  # at the most: its time grows with their square


def judge(embedding: np.ndarray, labels: np.ndarray, batch: np.ndarray | None, seed: int) -> dict[str, float]:
    """All figures of an embedding (n_cells, d): `ari`, `nmi`, `neighbours` and, of batches, `silhouette`."""
    codes = np.unique(labels, return_inverse=True)[1]
    figures = agreement(embedding, codes, seed) | {"neighbours": neighbour_accuracy(embedding, codes)}
    if batch is not None:
        figures["silhouette"] = batch_silhouette(embedding, batch, seed)
    return figures


def agreement(embedding: np.ndarray, codes: np.ndarray, seed: int) -> dict[str, float]:
    """Adjusted Rand index and normalised mutual information of k-means, k the true number, and the labels."""
    found = KMeans(len(np.unique(codes)), n_init=10, random_state=seed).fit_predict(embedding)
    return {
        "ari": float(adjusted_rand_score(codes, found)),
        "nmi": float(normalized_mutual_info_score(codes, found)),
    }


def neighbour_accuracy(embedding: np.ndarray, codes: np.ndarray, n_neighbours: int = NEIGHBOURS) -> float:
    """Share of cells whose label most of their nearest neighbours have, themselves left out; a tie goes to the first.

    Args:
        embedding: (n_cells, d).
        codes: (n_cells,) label of each cell as a number from 0.
        n_neighbours: How many neighbours vote, fewer than cells.
    """
    neighbours = NearestNeighbors(n_neighbors=n_neighbours).fit(embedding).kneighbors(return_distance=False)
    votes = np.stack([(codes[neighbours] == code).sum(1) for code in range(codes.max() + 1)], axis=1)
    return float((votes.argmax(1) == codes).mean())


def batch_silhouette(embedding: np.ndarray, batch: np.ndarray, seed: int = 0) -> float:
    """Mean silhouette of cells by batch: near 0 where batches are mixed, 1 where they are apart."""
    sample = SILHOUETTE_CELLS if len(batch) > SILHOUETTE_CELLS else None
    return float(silhouette_score(embedding, batch, sample_size=sample, random_state=seed))
