"""`train.compile`: the networks become graphs once, and stay them."""

import pytest
import torch
from tiny import CONDITIONAL, NETWORK, train_options, training_set

from condense.generator.training.trainer import Trainer


@pytest.fixture
def graphs(monkeypatch):
    """How many operations each graph has that was made of a network, in their order."""
    made = []

    def backend(graph, inputs):
        made.append(len(graph.graph.nodes))
        return graph.forward

    real = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: real(module, backend=backend))
    torch._dynamo.reset()
    yield made
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("network", "options", "most"),
    [
        (NETWORK, {}, 2),  # the trained network, and the average that beliefs are refreshed from
        pytest.param(NETWORK, {"form": "mixture", "cold_start": 0.0}, 3, marks=pytest.mark.slow),  # two sizes of looks
        pytest.param(CONDITIONAL, {"top_k": 2, "eliminate": None}, 3, marks=pytest.mark.slow),  # and without dropout
    ],
)
def test_no_graph_is_made_anew_step_by_step(graphs, network, options, most):
    trainer = Trainer(training_set("noisy"), network, train_options(steps=20, compile=True, **options), 0)
    steps = trainer.steps()
    for _ in range(8):
        next(steps)
    early = len(graphs)
    assert 2 <= early <= most and min(graphs) > 10
    assert [step.step for step in steps][-1] == 20
    assert len(graphs) == early


@pytest.mark.slow
def test_a_compiled_network_learns_what_it_would_learn_and_counts_alike(graphs):
    def trained(compiled):
        trainer = Trainer(training_set("noisy"), NETWORK, train_options(steps=6, compile=compiled), 0)
        return [(step.losses.loss, step.evaluations) for step in trainer.steps()], trainer.state()[0].keys()

    plain, names = trained(False)
    quick, same_names = trained(True)
    assert graphs and names == same_names
    assert [count for _, count in quick] == [count for _, count in plain]
    assert [loss for loss, _ in quick] == pytest.approx([loss for loss, _ in plain], rel=1e-3)
