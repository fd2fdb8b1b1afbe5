"""Arms for images without a label: every part against its equation."""

import math

import pytest
import torch
import torch.nn.functional as F
from draws import drawn, units

from condense.classifiers.arms import _partly, comatch, dash, flexmatch, simmatch, softmatch
from condense.classifiers.teacher import candidate_losses


def test_alignment_divides_by_the_mean_of_the_last_batches():
    mean = _partly.RecentMean(2)
    batches = [drawn(4, 3, seed=seed).softmax(1) for seed in range(3)]
    found = [mean(batch) for batch in batches]
    torch.testing.assert_close(found[0], batches[0].mean(0))
    torch.testing.assert_close(found[2], (batches[1].mean(0) + batches[2].mean(0)) / 2)
    shares = _partly.aligned(batches[0], found[2])
    expected = batches[0] / found[2]
    torch.testing.assert_close(shares, expected / expected.sum(1, keepdim=True))
    torch.testing.assert_close(_partly.aligned(batches[0], torch.full((3,), 1 / 3)), batches[0])


def test_losses_are_spread_over_the_batch_with_their_gradient():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    spread = _partly.spread(values, torch.tensor([False, True, True]))
    assert spread.tolist() == [0, 1, 2]
    (spread * torch.tensor([5.0, 3.0, 4.0])).sum().backward()
    assert values.grad.tolist() == [3, 4]


# Dash


def test_dash_threshold_falls_from_the_labelled_loss_to_its_least():
    options = dash.Options(every=0.1, warm_up=0.2)
    loss = dash.Dash(0.5, epochs=20, options=options)
    weak = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    possible = torch.tensor([[True, False], [True, True]])
    seen = []
    for epoch in range(1, 21):
        loss.begin(epoch)
        seen.append(loss.threshold)
        value = loss(torch.stack([weak, weak], 1), possible)
        if epoch <= 4:
            assert float(value) == pytest.approx(math.log(1 + math.exp(-1)))  # labelled alone: 1/2 ℓ / 0.5
    assert seen[:4] == [None] * 4
    first = math.log(1 + math.exp(-1))  # ρ̂
    falls = [(epoch - 5) // 2 for epoch in range(5, 21)]
    assert seen[4:] == pytest.approx([max(0.05, 1.0001 * first * 1.27**-k) for k in falls])
    assert dash.threshold(0.3, 100, options) == 0.05


def test_dash_counts_what_is_below_the_threshold():
    weak, strong = drawn(6, 3), drawn(6, 3, seed=1, requires_grad=True)
    f = weak.softmax(1)
    y = f**2 / (f**2).sum(1, keepdim=True)
    own = -(y * f.log()).sum(1)
    most = float(own.median())
    soft = dash.guessed_losses(weak, strong, most, 0.5, hard=False)
    torch.testing.assert_close(soft, (own <= most) * -(y * strong.log_softmax(1)).sum(1))
    assert 0 < int((soft > 0).sum()) < 6
    hard = dash.guessed_losses(weak, strong, 0.5, 0.5, hard=True)
    label = f.argmax(1)
    sure = F.cross_entropy(weak, label, reduction="none") <= 0.5
    torch.testing.assert_close(hard, sure * F.cross_entropy(strong, label, reduction="none"))


# FlexMatch


def test_flexmatch_thresholds_by_learning_status():
    sure = torch.tensor([0, 0, 0, 0, 1, 1, 2, -1])  # σ = 4, 2, 1, 0; one never sure
    beta = [1, 1 / 2, 1 / 4, 0]
    expected = [b / (2 - b) for b in beta]
    torch.testing.assert_close(flexmatch.flexible(sure, 4), torch.tensor(expected))
    early = torch.tensor([0, 1, 1, -1, -1, -1, -1, -1])  # five were never sure: β = σ / 5
    expected = [b / (2 - b) for b in (1 / 5, 2 / 5, 0)]
    torch.testing.assert_close(flexmatch.flexible(early, 3), torch.tensor(expected))


def test_flexmatch_remembers_what_was_surely_seen_without_a_label():
    possible = torch.tensor([[True, True], [True, True], [True, False]])
    loss = flexmatch.Curriculum(possible, share=0.5, threshold=0.9, weight=1.0)
    loss.sure = torch.tensor([0, 1, -1])  # σ = 1, 1; M(1) = 1: thresholds 0.9
    weak = torch.tensor([[0.0, 5.0], [0.5, 0.0], [5.0, 0.0]])
    strong = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    told = torch.tensor([[0, 1], [1, 1], [2, 0]])
    value = loss(torch.stack([weak, strong], 1), told)
    expected = (math.log(1 + math.e) / 0.5 + 0 + math.log(1 + math.exp(-5)) / 0.5) / 3
    assert float(value) == pytest.approx(expected)
    assert loss.sure.tolist() == [1, 1, -1]  # image 2 was shown with its label
    again = loss(torch.stack([weak, strong], 1), told)  # now σ = 0, 2: M(β_0) = 0, so that image 1 counts as class 0
    counted = math.log(1 + math.e) + math.log(1 + math.exp(-1))
    assert float(again) == pytest.approx((counted + math.log(1 + math.exp(-5))) / 0.5 / 3)


# SoftMatch


def test_softmatch_weights_are_a_truncated_gaussian():
    surest = torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    weights = softmatch.gaussian(surest, torch.tensor(0.6), torch.tensor(0.04), 2.0)
    expected = [math.exp(-((p - 0.6) ** 2) / (2 * 0.04 / 4)) if p < 0.6 else 1.0 for p in surest.tolist()]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


def test_softmatch_follows_confidence_and_counts_every_image():
    options = softmatch.Options(momentum=0.75)
    loss = softmatch.SoftMatch(3, 0.5, options, torch.device("cpu"))
    weak, strong = drawn(4, 3).float(), drawn(4, 3, seed=1).float()
    possible = torch.tensor([[True] * 3, [True] * 3, [True] * 3, [False, True, False]])
    value = loss(torch.stack([weak, strong], 1), possible)
    f = weak.softmax(1)
    expected_f = 0.75 / 3 + 0.25 * f[:3].mean(0)
    p = f / expected_f
    p = p / p.sum(1, keepdim=True)
    surest = p.amax(1)
    mean = 0.75 / 3 + 0.25 * surest[:3].mean()
    variance = 0.75 + 0.25 * ((surest[:3] - surest[:3].mean()) ** 2).sum() / 2
    torch.testing.assert_close(loss.expected, expected_f)
    torch.testing.assert_close(loss.mean, mean)
    torch.testing.assert_close(loss.variance, variance)
    weights = [math.exp(-(4 * (s - mean) ** 2) / (2 * variance)) if s < mean else 1.0 for s in surest[:3]]
    each = F.cross_entropy(strong[:3], f[:3].argmax(1), reduction="none")
    hidden = sum(w * e for w, e in zip(weights, each, strict=True))
    labelled = F.cross_entropy(weak[3:], torch.tensor([1]))
    torch.testing.assert_close(value, (hidden + labelled) / 0.5 / 4)


# CoMatch


def test_comatch_smooths_pseudo_labels_over_neighbours():
    p, z = drawn(2, 3).softmax(1), units(2, 4)
    there, labels = units(5, 4, seed=1), drawn(5, 3, seed=2).softmax(1)
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for b in range(2):
        near = [math.exp(float(z[b] @ there[k]) / 0.2) for k in range(5)]
        expected[b] = 0.9 * p[b] + 0.1 * sum(a / sum(near) * labels[k] for k, a in enumerate(near))
    torch.testing.assert_close(comatch.smoothed(p, z, there, labels, 0.9, 0.2), expected)


def test_comatch_graph_of_pseudo_labels():
    q = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    edges = torch.tensor([[1, 0.9, 0, 0], [0.9, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(comatch.label_graph(q, 0.8), edges / edges.sum(1, keepdim=True))


def test_comatch_loss_is_the_sum_of_its_terms():
    options = comatch.Options(size=4, threshold=0.6, edge=0.3, memory=1, weight=2.0, graph_weight=3.0)
    possible = torch.ones(4, 3, dtype=torch.bool)
    possible[3] = torch.tensor([True, False, False])
    labels = possible.float() / possible.sum(1, keepdim=True)
    loss = comatch.CoMatch(possible, labels, share=0.4, options=options)
    logits, embeddings = drawn(4, 3, 3).float(), units(4, 3, 4, seed=1).float()
    outputs = torch.cat([logits, embeddings], 2).requires_grad_()
    told = torch.tensor([[0, 1], [1, 1], [2, 1], [3, 0]])

    def expected(q):
        sure = (q.amax(1) >= 0.6) * -(q * logits[:3, 1].log_softmax(1)).sum(1)
        found = (embeddings[:3, 1] @ embeddings[:3, 2].T / 0.2).softmax(1)
        graph = -(comatch.label_graph(q, 0.3) * found.log()).sum(1)
        hidden = (2 * sure + 3 * graph).sum() / 0.6
        return (hidden + candidate_losses(logits[3:, 0], possible[3:]).sum() / 0.4) / 4

    f = logits[:3, 0].softmax(1)
    p = _partly.aligned(f, f.mean(0))
    value = loss(outputs, told)
    torch.testing.assert_close(value, expected(p))  # the memory is empty
    value.backward()
    assert outputs.grad[:3, 0].eq(0).all()  # no gradient through pseudo-labels
    remembered = torch.cat([embeddings[:, 0], torch.cat([p, labels[3:]])], 1)
    torch.testing.assert_close(loss.memory.rows, remembered)
    q = comatch.smoothed(p, embeddings[:3, 0], embeddings[:, 0], torch.cat([p, labels[3:]]), 0.9, 0.2)
    torch.testing.assert_close(loss(outputs, told), expected(q))
    alone = loss(outputs[3:], told[3:])
    torch.testing.assert_close(alone, candidate_losses(logits[3:, 0], possible[3:]).sum() / 0.4)


# SimMatch


def test_simmatch_unfolds_and_aggregates():
    near, p = drawn(2, 4).softmax(1), drawn(2, 3, seed=1).softmax(1)
    classes = [0, 2, 2, 1]
    labels = F.one_hot(torch.tensor(classes), 3).double()
    found = simmatch.unfolded(near, p, labels)
    for b in range(2):
        unfolded = [float(near[b, i] * p[b, classes[i]]) for i in range(4)]
        assert found[b].tolist() == pytest.approx([u / sum(unfolded) for u in unfolded])
    aggregated = near @ labels
    for c in range(3):
        assert float(aggregated[0, c]) == pytest.approx(sum(float(near[0, i]) for i in range(4) if classes[i] == c))


def test_simmatch_remembers_labelled_images():
    memory, embeddings = units(3, 4), units(3, 4, seed=1)
    found = simmatch.remembered(memory, embeddings, torch.tensor([2, 0, 2]), 0.7)
    torch.testing.assert_close(found[1], memory[1])
    torch.testing.assert_close(found[0], F.normalize(0.7 * memory[0] + 0.3 * embeddings[1], dim=0))
    both = (embeddings[0] + embeddings[2]) / 2
    torch.testing.assert_close(found[2], F.normalize(0.7 * memory[2] + 0.3 * both, dim=0))
    torch.testing.assert_close(
        simmatch.remembered(memory, embeddings[:0], torch.tensor([], dtype=torch.int64), 0.7), memory
    )


def test_simmatch_loss_is_the_sum_of_its_terms():
    options = simmatch.Options(size=4, threshold=0.6, weight=2.0, similarity_weight=3.0)
    possible = torch.ones(4, 3, dtype=torch.bool)
    possible[1], possible[3] = torch.tensor([True, False, False]), torch.tensor([False, True, False])
    labels = possible.float() / possible.sum(1, keepdim=True)
    loss = simmatch.SimMatch(possible, labels, share=0.4, options=options)
    logits, embeddings = drawn(4, 2, 3).float(), units(4, 2, 4, seed=1).float()
    outputs = torch.cat([logits, embeddings], 2).requires_grad_()
    told = torch.tensor([[0, 1], [2, 1], [1, 0], [3, 0]])
    with_label = candidate_losses(logits[2:, 0], possible[[1, 3]]).sum() / 0.4
    f = logits[:2, 0].softmax(1)
    p = _partly.aligned(f, f.mean(0))

    def guessed(p):
        return (p.amax(1) >= 0.6) * -(p * logits[:2, 1].log_softmax(1)).sum(1)

    value = loss(outputs, told)
    torch.testing.assert_close(value, (with_label + 2 * guessed(p).sum() / 0.6) / 4)  # the first epoch
    torch.testing.assert_close(loss.embeddings, embeddings[2:, 0])
    loss.begin(2)
    near = (embeddings[:2, 0] @ embeddings[2:, 0].T / 0.1).softmax(1)
    log_found = (embeddings[:2, 1] @ embeddings[2:, 0].T / 0.1).log_softmax(1)
    similar = -(simmatch.unfolded(near, p, labels[[1, 3]]) * log_found).sum(1)
    mixed = 0.9 * p + 0.1 * near @ labels[[1, 3]]
    expected = (with_label + (2 * guessed(mixed) + 3 * similar).sum() / 0.6) / 4
    second = loss(outputs, told)
    torch.testing.assert_close(second, expected)
    second.backward()
    assert outputs.grad[:2, 0].eq(0).all()  # no gradient through pseudo-labels
