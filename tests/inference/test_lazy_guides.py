"""A guide that makes its parameters on its first call is saved and loaded like any other."""

import torch
from platewise.inference import Fitted, svi
from pyro.infer.autoguide import AutoNormal

from ..regression_model import Regression, regression_data


def modules() -> tuple[Regression, AutoNormal]:
    model = Regression()
    return model, AutoNormal(model, create_plates=lambda batch: batch.row_plate("groups"))


def test_it_loads(tmp_path):
    adata, covariates = regression_data()
    model, guide = modules()
    fitted = svi.fit(model, guide, adata, covariates=covariates, epochs=2, progress=False)
    fitted.save(tmp_path / "run")
    model, guide = modules()
    loaded = Fitted.load(tmp_path / "run", model=model, guide=guide)
    assert fitted.guide.state_dict()
    for name, x in fitted.guide.state_dict().items():
        assert torch.equal(loaded.guide.state_dict()[name], x), name
