import pytest
import torch
import torch.nn.functional as F
import torchvision

from condense.classifiers import layers, networks, resnets
from condense.errors import UserError


def build(name="convnet3", in_channels=3, image_size=32, num_classes=10, seed=0):
    return networks.build(name, in_channels=in_channels, image_size=image_size, num_classes=num_classes, seed=seed)


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "in_channels", "image_size", "expected"),
    [
        ("convnet3", 3, 32, 320_010),  # baselines of DC, DSA, DM, MTT
        ("convnet3", 1, 28, 317_706),
        ("convnet3-bn", 3, 32, 320_010),
        ("convnet3", 1, 8, 1_280 + 2 * 147_584 + 3 * 256 + 1_290),
        ("convnet3", 3, 64, 3_584 + 2 * 147_584 + 3 * 256 + 81_930),
        ("resnet18", 3, 32, 11_173_962),  # the usual ResNet-18 for CIFAR-10
        ("resnet34-bn", 3, 32, 21_282_122),
        ("mlp", 1, 28, (784 + 1) * 128 + 129 * 128 + 1_290),
        ("convnet1", 3, 32, 3_584 + 256 + 128 * 16**2 * 10 + 10),
        ("convnet2-bn", 3, 32, 3_584 + 147_584 + 2 * 256 + 128 * 8**2 * 10 + 10),
        ("convnet4", 3, 32, 3_584 + 3 * 147_584 + 4 * 256 + 128 * 2**2 * 10 + 10),
        ("lenet", 3, 32, 62_006),  # torch's own tutorial network
        ("lenet", 1, 28, 61_706),
        ("alexnet", 3, 32, 9_728 + 614_592 + 442_624 + 442_560 + 331_968 + 30_730),  # convolutions, then 192·4²
        ("vgg11-bn", 3, 32, 9_231_114),  # the usual VGG-11 for CIFAR-10
        ("vgg11", 1, 28, 9_231_114 - 2 * 9 * 64),
        ("wrn16-4", 3, 32, 2_748_890),  # 2.7 M in the paper, 2,748,890 in its public code
        ("wrn40-10-bn", 3, 32, 55_841_754),  # 55.8 M in the paper
        ("vit-tiny", 3, 32, 25_088 + 512 + 65 * 512 + 6 * 1_577_984 + 1_024 + 5_130),
    ],
)
def test_parameter_counts(name, in_channels, image_size, expected):
    with torch.device("meta"):
        assert count(build(name, in_channels, image_size)) == expected


def wide_resnet_parameters(depth, k, classes):
    """Convolutions and norms of WRN-depth-k for RGB images, after Table 1 of the paper."""
    total, width = 3 * 9 * 16, 16
    for channels in (16 * k, 32 * k, 64 * k):
        for _ in range((depth - 4) // 6):
            total += 2 * width + 9 * width * channels + 2 * channels + 9 * channels**2
            total += width * channels if width != channels else 0
            width = channels
    return total + 2 * width + (width + 1) * classes


@pytest.mark.parametrize(("depth", "k"), [(16, 4), (40, 10)])
def test_wide_resnets_have_the_parameters_of_the_formula(depth, k):
    with torch.device("meta"):
        assert count(build(f"wrn{depth}-{k}", num_classes=7)) == wide_resnet_parameters(depth, k, 7)


@pytest.mark.parametrize("name", [name for name in networks.NAMES if "-bn" not in name and "40" not in name])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 64)])
def test_every_network_accepts_every_image_or_explains_why_not(name, channels, size):
    try:
        networks.check_fits(name, size)
    except UserError as error:
        choices = str(error).partition("choose ")[2].rstrip(".").split(", ")
        assert f"found {size}x{size}" in str(error) and name not in choices
        assert set(choices) <= set(networks.NAMES) and choices
        return
    with torch.device("meta"):
        network = build(name, channels, size, num_classes=7)
        x = torch.empty(2, channels, size, size)
        features = network.features(x)
        assert features.shape == (2, network.head.in_features) and network(x).shape == (2, 7)


def test_cross_table_has_a_network_of_each_kind():
    assert set(networks.CROSS) <= set(networks.NAMES)
    for name in networks.CROSS:
        networks.check_fits(name, 32)


@pytest.mark.parametrize(
    ("name", "channels", "size", "features"),
    [
        ("convnet3", 1, 8, 128),
        ("convnet3", 1, 28, 2048),
        ("convnet3", 3, 28, 1152),
        ("convnet3", 3, 64, 8192),
        ("resnet18", 1, 28, 512),
        ("resnet18-bn", 1, 8, 512),
    ],
)
def test_features_feed_the_head(name, channels, size, features):
    network = build(name, channels, size, num_classes=7).eval()
    x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        assert network.features(x).shape == (2, features)
        torch.testing.assert_close(network.head(network.features(x)), network(x))
        assert network(x).shape == (2, 7)


def test_instance_norm_by_hand():
    norm = layers.instance_norm(6)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(6))
        norm.bias.copy_(torch.randn(6))
    x = torch.randn(3, 6, 5, 4)
    mean = x.sum((2, 3), keepdim=True) / 20
    variance = ((x - mean) ** 2).sum((2, 3), keepdim=True) / 20
    scale, shift = norm.weight[:, None, None], norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), (x - mean) / (variance + 1e-5).sqrt() * scale + shift)
    torch.testing.assert_close(norm(x), F.instance_norm(x, weight=norm.weight, bias=norm.bias))


def test_instance_norm_networks_treat_every_image_by_itself():
    network = build("convnet3", 1, 8).train()
    x = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(network(x)[2:3], network(x[2:3]))


@pytest.mark.parametrize("shape", [(2, 5, 8, 8), (2, 5, 7, 9), (1, 1, 2, 2), (3, 4, 14, 28)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pooling_equals_torch(shape, dtype):
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    ours, theirs = layers.HalvingPool()(x), F.avg_pool2d(x, 2)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    (grad_ours,) = torch.autograd.grad((ours * weight).sum(), x)
    (grad_theirs,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(grad_ours, grad_theirs)


def test_pooling_can_be_differentiated_twice():
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layers.HalvingPool()(x).pow(3), x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("channels", "groups", "size", "padding"), [(1, 1, 8, 1), (1, 1, 5, 3), (3, 1, 8, 1), (4, 4, 6, 1), (6, 2, 6, 1)]
)
def test_convolution_of_images_equals_torch(channels, groups, size, padding, bias):
    ours = layers.ImageConv2d(channels, 8, 3, padding=padding, groups=groups, bias=bias)
    theirs = torch.nn.Conv2d(channels, 8, 3, padding=padding, groups=groups, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, channels, size, size).bfloat16().float().requires_grad_()
    for dtype in (torch.float32, torch.bfloat16):
        results = []
        for layer in (ours, theirs):
            with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                y = layer(x)
            assert y.dtype == dtype
            weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
            gradients = torch.autograd.grad((y.float() * weight).sum(), [*layer.parameters(), x])
            results.append([y.float(), *(gradient / y[:, 0].numel() for gradient in gradients)])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)


def test_convolution_of_images_in_bfloat16_can_be_differentiated_twice():
    layer = layers.ImageConv2d(1, 4, 3, padding=1)
    x = torch.randn(2, 1, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    (gradient,) = torch.autograd.grad(y.float().pow(2).sum(), layer.weight, create_graph=True)
    (second,) = torch.autograd.grad(gradient.pow(2).sum(), x)
    exact = torch.nn.Conv2d(1, 4, 3, padding=1)
    exact.load_state_dict(layer.state_dict())
    (gradient,) = torch.autograd.grad(exact(x).pow(2).sum(), exact.weight, create_graph=True)
    (expected,) = torch.autograd.grad(gradient.pow(2).sum(), x)
    assert F.cosine_similarity(second.flatten(), expected.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("name", ["resnet18-bn", "resnet34-bn"])
def test_resnet_equals_torchvision_with_a_small_stem(name):
    ours = build(name, 3, 16, seed=3).eval()
    theirs = getattr(torchvision.models, name.removesuffix("-bn"))(num_classes=10).eval()
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = torch.nn.Identity()
    # Modules are listed in the same order except the shortcut, which both list last in its block.
    weights = dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    theirs.load_state_dict(weights)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_vgg_equals_torchvision():
    ours = build("vgg11-bn", 3, 32, seed=3).eval()
    theirs = torchvision.models.vgg11_bn(init_weights=False).features.eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.trunk.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.features(x), theirs(x).flatten(1))


def test_wide_block_activates_before_the_shortcut():
    """x with norm and ReLU by hand: an identity shortcut takes x itself, a convolution takes what ReLU gives."""
    x = torch.randn(2, 4, 6, 6)
    same, other = resnets.WideBlock(4, 4, 1, layers.instance_norm), resnets.WideBlock(4, 8, 2, layers.instance_norm)
    active = F.relu(F.instance_norm(x))
    torch.testing.assert_close(same(x), x + same.body(active))
    torch.testing.assert_close(other(x), F.conv2d(active, other.shortcut.weight, stride=2) + other.body(active))


def test_vision_transformer_sees_grey_patches():
    network = build("vit-tiny", 1, 8).eval()
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:1], network(x[:1]))
        network.trunk.conv_proj.weight.zero_()
        torch.testing.assert_close(network(x)[0], network(x)[1])
    assert not any(module.p for module in network.modules() if isinstance(module, torch.nn.Dropout))


def test_initialisation_depends_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = build(seed=1).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    second, other = build(seed=1).state_dict(), build(seed=2).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_unknown_name_lists_near_ones():
    with pytest.raises(UserError, match=r'no network is called "ResNet-18"; nearest: .*resnet18'):
        build("ResNet-18")


@pytest.mark.parametrize(
    ("name", "size", "needed"),
    [("convnet3", 7, 8), ("convnet4", 15, 16), ("resnet18", 8, 9), ("wrn16-4", 4, 5), ("lenet", 11, 12)],
)
def test_too_small_images_are_refused(name, size, needed):
    with pytest.raises(UserError, match=f"at least {needed}x{needed}, found {size}x{size}"):
        build(name, 1, size)
    build(name, 1, needed)


def test_patches_must_tile_the_image():
    with pytest.raises(UserError, match="at least 4x4 and a multiple of 4, found 30x30; choose mlp"):
        build("vit-tiny", 3, 30)
