"""Arms for candidate sets, and the embeddings they learn with: every part against its equation."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from draws import drawn, units

from condense.classifiers import networks
from condense.classifiers.arms import _embedding, crdpll, dirk, idgp, pico

POSSIBLE = torch.tensor([[True, True, False], [False, True, True], [True, True, True], [False, False, True]])
UNIFORM = POSSIBLE.float() / POSSIBLE.sum(1, keepdim=True)


# Embeddings


def test_an_embedding_stands_beside_the_logits_and_depends_on_its_seed_alone():
    network = networks.build("mlp", in_channels=1, image_size=8, num_classes=3, seed=0)
    x = drawn(4, 1, 8, 8).float()
    before = torch.random.get_rng_state()
    outputs = _embedding.Embedded(network, 5, seed=7)(x)
    assert torch.equal(before, torch.random.get_rng_state())
    logits, embeddings = _embedding.parts(outputs, 3)
    torch.testing.assert_close(logits, network(x))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    assert torch.equal(outputs, _embedding.Embedded(network, 5, seed=7)(x))
    assert not torch.equal(outputs, _embedding.Embedded(network, 5, seed=8)(x))


def test_a_queue_keeps_the_newest():
    queue = _embedding.Queue(5, 1, torch.device("cpu"))
    assert queue.rows.shape == (0, 1)
    for start in (0, 3, 6):
        queue.push(torch.arange(start, start + 3.0)[:, None])
    assert queue.rows[:, 0].tolist() == [4, 5, 6, 7, 8]


def test_similarities_are_matched_by_cross_entropy_without_what_is_left_out():
    query, pool = units(2, 4), units(5, 4, seed=1)
    wanted = torch.tensor([[0.5, -1, 0.5, 0, 0], [0, 0, 0, 1, -1.0]], dtype=torch.float64)
    found = []
    for q, w in zip(query, wanted, strict=True):
        kept = [j for j in range(5) if w[j] >= 0]
        total = sum(math.exp(float(q @ pool[j]) / 0.3) for j in kept)
        found.append(-sum(float(w[j]) * math.log(math.exp(float(q @ pool[j]) / 0.3) / total) for j in kept))
    losses = _embedding.matching_losses(query.requires_grad_(), pool, wanted, 0.3)
    torch.testing.assert_close(losses, torch.tensor(found, dtype=torch.float64))
    losses.sum().backward()
    assert torch.isfinite(query.grad).all()


def test_info_nce_knows_the_own_key_among_the_queue():
    query, key, queue = units(3, 4), units(3, 4, seed=1), units(6, 4, seed=2)
    own = (query * key).sum(1, keepdim=True)
    logits = torch.cat([own, query @ queue.T], 1) / 0.07
    expected = F.cross_entropy(logits, torch.zeros(3, dtype=torch.int64), reduction="none")
    torch.testing.assert_close(_embedding.instance_losses(query, key, queue, 0.07), expected)
    nothing_else = _embedding.instance_losses(query, key, queue[:0], 0.07)
    torch.testing.assert_close(nothing_else, torch.zeros(3, dtype=torch.float64))


# CRDPLL


def test_crdpll_pushes_down_classes_that_are_not_candidates():
    logits = drawn(4, 3)
    f = logits.softmax(1)
    expected = [-sum(math.log(1 - f[i, k]) for k in range(3) if not POSSIBLE[i, k]) for i in range(4)]
    torch.testing.assert_close(crdpll.exclusion_losses(logits, POSSIBLE), torch.tensor(expected, dtype=torch.float64))
    assert torch.isfinite(crdpll.exclusion_losses(torch.tensor([[1e4, 0, 0]]), torch.tensor([[False, True, True]])))


def test_the_conformal_distribution_is_closest_to_all_views():
    """The closed form, and that no other distribution on the candidates has a smaller sum of divergences."""
    logits = drawn(4, 3, 3)
    f, q = logits.softmax(2), crdpll.conformal(logits, POSSIBLE)
    geometric = f.prod(1) ** (1 / 3) * POSSIBLE
    torch.testing.assert_close(q, geometric / geometric.sum(1, keepdim=True))

    def apart(q):
        return (torch.special.xlogy(q, q)[:, None] - torch.special.xlogy(q[:, None], f)).sum((1, 2))

    for seed in range(20):
        other = drawn(4, 3, seed=seed).masked_fill(~POSSIBLE, -math.inf).softmax(1)
        assert (apart(other) >= apart(q) - 1e-12).all()


def test_crdpll_learns_from_the_beliefs_of_the_last_visit():
    loss = crdpll.Consistency(POSSIBLE, UNIFORM.clone(), weight=2.0, ramp_epochs=4)
    weights = []
    for epoch in range(1, 7):
        loss.begin(epoch)
        weights.append(loss.weight)
    assert weights == pytest.approx([0, 0.5, 1, 1.5, 2, 2])
    logits, numbers = drawn(2, 3, 3).float(), torch.tensor([3, 0])
    value = loss(logits, numbers)
    q, log_f = UNIFORM[numbers], logits.log_softmax(2)
    divergences = sum(F.kl_div(log_f[:, view], q, reduction="batchmean") for view in range(3))
    expected = crdpll.exclusion_losses(logits[:, 0], POSSIBLE[numbers]).mean() + 2 * divergences
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(loss.beliefs[numbers], crdpll.conformal(logits, POSSIBLE[numbers]))
    torch.testing.assert_close(loss.beliefs[[1, 2]], UNIFORM[[1, 2]])


# IDGP


def of_set(f, z, possible):
    """p(S | x), term by term."""
    total = 0.0
    for j in range(len(f)):
        if possible[j]:
            term = f[j] * (1 - z[j])
            for k in range(len(f)):
                if k != j:
                    term *= z[k] if possible[k] else 1 - z[k]
            total += float(term)
    return total


def test_idgp_likelihood_is_the_sum_over_right_labels():
    of_label, of_added = drawn(4, 3), drawn(4, 3, seed=1)
    f, z = of_label.softmax(1), of_added.sigmoid()
    expected = [math.log(of_set(f[i], z[i], POSSIBLE[i])) for i in range(4)]
    found = idgp.log_likelihood(of_label, of_added, POSSIBLE)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    sets = [torch.tensor(bits).bool() for bits in itertools.product((0, 1), repeat=3) if any(bits)]
    over_all = sum(idgp.log_likelihood(of_label[:1], of_added[:1], one[None]).exp() for one in sets)
    torch.testing.assert_close(over_all, (f[:1] * (1 - z[:1])).sum(1))  # the right label is not added once more


def test_idgp_descends_the_negative_log_posterior():
    loss = idgp.Posterior(POSSIBLE, UNIFORM.clone(), label_prior=2.0, candidate_prior=3.0, warm_up=1)
    logits, numbers = drawn(2, 2, 3).float(), torch.tensor([1, 0])
    f, z = logits[:, 0].softmax(1), logits[:, 1].sigmoid()

    def priors(d, b):
        dirichlet = [torch.distributions.Dirichlet(1 + 2 * row) for row in d]
        beta = torch.distributions.Beta(1 + 3 * b, 1 + 3 * (1 - b))
        ours = torch.stack([one.log_prob(share) for one, share in zip(dirichlet, f, strict=True)])
        at_even = [float(one.log_prob(torch.full((3,), 1 / 3))) + 2 * math.log(3) for one in dirichlet]
        normaliser = torch.tensor(at_even)  # the densities without Π f^{2d} and Π z^{3b} (1 - z)^{3(1-b)}
        beta_normaliser = beta.log_prob(torch.full((2, 3), 0.5)) + 3 * math.log(2)
        return -(ours - normaliser) - (beta.log_prob(z) - beta_normaliser).sum(1)

    first = loss(logits, numbers)
    torch.testing.assert_close(first, priors(UNIFORM[numbers], POSSIBLE[numbers].float()).mean())
    restricted = f * POSSIBLE[numbers]
    d, b = restricted / restricted.sum(1, keepdim=True), z * POSSIBLE[numbers]
    torch.testing.assert_close(loss.labels[numbers], d)
    torch.testing.assert_close(loss.added[numbers], b)
    loss.begin(2)
    likelihood = idgp.log_likelihood(logits[:, 0], logits[:, 1], POSSIBLE[numbers])
    torch.testing.assert_close(loss(logits, numbers), (priors(d, b) - likelihood).mean())


# PiCO


def test_pico_attracts_embeddings_of_the_same_guess():
    query, key, older = units(4, 6), units(4, 6, seed=1), units(5, 6, seed=2)
    pool = torch.cat([query, key, older])
    guess, of_older = torch.tensor([0, 1, 0, 2]), torch.tensor([0, 0, 1, 2, 1])
    of_pool = torch.cat([guess, guess, of_older])
    expected = []
    for i in range(4):
        others = [k for k in range(13) if k != i]
        total = sum(math.exp(float(query[i] @ pool[k]) / 0.07) for k in others)
        positives = [k for k in others if of_pool[k] == guess[i]]
        shares = [math.log(math.exp(float(query[i] @ pool[k]) / 0.07) / total) for k in positives]
        expected.append(-sum(shares) / len(positives))
    found = pico.class_losses(query, pool, guess, of_pool, 0.07)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_pico_prototypes_follow_query_by_query():
    prototypes, query, guess = units(3, 4), units(5, 4, seed=1), torch.tensor([0, 2, 0, 0, 2])
    expected = prototypes.clone()
    for q, c in zip(query, guess, strict=True):
        expected[c] = 0.9 * expected[c] + 0.1 * q
    found = pico.followed(prototypes, query, guess, 0.9)
    torch.testing.assert_close(found, F.normalize(expected, dim=1))
    torch.testing.assert_close(found[1], prototypes[1])


def test_pico_labels_move_to_the_nearest_prototype_among_the_candidates():
    options = pico.Options(size=2, start=1, label_momentum=0.9, final_label_momentum=0.5, queue=3)
    loss = pico.Pico(POSSIBLE, UNIFORM.clone(), epochs=4, options=options)
    loss.prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    query = torch.tensor([[-1.0, 0.0], [0.6, 0.8]])  # nearest are 2 and 1; image 0 cannot be of class 2
    logits = drawn(2, 3).float()
    outputs = torch.cat([logits, query], 1)[:, None].repeat(1, 2, 1)
    numbers = torch.tensor([0, 2])
    value = loss(outputs, numbers)  # the first epoch: labels stay
    torch.testing.assert_close(loss.labels, UNIFORM)
    classified = -(UNIFORM[numbers] * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(value, classified)  # own keys alone: nothing to tell apart
    momenta = []
    for epoch in range(1, 5):
        loss.begin(epoch)
        momenta.append(loss.label_momentum)
    assert momenta == pytest.approx([0.9, 0.8, 0.7, 0.6])
    loss.prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    loss(outputs, numbers)
    moved = 0.6 * UNIFORM[numbers] + 0.4 * torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(loss.labels[numbers], moved)
    torch.testing.assert_close(loss.labels[[1, 3]], UNIFORM[[1, 3]])
    assert len(loss.queue.rows) == 3


# DIRK


def test_dirk_beliefs_put_every_candidate_above_every_other_class():
    for seed in range(20):
        logits = drawn(4, 3, seed=seed)
        r, p = dirk.rectified(logits, POSSIBLE), logits.softmax(1)
        torch.testing.assert_close(r.sum(1), torch.ones(4, dtype=torch.float64))
        for i in (0, 1, 3):
            inside, outside = r[i][POSSIBLE[i]], r[i][~POSSIBLE[i]]
            on_candidates = p[i][POSSIBLE[i]].sum()
            torch.testing.assert_close(inside.min(), outside.max() / on_candidates)
            assert inside.min() > outside.max()
            torch.testing.assert_close(inside / inside.sum(), p[i][POSSIBLE[i]] / on_candidates)
            torch.testing.assert_close(outside / outside.sum(), p[i][~POSSIBLE[i]] / (1 - on_candidates))
        torch.testing.assert_close(r[2], p[2])  # nothing is excluded


def test_dirk_embeddings_follow_the_similarity_of_beliefs():
    beliefs = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    possible = torch.tensor([[True, True, False], [False, True, True], [True, True, True], [False, False, True]])
    of_pool = torch.cat([beliefs, possible.float()], 1).repeat(2, 1)  # student's, then teacher's
    wanted = dirk.wanted_similarity(beliefs, possible, of_pool, 0.4)
    cosine = F.normalize(beliefs, dim=1) @ F.normalize(beliefs, dim=1).T
    likely = [0, 1, 0, 2]
    for i in range(4):
        positives = [k for k in range(8) if k != i and likely[k % 4] == likely[i]]
        total = sum(math.exp(cosine[i, k % 4] / 0.4) for k in positives)
        for k in range(8):
            share = math.exp(cosine[i, k % 4] / 0.4) / total if k in positives else 0.0
            assert float(wanted[i, k]) == pytest.approx(-1 if k == i else share)


def test_dirk_learns_the_teachers_rectified_beliefs():
    options = dirk.Options(size=2, start=1)
    loss = dirk.Dirk(4, 3, options, torch.device("cpu"))
    logits = drawn(4, 3, 3).float()
    embeddings = F.normalize(drawn(4, 3, 2, seed=1).float(), dim=2)
    outputs = torch.cat([logits, embeddings], 2).requires_grad_()
    value = loss(outputs, POSSIBLE)
    beliefs = dirk.rectified(logits[:, 2], POSSIBLE)
    taught = -(beliefs * logits[:, 0].log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(value, taught)  # own keys alone
    value.backward()
    assert outputs.grad[:, 2].eq(0).all() and outputs.grad[:, 1, :3].eq(0).all()  # not the teacher, not the strong view
    loss.begin(2)
    query, key = embeddings[:, 1], embeddings[:, 2]
    pool = torch.cat([query, key, key])  # the queue holds the first batch
    told = torch.cat([beliefs, POSSIBLE.float()], 1).repeat(3, 1)
    wanted = dirk.wanted_similarity(beliefs, POSSIBLE, told, 0.4)
    refined = _embedding.matching_losses(query, pool, wanted, 0.07).mean()
    torch.testing.assert_close(loss(outputs, POSSIBLE), taught + refined)
