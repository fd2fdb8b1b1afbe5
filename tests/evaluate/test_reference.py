"""Published numbers as data: read right, found by our names."""

import collections

import pytest

from condense.data import sources
from condense.data.noise_spec import parse_noise
from condense.evaluate import reference
from condense.evaluate.reference import find, published


@pytest.mark.parametrize(("ipc", "value"), [(10, 70.2), (50, 80.7)])
def test_dmis_on_fashion_mnist(ipc: int, value: float) -> None:
    found = find("fashion-mnist", "sym:0.4", "dmis", ipc=ipc)
    assert found is not None and round(found.mean, 1) == value
    assert (found.paper, found.table, found.network) == ("arXiv 2510.03016", "3", "resnet34")
    assert find("fashion-mnist", "sym:0.4", "dmis", ipc=ipc, network="resnet34") == found
    assert find("fashion-mnist", "sym:0.4", "dmis", ipc=ipc, network="convnet3") is None


def test_every_table_is_there_and_no_cell_twice() -> None:
    tables = collections.Counter((number.paper, number.table) for number in published())
    dmis = {table: count for (paper, table), count in tables.items() if paper == "arXiv 2510.03016"}
    assert dmis == {"1": 182, "2": 144, "3": 144, "8": 42, "9": 48, "13": 9}
    cells = [(n.paper, n.table, n.task, n.data, n.noise, n.ipc, n.method, n.network, n.metric) for n in published()]
    assert len(cells) == len(set(cells)) == sum(tables.values())


def test_data_and_noise_are_named_as_everywhere_in_the_package() -> None:
    human = {"cifar10n", "plcifar10", "cifar10n-random1", "cifar10n-worst"}
    for number in published():
        assert number.data in sources.TABLE
        assert number.noise in human or str(parse_noise(number.noise)) == number.noise


def test_other_tasks_and_papers_are_found_too() -> None:
    vanilla = find("cifar10", "sym:0.4", "vanilla", task="generation", metric="FID")
    assert vanilla is not None and (vanilla.mean, vanilla.std, vanilla.ipc) == (3.33, None, None)
    learner = find("fashion-mnist", "partial:0.5", "dmis", task="weak-supervision")
    assert learner is not None and (learner.mean, learner.std) == (94.27, 0.55)
    pair = find("cifar10", "pair:0.2", "random", ipc=50)
    assert pair is not None and (pair.paper, pair.mean) == ("RDC, ICCV 2025", 29.1)
    both = [find("cifar10", "sym:0.4", "Random", ipc=10, network=network) for network in ("resnet34", "resnet18")]
    assert [number.mean for number in both if number] == [16.30, 18.4]
    dsa = find("fashion-mnist", "none", "dsa", ipc=10, network="convnet3")
    assert dsa is not None and (dsa.paper, dsa.table, dsa.mean) == ("arXiv 2102.08259", "1", 84.6)
    assert find("digits", "sym:0.4", "dmis", ipc=10) is None
    assert "several points" in reference.CAUTION
