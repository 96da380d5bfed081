"""What tests of algorithms share."""

import os
import signal
from collections.abc import Iterator

import pytest
from platewise.inference import svi


@pytest.fixture
def ctrl_c() -> Iterator:
    """Press Ctrl-C during a step of svi; the fit must catch it."""
    with pytest.MonkeyPatch.context() as patch:

        def at(wanted: int) -> None:
            step = svi.step

            def pressed(state: svi.State, batch: object) -> None:
                if state.step + 1 == wanted:
                    patch.undo()
                    os.kill(os.getpid(), signal.SIGINT)
                step(state, batch)

            patch.setattr(svi, "step", pressed)

        yield at
