import pytest
import tiny
import torch
import torch.nn.functional as F

from condense import rng
from condense.classifiers import networks
from condense.classifiers.fit import has_batch_norm
from condense.errors import UserError
from condense.methods import _gradient_matching, datadam
from condense.methods._distribution import DistributionMatching
from condense.methods._gradient_matching import GradientMatching, GradientMatchingOptions, Loops
from condense.methods._learn import Synthetic
from condense.methods._matching import (
    freeze_batch_norm,
    gradient_distance,
    matched_weights,
    mean_attention,
    mean_features,
    target_gradients,
    weight_gradients,
)
from condense.methods._pairs import Pairs
from condense.methods._pixels import RealImages, initial_images
from condense.methods._refine import RefineOptions
from condense.methods.datadam import Options as DataDAMOptions
from condense.methods.dm import Options as DMOptions
from condense.preprocessing import standardisation
from condense.run import Run


def network(name="convnet3", seed=0):
    return networks.build(name, in_channels=1, image_size=8, num_classes=3, seed=seed)


def images(count, seed=0):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def by_hand(a, b):
    """The distance as it is printed, for all rows of a layer at once."""
    total = torch.zeros(())
    for left, right in zip(a, b, strict=True):
        u, v = (g.reshape(g.shape[0], -1) for g in (left, right))
        norms = torch.sqrt(torch.einsum("ij,ij->i", u, u)) * torch.sqrt(torch.einsum("ij,ij->i", v, v))
        total = total + len(u) - (torch.einsum("ij,ij->i", u, v) / (norms + 1e-6)).sum()
    return total


def test_distance_is_one_minus_cosine_over_layers_and_rows():
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3, 2, 2), (5, 7)]
    a, b = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    torch.testing.assert_close(gradient_distance(a, b), by_hand(a, b))
    torch.testing.assert_close(gradient_distance(a, [3 * x for x in a]), torch.tensor(0.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient_distance(a, [-x for x in a]), torch.tensor(18.0), rtol=1e-5, atol=0)


def test_biases_and_norms_are_not_compared():
    net = network()
    left_out = [name for name, weight in net.named_parameters() if not any(weight is w for w in matched_weights(net))]
    assert [weight.ndim for weight in matched_weights(net)] == [4, 4, 4, 2]
    assert len(left_out) == 3 * 3 + 1 and all(dict(net.named_parameters())[name].ndim == 1 for name in left_out)


def test_gradient_of_the_images_is_that_of_a_direct_computation():
    net, real = network(), images(6, 1)
    ours, theirs = (images(2).requires_grad_() for _ in range(2))

    target = target_gradients(net, real, 1, bf16=False)
    distance = gradient_distance(weight_gradients(net, ours, 1), target)
    distance.backward()

    def loss(x):
        log_p = net(x) - torch.log(torch.exp(net(x)).sum(1, keepdim=True))
        return -log_p[:, 1].sum() / len(x)

    weights = [p for p in net.parameters() if p.dim() != 1]
    real_gradients = torch.autograd.grad(loss(real), weights)
    direct = by_hand(torch.autograd.grad(loss(theirs), weights, create_graph=True), real_gradients)
    (expected,) = torch.autograd.grad(direct, theirs)
    torch.testing.assert_close(distance, direct, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.grad, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_gradient_of_the_images_against_finite_differences():
    net, real, learned = network().double(), images(6, 1).double(), images(2).double().requires_grad_()
    target = target_gradients(net, real, 0, bf16=False)

    def distance(x):
        return gradient_distance(weight_gradients(net, x, 0), target)

    (gradient,) = torch.autograd.grad(distance(learned), learned)
    for place in [(0, 0, 1, 2), (1, 0, 7, 7), (1, 0, 4, 3)]:
        step = torch.zeros_like(learned)
        step[place] = 1e-6
        slope = (distance(learned + step) - distance(learned - step)) / 2e-6
        torch.testing.assert_close(gradient[place], slope.detach(), rtol=1e-3, atol=1e-5)


def test_mean_features_are_means_whatever_the_numbers():
    net, batches = network(), [images(3), images(150, 1)]
    with torch.no_grad():
        found = mean_features(net, batches)
        for mean, x in zip(found, batches, strict=True):
            torch.testing.assert_close(mean, net.trunk(x).mean(0), rtol=1e-4, atol=1e-5)


def test_batch_norm_sees_the_batches_of_all_classes_together():
    net, batches = network("convnet3-bn"), [images(70), images(50, 1) + 1]
    with torch.no_grad():
        together = net.trunk(torch.cat(batches))
        torch.testing.assert_close(mean_features(net, batches)[1], together[70:].mean(0), rtol=1e-4, atol=1e-5)


def test_frozen_batch_norm_uses_the_statistics_of_the_real_images():
    net, real, x = network("convnet3-bn"), images(30), images(5, 1) + 3
    assert has_batch_norm(net) and not has_batch_norm(network())
    freeze_batch_norm(net, real)
    layers = list(net.trunk)
    seen = layers[0](real)
    mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3))
    expected = (layers[0](x) - mean[:, None, None]) / (variance[:, None, None] + layers[1].eps).sqrt()
    torch.testing.assert_close(layers[1](layers[0](x)), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net(x)[:2], net(x[:2]), rtol=1e-4, atol=1e-5)  # no image looks at another
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net(x)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    freeze_batch_norm(net, real + 1)  # not an average with what was before
    torch.testing.assert_close(layers[1].running_mean, layers[0](real + 1).mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def pairs(ipc=2, batch=5, strategy=None, lr=0.1, start="real"):
    train = tiny.training_set("noisy")
    reals = RealImages(train, standardisation(train.images.images), ipc)
    return Pairs(reals, Synthetic(initial_images(reals, ipc, start, 0), ipc, lr), batch, strategy, seed=0)


def test_a_step_on_the_images_sums_over_classes_and_keeps_momentum():
    """Two steps of dc with one outer step each, against plain autograd and SGD with momentum 0.5 by hand."""
    given = pairs()
    task = GradientMatching(given, GradientMatchingOptions(precision="fp32"), Loops(1, 1))
    s, v = given.synthetic.images.detach().clone(), torch.zeros(6, 1, 8, 8)
    for step in range(2):
        loss = task.step(step)["loss"]
        net = given.fresh_network("convnet3", step)
        weights = [p for p in net.parameters() if p.dim() != 1]
        x = s.clone().requires_grad_()
        total = torch.zeros(())
        for y, real, _ in given.of_step(step):
            label = torch.tensor([y])
            learned = F.cross_entropy(net(x[2 * y : 2 * y + 2]), label.repeat(2))
            a = torch.autograd.grad(learned, weights, create_graph=True)
            b = torch.autograd.grad(F.cross_entropy(net(real), label.repeat(5)), weights)
            total = total + by_hand(a, b)
        (gradient,) = torch.autograd.grad(total, x)
        v = 0.5 * v + gradient
        s = s - 0.1 * v
        assert loss == pytest.approx(float(total.detach()), rel=1e-4)
        torch.testing.assert_close(given.synthetic.images.detach(), s, rtol=1e-3, atol=1e-3)


def test_a_step_of_dm_on_packed_images_goes_along_the_gradient_through_cutting_and_enlarging():
    """Two real images drawn by hand, the four parts enlarged by torch alone, and SGD's first step."""
    train = tiny.training_set("noisy")
    reals = RealImages(train, standardisation(train.images.images), 1, patches=4)
    start = initial_images(reals, 1, "real", 0, 2)
    four = reals.draw_each(4, rng.generator(0, "initial images"))  # of each class
    assert len({tuple(one.flatten().tolist()) for one in four[:4]}) == 4
    for y in range(3):
        for part, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
            small = start[y, :, top : top + 4, left : left + 4]
            torch.testing.assert_close(small, F.interpolate(four[None, 4 * y + part], (4, 4), mode="bilinear")[0])
    given = Pairs(reals, Synthetic(start, 1, 0.1, pack=2), 5, None, seed=0)
    x, net, total = start.clone().requires_grad_(), given.fresh_network("convnet3", 0), torch.zeros(())
    for y, real, learned in given.of_step(0):
        halves = [x[y : y + 1, :, top : top + 4, left : left + 4] for top in (0, 4) for left in (0, 4)]
        seen = F.interpolate(torch.cat(halves), (8, 8), mode="bilinear")
        torch.testing.assert_close(learned, seen)
        total = total + (net.trunk(seen).mean(0) - net.trunk(real).mean(0)).square().sum()
    (gradient,) = torch.autograd.grad(total, x)
    DistributionMatching(given, DMOptions(precision="fp32")).step(0)
    torch.testing.assert_close(given.synthetic.images.detach(), start - 0.1 * gradient, rtol=1e-3, atol=1e-4)
    assert given.synthetic.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert given.synthetic.evaluations == 2 * 3 * (5 + 4)  # `of_step` was asked twice


def test_the_network_is_trained_between_the_outer_steps_but_not_after_the_last():
    given, options = pairs(), GradientMatchingOptions(precision="fp32", net_batch=6)
    task = GradientMatching(given, options, Loops(outer=3, inner=2))

    def weights():
        return torch.cat([p.detach().flatten() for p in task.network.parameters()])

    def fresh(iteration):
        return torch.cat([p.detach().flatten() for p in given.fresh_network("convnet3", iteration).parameters()])

    task.step(0)
    assert torch.equal(weights(), fresh(0))
    before, learned = task.network.state_dict(), given.synthetic.images.detach().clone()
    expected = network()
    expected.load_state_dict(before)
    for _ in range(2):  # a batch holds all images, so the order does not matter: plain gradient descent
        gradients = torch.autograd.grad(
            F.cross_entropy(expected(learned), given.synthetic.labels), list(expected.parameters())
        )
        with torch.no_grad():
            for p, g in zip(expected.parameters(), gradients, strict=True):
                p -= 0.01 * g
    task.step(1)
    torch.testing.assert_close(weights(), torch.cat([p.detach().flatten() for p in expected.parameters()]))
    task.step(2)
    assert not torch.equal(weights(), fresh(0))
    task.step(3)  # the next iteration starts with a network nobody trained
    assert torch.equal(weights(), fresh(1)) and not torch.equal(fresh(0), fresh(1))


def test_networks_are_trained_on_images_augmented_one_by_one_or_plain(monkeypatch):
    """Under dsa, the siamese augmentation is of the pairs alone; under dc there is none at all."""
    given = []
    monkeypatch.setattr(
        _gradient_matching, "fit", lambda *_, teaching, **__: given.append(teaching.augment) or iter(())
    )
    for strategy in ("crop", None):
        task = GradientMatching(pairs(strategy=strategy), GradientMatchingOptions(precision="fp32"), Loops(2, 1))
        task.step(0)
        task.step(1)
    augment, nothing = given
    alike = images(1).expand(64, -1, -1, -1)
    assert len(augment(alike, torch.Generator().manual_seed(0)).unique(dim=0)) > 1 and nothing is None


def test_step_of_dm_against_a_direct_computation():
    given = pairs(ipc=2, batch=7, lr=1.0)
    before = given.synthetic.images.detach().clone()
    loss = DistributionMatching(given, DMOptions(precision="fp32")).step(4)["loss"]
    net, x, total = given.fresh_network("convnet3", 4), before.clone().requires_grad_(), torch.zeros(())
    hook: list[torch.Tensor] = []
    net.head.register_forward_pre_hook(lambda module, inputs: hook.append(inputs[0]))
    for y, real, _ in given.of_step(4):
        net(real), net(x[2 * y : 2 * y + 2])
        f_real, f_learned = hook[-2:]
        assert f_real.shape == (7, 128)
        total = total + ((f_real.sum(0) / 7).detach() - f_learned.sum(0) / 2).pow(2).sum()
    (gradient,) = torch.autograd.grad(total, x)
    assert loss == pytest.approx(float(total.detach()), rel=1e-4)
    torch.testing.assert_close(given.synthetic.images.detach(), before - gradient, rtol=1e-3, atol=1e-4)


def test_the_rate_of_refining_falls_to_zero():
    """Four steps of SGD with momentum 0.5 by hand, the rate 0.1 whole in the first two of them and then falling."""
    given, v = pairs(ipc=2, batch=7, lr=0.1), torch.zeros(6, 1, 8, 8)
    task = DistributionMatching(given, RefineOptions(precision="fp32", iterations=4, cooldown=0.75))
    s = given.synthetic.images.detach().clone()
    for step, share in enumerate((1, 1, 2 / 3, 1 / 3)):
        net, x, total = given.fresh_network("convnet3", step), s.clone().requires_grad_(), torch.zeros(())
        for y, real, _ in given.of_step(step):
            total = total + (net.trunk(real).mean(0).detach() - net.trunk(x[2 * y : 2 * y + 2]).mean(0)).pow(2).sum()
        (gradient,) = torch.autograd.grad(total, x)
        v = 0.5 * v + gradient
        s = s - 0.1 * share * v
        task.step(step)
        torch.testing.assert_close(given.synthetic.images.detach(), s, rtol=1e-3, atol=1e-4)


def test_the_rate_of_dm_is_that_of_its_authors_and_of_refining_in_proportion_to_the_images_of_a_class():
    assert [RefineOptions().rate(ipc) for ipc in (1, 5, 10, 50)] == [(1, None), (1, None), (2, None), (10, None)]
    assert RefineOptions(lr_img=3).rate(50) == (3, None)
    assert [DMOptions().rate(ipc) for ipc in (1, 10, 50, 100)] == [(1, 1), (1, 50), (1, 50), (10, 100)]
    assert DMOptions(lr_img=3).rate(50) == (3, None)


def attention_by_hand(net, x):
    """The features of images, and the attention maps of each in all layers but the last."""
    maps = []
    for layer in net.trunk:
        x = layer(x)
        if isinstance(layer, torch.nn.ReLU):
            summed = x.abs().sum(1).flatten(1)
            maps.append(summed / summed.square().sum(1, keepdim=True).sqrt())
    return x, maps[:-1]


def test_step_of_datadam_against_a_direct_computation():
    given = pairs(ipc=2, batch=7, lr=1.0)
    before = given.synthetic.images.detach().clone()
    loss = DistributionMatching(given, DataDAMOptions(precision="fp32", attention=50)).step(4)["loss"]
    net, x, total = given.fresh_network("convnet3", 4), before.clone().requires_grad_(), torch.zeros(())
    for y, real, _ in given.of_step(4):
        with torch.no_grad():
            f_real, real_maps = attention_by_hand(net, real)
        f_learned, maps = attention_by_hand(net, x[2 * y : 2 * y + 2])
        assert [each.shape[1] for each in maps] == [64, 16]
        total = total + (f_real.mean(0) - f_learned.mean(0)).pow(2).sum()
        for theirs, own in zip(real_maps, maps, strict=True):
            total = total + 50 * (theirs.mean(0) - own.mean(0)).pow(2).sum()
    (gradient,) = torch.autograd.grad(total, x)
    assert loss == pytest.approx(float(total.detach()), rel=1e-4)
    torch.testing.assert_close(given.synthetic.images.detach(), before - gradient, rtol=1e-3, atol=1e-4)


def test_attention_is_the_same_in_parts_and_leaves_the_network_without_hooks():
    net, x = network(), images(150)  # three parts
    features, maps = mean_attention(net, [x[:70], x[70:]])
    expected, of_each = attention_by_hand(net, x)
    torch.testing.assert_close(features, torch.stack([expected[:70].mean(0), expected[70:].mean(0)]))
    for found, each in zip(maps, of_each, strict=True):
        torch.testing.assert_close(found, torch.stack([each[:70].mean(0), each[70:].mean(0)]))
    assert not any(layer._forward_hooks for layer in net.trunk)


def test_datadam_refuses_a_network_without_attention_before_anything_is_kept(tmp_path):
    with pytest.raises(UserError, match="mlp has no layers whose attention could be matched; choose a ConvNet"):
        datadam.condense(tiny.training_set("noisy"), 1, DataDAMOptions(backbone="mlp"), 0, Run(tmp_path))
    assert not list(tmp_path.iterdir())


def test_pairs_share_their_augmentation_and_differ_by_class_and_step():
    given = pairs(ipc=2, batch=20, strategy="crop_rotate_color")
    plain = {y: (real, learned.detach()) for y, real, learned in pairs(ipc=2, batch=20).of_step(3)}
    first, again, other = (
        {y: (real, learned.detach()) for y, real, learned in given.of_step(step)} for step in (3, 3, 4)
    )
    for y in range(3):
        assert torch.equal(first[y][0], again[y][0]) and torch.equal(first[y][1], again[y][1])
        assert not torch.equal(first[y][1], plain[y][1])
        assert not torch.equal(first[y][0], other[y][0])
    same = Pairs(given.reals, given.synthetic, 20, "crop_rotate_color", 0)
    with torch.no_grad():
        for y, real, learned in same.of_step(3):  # the same images through both sides come out alike
            given.synthetic.images[2 * y : 2 * y + 2] = plain[y][0][:2]
            _, _, alike = next(p for p in given.of_step(3) if p[0] == y)
            torch.testing.assert_close(alike, real[:2])
            assert learned.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", ["convnet3-bn", "resnet18"])
def test_other_backbones_and_colour_images(name):
    data, truth = tiny.pictures(6, size=16, channels=3)
    train = tiny.TrainingSet(data, tiny.supervision("noisy", truth))
    reals = RealImages(train, standardisation(data.images), 1)
    given = Pairs(reals, Synthetic(initial_images(reals, 1, "noise", 0), 1, 0.1), 4, None, 0)
    start = given.synthetic.images.detach().clone()
    options = {"backbone": name, "precision": "fp32"}
    for task in (
        GradientMatching(given, GradientMatchingOptions(**options), Loops(1, 1)),
        DistributionMatching(given, DMOptions(**options)),
    ):
        assert task.step(0)["loss"] > 0
        moved = given.synthetic.images.detach()
        assert moved.isfinite().all() and (moved != start).flatten(1).any(1).all()
        start = moved.clone()


def test_gradients_of_real_images_are_the_same_values_in_parts():
    net, x = network(), images(150)
    for whole, parts in zip(weight_gradients(net, x, 2), target_gradients(net, x, 2, bf16=False), strict=True):
        torch.testing.assert_close(parts, whole.detach(), rtol=1e-3, atol=1e-6)
        assert not parts.requires_grad


def test_bf16_changes_a_gradient_less_than_another_batch_does():
    net, x = network(), images(64)
    exact, rough = (target_gradients(net, x, 0, bf16=bf16) for bf16 in (False, True))
    other = target_gradients(net, images(64, 5), 0, bf16=False)
    assert all(g.dtype == torch.float32 for g in rough)
    assert 0 < float(gradient_distance(exact, rough)) < 0.1 * float(gradient_distance(exact, other))
