"""What does not fit in memory is refused before anything is allocated."""

import pytest
import tiny
import torch

from condense import methods
from condense.errors import UserError
from condense.generator.options import NetworkOptions, SecondStage
from condense.generator.training import sizes
from condense.generator.training.sizes import check_training_fits, least_bytes
from condense.generator.training.trainer import Trainer
from condense.generator.training.two_stage import train_stages
from condense.run import Run

IMAGES = tiny.pictures()[0]
HUGE = 10**8


def test_the_estimate_grows_with_the_rows_of_a_step():
    def rows(network=tiny.CONDITIONAL, **options):
        one, two = (least_bytes(network, tiny.train_options(batch_size=b, **options), IMAGES) for b in (1, 2))
        return two - one

    one = rows(objective="vanilla")
    assert rows() == 3 * one and rows(top_k=2) == 2 * one and rows(objective="cad") == one
    assert rows(form="sampled", classification_weight=0.0) == one
    assert 0 < rows(tiny.NETWORK) < rows()


def test_the_estimate_counts_the_weights_five_times():
    network = NetworkOptions(channels=64, multipliers=(1,), blocks=1)
    trainer = Trainer(tiny.training_set(), network, tiny.train_options(), 0)
    weights = sum(weight.nbytes for weight in trainer.denoiser.parameters())
    none = least_bytes(network, tiny.train_options(batch_size=1), IMAGES)
    step = least_bytes(network, tiny.train_options(batch_size=2), IMAGES) - none
    assert none - step == 5 * weights


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)])
def test_what_needs_more_than_is_free_is_refused(monkeypatch, spare, fits):
    needed = least_bytes(tiny.NETWORK, tiny.train_options(), IMAGES)
    monkeypatch.setattr(sizes, "available_bytes", lambda: needed + spare)
    if fits:
        check_training_fits(tiny.NETWORK, tiny.train_options(), IMAGES)
        return
    with pytest.raises(UserError, match=r"train.batch_size 16 and network.channels 8 needs at least 0.0 GiB"):
        check_training_fits(tiny.NETWORK, tiny.train_options(), IMAGES)


def test_each_process_needs_memory_for_its_share(monkeypatch):
    alone = least_bytes(tiny.NETWORK, tiny.train_options(batch_size=8), IMAGES)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert least_bytes(tiny.NETWORK, tiny.train_options(batch_size=16), IMAGES) == alone


@pytest.fixture
def nothing_made(monkeypatch):
    """No tensor of many values may be made."""
    real = torch.randperm

    def watched(n, *args, **kwargs):
        assert n < HUGE
        return real(n, *args, **kwargs)

    monkeypatch.setattr(torch, "randperm", watched)


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize(
    ("options", "second", "sentence"),
    [
        ({"batch_size": HUGE}, None, r"train\.batch_size 100000000 .* lower train\.batch_size"),
        ({}, {"batch_size": HUGE}, r"second_stage\.train\.batch_size 100000000"),
        ({"transition": "volmin", "helper": {"batch_size": 10**12}}, None, r"train\.helper\.batch_size .* lower it"),
    ],
)
def test_a_training_that_cannot_fit_is_refused_before_its_first_step(options, second, sentence):
    drawer = None if second is None else SecondStage(network=tiny.NETWORK, train=tiny.train_options(**second))
    with pytest.raises(UserError, match=sentence):
        train_stages(tiny.training_set(), tiny.NETWORK, tiny.train_options(**options), drawer, 0, Run(None))


@pytest.mark.parametrize(
    ("name", "ipc", "changed", "sentence"),
    [
        ("dm", 10**12, {"init": "noise"}, "A set of 1000000000000 images per class needs"),
        ("dmis", 10**12, {}, "A set of 1000000000000 images per class needs"),
        ("dmis", 1, {"draw": {"pool": 10**12}}, "A pool of 1000000000000 per class needs .* lower ipc or draw.pool"),
    ],
)
def test_a_set_or_pool_that_cannot_fit_is_refused(name, ipc, changed, sentence):
    method = methods.load(name)
    with pytest.raises(UserError, match=sentence):
        method.condense(tiny.training_set(), ipc, method.Options.model_validate(changed), 0, Run(None))
