"""Work on ranges by several threads."""

import threading
import time

import pytest
import torch
from platewise.data.parallel import in_parallel, ranges


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_order(threads):
    assert in_parallel(lambda at: at[1] - at[0], ranges(10, 3)) == [3, 3, 3, 1]
    assert in_parallel(lambda at: at, []) == []


def test_after_an_error_nothing_runs_on(threads):
    done = []

    def work(at):
        if at[0] == 2:
            raise ValueError("two")
        time.sleep(0.01)
        done.append((at[0], threading.get_ident()))

    with pytest.raises(ValueError, match="two"):
        in_parallel(work, ranges(100, 1))
    at_the_raise = len(done)
    time.sleep(0.05)
    assert len(done) == at_the_raise < 10
