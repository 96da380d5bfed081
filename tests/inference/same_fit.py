"""Whether two fits by stochastic steps are one: to the bit, and in what they would go on with."""

import torch
from platewise.inference import Fitted

DIFFERENT = {"progress", "rng", "sums"}  # parts of the state that tell of how a fit was interrupted


def assert_same_fit(one: Fitted, two: Fitted) -> None:
    """Check that parameters, history, how it stopped and the state are equal, but for times and interruptions."""
    for part in ("model", "guide"):
        ours, theirs = getattr(one, part).state_dict(), getattr(two, part).state_dict()
        assert all(torch.equal(x, theirs[name]) for name, x in ours.items())
    same = ["epoch", "step", "elbo", "learning_rate", "skipped"]
    assert one.history[same].to_dict() == two.history[same].to_dict()
    assert (one.stopped, one.converged, set(one.state)) == (two.stopped, two.converged, set(two.state))
    exact = {"rtol": 0, "atol": 0, "equal_nan": True, "check_dtype": False}  # a module's fixture has another default
    for name in set(one.state) - DIFFERENT:
        torch.testing.assert_close(one.state[name], two.state[name], **exact)
