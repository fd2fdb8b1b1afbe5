import pytest
import torch
import torchvision.transforms.functional as TF

from condense import augment
from condense.errors import UserError

ALL = augment.DSA.split("_")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*u: float) -> torch.Tensor:
    return torch.tensor([[*u, *[0.0] * (augment.NUM_UNIFORM - len(u))]])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_siamese_does_not_depend_on_the_batch(name, channels):
    x = torch.randn(256, channels, 9, 9)
    for seed in range(5):
        few = augment.draw(name, 1, generator(seed))(x[:10])
        many = augment.draw(name, 1, generator(seed))(x)
        torch.testing.assert_close(few, many[:10], rtol=0, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_siamese_treats_equal_images_alike_and_independent_does_not(name):
    x = torch.randn(1, 3, 16, 16).expand(64, -1, -1, -1)
    alike = augment.draw(name, 1, generator())(x)
    apart = augment.independent(x, name, generator())
    torch.testing.assert_close(alike, alike[:1].expand_as(alike))
    assert (apart - apart[:1]).abs().amax((1, 2, 3)).gt(0).any()


def test_every_operation_is_chosen_and_about_equally_often():
    x = torch.randn(1, 3, 16, 16)
    strategy = "color_crop_cutout"
    counts = dict.fromkeys(strategy.split("_"), 0)
    for seed in range(600):
        out = augment.draw(strategy, 1, generator(seed))(x)
        for name in counts:  # the same numbers reach the operation whichever is chosen
            rng = generator(seed)
            torch.randint(3, (), generator=rng)
            expected = augment.OPERATIONS[name](x, torch.rand(1, augment.NUM_UNIFORM, generator=rng))
            counts[name] += int(torch.equal(out, expected))
    assert sum(counts.values()) >= 600  # a crop by nothing may equal no other operation, but none is missed
    assert all(150 < count < 260 for count in counts.values())  # 200 expected, standard deviation 11.5


@pytest.mark.parametrize("name", ALL)
def test_gradients_in_float64(name):
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: augment.independent(x, name, generator(1)), x)
    assert torch.autograd.gradcheck(lambda x: augment.draw(name, 1, generator(2))(x), x)


def test_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    augment.independent(torch.zeros(4, 1, 8, 8), augment.DSA, generator())
    assert torch.equal(before, torch.random.get_rng_state())


def test_color_in_closed_form():
    x = torch.randn(2, 3, 5, 5)
    same = augment.color(x, numbers(0.5, 0.5, 0.5))  # brightness 0, saturation 1, contrast 1
    torch.testing.assert_close(same, x)
    torch.testing.assert_close(augment.color(x, numbers(0.75, 0.5, 0.5)), x + 0.25)
    grey = augment.color(x, numbers(0.5, 0.0, 0.5))
    torch.testing.assert_close(grey, x.mean(1, keepdim=True).expand_as(x))
    flat = augment.color(x, numbers(0.5, 0.5, 0.0))  # contrast 0.5 halves every distance from the image mean
    mean = x.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(flat, mean + 0.5 * (x - mean))


def test_saturation_leaves_grey_images():
    x = torch.randn(3, 1, 5, 5)
    torch.testing.assert_close(augment.color(x, numbers(0.3, 0.9, 0.2)), augment.color(x, numbers(0.3, 0.1, 0.2)))


def test_crop_shifts_by_whole_pixels():
    x = torch.randn(2, 3, 32, 32)
    moved = augment.crop(x, numbers(0.999, 0.0))  # 12.5 % of 32 is 4: down by 4, left by 4
    torch.testing.assert_close(moved[:, :, 4:, :-4], x[:, :, :-4, 4:])
    assert not moved[:, :, :4].any() and not moved[:, :, :, -4:].any()
    torch.testing.assert_close(augment.crop(x, numbers(0.5, 0.5)), x)


def test_crop_shifts_uniformly():
    x = torch.zeros(4000, 1, 16, 16)
    x[:, :, 8, 8] = 1
    where = augment.crop(x, torch.rand(4000, 3, generator=generator())).flatten(1).argmax(1)
    assert set((where // 16).tolist()) == set((where % 16).tolist()) == {6, 7, 8, 9, 10}
    assert torch.bincount(where // 16)[6:].float().sub(800).abs().max() < 120  # 4.7 standard deviations


def test_cutout_zeroes_a_quarter_in_the_middle_and_less_at_the_edge():
    x = torch.ones(1, 3, 16, 16)
    assert (augment.cutout(x, numbers(0.5, 0.5)) == 0).sum() == 3 * 8 * 8
    assert (augment.cutout(x, numbers(0.0, 0.0)) == 0).sum() == 3 * 4 * 4
    assert (augment.cutout(x, numbers(0.999, 0.5)) == 0).sum() == 3 * 5 * 8


def test_flip_mirrors_half_of_the_images():
    x = torch.randn(1000, 1, 4, 4, generator=generator(1))
    out = augment.independent(x, "flip", generator())
    mirrored = (out == x.flip(3)).all(3).all(2).all(1)
    assert 420 < mirrored.sum() < 580
    torch.testing.assert_close(out[~mirrored], x[~mirrored])


def test_scale_of_one_and_rotation_by_nothing_are_the_identity():
    x = torch.randn(2, 3, 12, 12)
    one = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)
    torch.testing.assert_close(augment.scale(x, numbers(one, one)), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(augment.rotate(x, numbers(0.5)), x, rtol=0, atol=1e-5)


def test_scale_range():
    x = torch.ones(1, 1, 120, 120)
    shrunk = augment.scale(x, numbers(1 - 1e-7, 1 - 1e-7))  # looks 1.2 times as far: content is 100 wide
    assert abs(float(shrunk.sum()) / 100**2 - 1) < 0.02
    assert shrunk[0, 0, 0, 0] == 0
    torch.testing.assert_close(augment.scale(x, numbers(0.0, 0.0)), x)  # enlarged: nothing from outside


def test_rotation_agrees_with_torchvision():
    x = torch.randn(1, 3, 24, 24)
    for u in (0.0, 0.2, 0.9):
        ours = augment.rotate(x, numbers(u))
        theirs = TF.rotate(x, (2 * u - 1) * 15, interpolation=TF.InterpolationMode.BILINEAR)
        inside = (slice(None), slice(None), slice(5, -5), slice(5, -5))  # they treat the border differently
        torch.testing.assert_close(ours[inside], theirs[inside], rtol=0, atol=1e-3)


def test_unknown_operation_is_refused():
    with pytest.raises(UserError, match='names "mixup"; join any of color'):
        augment.draw("color_mixup", 1, generator())
