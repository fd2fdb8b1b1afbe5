"""The stages that bars and `--dry-run` tell of: the same images as the cost counts, the bars in the order they come."""

import time
from contextlib import contextmanager

import pytest
import tiny

from condense import methods
from condense.generator.labels import labeller
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.training import fitting
from condense.pipeline import cost, timing
from condense.pipeline.make import make_set
from condense.pipeline.plan import Request, make_plan
from condense.pipeline.stages import LEARNT, Narrowed, condensing, operations, stages
from condense.pipeline.timing import foretold
from condense.run import Run
from condense.watch import Tracker

SMALL = {
    "network": {"channels": 8, "blocks": 1},
    "train": {"steps": 5, "batch_size": 16, "helper": {"steps": 3}, "coherence": {"folds": 2, "epochs": 1}},
    "draw": {"sampler_steps": 2, "pool": 2, "agree": False},
}
SECOND = {
    "network": {"kind": "conditional", "channels": 8, "blocks": 1, "multipliers": [1]},
    "train": {"steps": 3, "batch_size": 8},
}


def planned(method, **options):
    named = {"data": {"name": "digits", "noise": "sym:0.4"}, "method": method, "ipc": 1, **options}
    return make_plan(Request(named=named))


class Noted(Run):
    """A run in memory that notes the bars."""

    def __init__(self):
        super().__init__(None)
        self.bars = []

    @contextmanager
    def track(self, total, description, initial=0):
        self.bars.append(description)
        yield Tracker()


REFINE = {
    "iterations": 2,
    "real_batch": 4,
    "gradients": {"iterations": 2, "real_batch": 4, "net_batch": 4, "pool": 1, "width": 8},
}
CASES = [
    ("dmis", {}),
    ("dmis", {"refine": REFINE}),
    ("dmis", {"draw": {**SMALL["draw"], "prototype_sigma": 2}}),
    ("dmis", {"train": {**SMALL["train"], "transition": "volmin"}, "second_stage": SECOND}),
    ("vanilla", {"second_stage": SECOND}),
    ("dmis", {"train": {**SMALL["train"], "transition": "labeller", "labeller": LabellerOptions.QUICK}}),
    ("tdsm", {"train": {**SMALL["train"], "transition": "volmin"}}),
    ("tdsm", {"train": {**SMALL["train"], "transition": "labeller", "labeller": LabellerOptions.QUICK}}),
    ("cad", {}),
]


@pytest.mark.parametrize(("method", "changed"), CASES)
def test_parts_are_the_bars_and_the_cost_of_a_generator(method, changed, monkeypatch, tmp_path):
    monkeypatch.setattr(labeller, "FEW", 0)
    for fit in ("fit_exponents", "earned_exponents"):
        monkeypatch.setattr(fitting, fit, lambda *_: (0.7, 0.7))  # a judge without weight would not be asked
    plan = planned(method, **{**SMALL, **changed})
    parts = condensing(plan)
    assert sum(part.images for part in parts) == cost.describe(plan, draws=True)["network_evaluations"]
    run = Noted()
    shown = lambda own, *told, **more: (Noted() if own.path is None else run).track(*told, **more)  # noqa: E731
    monkeypatch.setattr(Run, "track", shown)
    make_set(plan, Run(tmp_path))
    assert run.bars == [part.name for part in parts]


@pytest.mark.parametrize("name", methods.names())
def test_methods_state_the_same_cost_by_stage(name):
    plan = planned(name)
    if hasattr(plan.method, "stages"):
        told = plan.method.stages(plan.train, 1, plan.options)
        assert sum(images for _, images in told) == plan.method.evaluations(plan.train, 1, plan.options)


def test_work_is_counted_in_operations():
    # a linear layer of the ConvNet's 128 features at 1 x 1 pixels, and three convolutions of 3 x 3 at 8, 4 and 2
    convolutions = 2 * 9 * (1 * 128 * 64 + 128 * 128 * 16 + 128 * 128 * 4)
    assert operations("convnet3", (1, 8, 8), 10) == pytest.approx((convolutions + 2 * 128 * 10) / 1e9)
    # the same with layers of 8: of 64 + 16 + 4 places, then 8 features
    narrow = 2 * 9 * (1 * 8 * 64 + 8 * 8 * 16 + 8 * 8 * 4) + 2 * 8 * 10
    assert operations(Narrowed("convnet3", 8), (1, 8, 8), 10) == pytest.approx(narrow / 1e9)
    plan = planned("dmis", **SMALL)
    found = stages(plan, condensing(plan))
    network = operations(tiny.NETWORK.model_copy(update={"channels": 8}), (1, 8, 8), 10)
    assert network > 0 and [stage.work > 0 for stage in found] == [True] * len(found)
    assert found[0].work == pytest.approx(LEARNT * condensing(plan)[0].images * operations(*key(plan)))


def key(plan):
    return condensing(plan)[0].network, plan.train.images.image_shape, plan.train.images.num_classes


@pytest.mark.usefixtures("measuring")
def test_twice_the_work_is_estimated_at_twice_the_time(monkeypatch):
    """The clock ticks once per step, so the estimate is the number of steps."""
    monkeypatch.setattr(timing, "SECONDS", 0.01)
    short, long = (planned("dmis", **{**SMALL, "train": {**SMALL["train"], "steps": n}}) for n in (4000, 8000))
    a, b = (foretold(plan, condensing(plan))["minutes_by_stage"]["dmis"] for plan in (short, long))
    assert 1.2 < b / a < 3.4  # measured twice, on a machine that may be busy


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dm", {"iterations": 2, "real_batch": 4}),
        ("frepo", {"iterations": 2, "real_batch": 200}),
        ("herding", {"teacher": {"network": "mlp", "epochs": 1}}),
    ],
)
def test_what_follows_a_repair_is_foretold_for_repaired_labels(method, options):
    """One label in a hundred is given; after the repair every image has one, and beliefs."""
    asked = {"epochs": 1, "width": 4, "rounds": 1}
    plan = planned(
        method, data={"name": "digits", "noise": "unlabeled:0.1"}, clean_first="labeller", labeller=asked, **options
    )
    told = cost.describe(plan, draws=True)["network_evaluations"]
    made = make_set(plan, Run(None))
    assert told == made.provenance.cost.network_evaluations
    assert told - labeller.foreseen(plan.train, plan.labeller) == sum(
        part.images for part in condensing(plan) if part.by_method
    )


@pytest.mark.usefixtures("measuring")
def test_a_method_that_is_long_silent_is_estimated_by_the_images_of_its_network(monkeypatch):
    """SRe2L's first bar moves after an epoch of its teacher, of minutes on 60,000 images."""
    monkeypatch.setattr(timing, "PATIENCE", 0.0)
    monkeypatch.setattr(timing, "_image_seconds", lambda train, network, learns: {"resnet18-bn": 0.5}[network])
    plan = planned("sre2l")
    parts = condensing(plan)
    assert timing.measured(plan, parts) == [0.5 * part.images for part in parts] and parts[0].images > len(plan.train)


@pytest.mark.usefixtures("measuring")
@pytest.mark.parametrize("name", ["random", "dm", "herding", "el2n"])
def test_a_method_without_generator_is_tried_itself(name, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.05)
    started = time.perf_counter()
    plan = planned(name)
    told = foretold(plan, condensing(plan))
    assert set(told) == {"minutes", "minutes_by_stage", "memory_gib"} and told["memory_gib"] > 0.05
    assert (told["minutes"] == 0) == (name == "random")
    if name == "dm":  # 20,000 steps of the real method
        assert 60 * told["minutes"] > 5 * (time.perf_counter() - started)
