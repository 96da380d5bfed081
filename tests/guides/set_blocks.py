"""Give a normal guide the blocks that a test wants it to have."""

import torch
from platewise.guides import MeanFieldNormal, NormalGuide
from platewise.guides.normal import INITIAL_SCALE
from torch import Tensor


def set_block(guide: NormalGuide, site: str, mean: Tensor, scale_tril: Tensor) -> None:
    """Set q(site) to normals of these means (n, d) and Cholesky factors (n, d, d); mean field takes the diagonals."""
    table = guide.tables[site]
    scale = scale_tril.diagonal(dim1=-2, dim2=-1)
    parts = [(mean - table.loc) / table.unit, (scale / (INITIAL_SCALE * table.unit)).log()]
    if not isinstance(guide, MeanFieldNormal) and table.event_shape:
        d = mean.shape[-1]
        row, col = torch.tril_indices(d, d, -1)
        parts.append((scale_tril / scale[..., None])[..., row, col])
    table.weight.data.copy_(torch.cat(parts, -1).reshape(table.weight.shape))


def set_to_prior(guide: NormalGuide) -> None:
    """Make every block that of the prior."""
    for table in guide.tables.values():
        d = table.loc.shape[-1]
        scale = torch.diag_embed(table.unit.expand(table.n, d) if table.plate == "rows" else table.unit)
        set_block(guide, table.name, table.loc.expand(scale.shape[:-1]), scale)


def perturb(guide: NormalGuide, size: float = 0.3) -> None:
    """Move every parameter a little, at random."""
    for parameter in guide.parameters():
        parameter.data += size * torch.randn_like(parameter)
