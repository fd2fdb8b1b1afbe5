import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from condense.errors import UserError
from condense.evaluate import neighbours
from condense.evaluate.generation import density_coverage, frechet_distance, inception_score, kernel_distance


def samples(n, m, dim, shift=0.5, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(dim, dim))
    return generator.normal(size=(n, dim)) @ mixing, generator.normal(shift, 1.3, size=(m, dim)) @ mixing


@pytest.mark.parametrize(("n", "m"), [(200, 150), (200, 7), (9, 7)], ids=["many", "few generated", "few of both"])
def test_frechet_equals_scipys_matrix_root_and_torch_fidelity(n, m):
    real, fake = samples(n, m, 12)
    cov_1, cov_2 = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    jitter = 1e-12 * np.eye(12)  # sqrtm refuses singular products
    root = sqrtm((cov_1 + jitter) @ (cov_2 + jitter)).real
    wanted = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(cov_1 + cov_2 - 2 * root)
    assert frechet_distance(real, fake) == pytest.approx(wanted, rel=1e-4)
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(real, fake) == pytest.approx(theirs, rel=1e-6)


def test_frechet_of_known_gaussians():
    real, _ = samples(400, 2, 6)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(real, real + 2) == pytest.approx(6 * 4)
    centre = real.mean(0)
    wider = centre + 3 * (real - centre)  # Σ₂ = 9Σ₁: tr(Σ + 9Σ - 6Σ) = 4 tr Σ
    assert frechet_distance(real, wider) == pytest.approx(4 * np.trace(np.cov(real, rowvar=False)))


def test_kernel_distance_equals_a_double_loop(monkeypatch):
    monkeypatch.setattr(neighbours.blocks, "__defaults__", (4,))
    real, fake = samples(9, 6, 5)

    def kernel(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / 5 + 1) ** 3

    within = [
        sum(kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1))
        for x in (real, fake)
    ]
    across = sum(kernel(a, b) for a in real for b in fake) / (9 * 6)
    assert kernel_distance(real, fake) == pytest.approx(sum(within) - 2 * across, rel=1e-10)


def test_kernel_distance_is_unbiased():
    generator = np.random.default_rng(0)
    found = [kernel_distance(generator.normal(size=(20, 3)), generator.normal(size=(20, 3))) for _ in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300) and min(found) < 0 < max(found)


@pytest.mark.parametrize("block", [7, 2048])
def test_density_and_coverage_equal_the_reference_package(block, monkeypatch):
    monkeypatch.setattr(neighbours.blocks, "__defaults__", (block,))
    real, fake = samples(80, 50, 6, shift=0.2)
    found = density_coverage(real, fake, (3, 5))
    for k in (3, 5):
        wanted = compute_prdc(real, fake, nearest_k=k)
        assert found[k] == (pytest.approx(wanted["density"]), pytest.approx(wanted["coverage"]))
        assert 0.1 < found[k][1] < 1


def test_density_and_coverage_at_their_ends():
    real, _ = samples(50, 2, 4)
    assert density_coverage(real, real, (3,))[3][1] == 1
    assert density_coverage(real, real + 1000, (3,)) == {3: (0, 0)}


def test_inception_score_equals_torch_fidelity_and_its_ends():
    logits = np.random.default_rng(0).normal(size=(60, 10)) * 2
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=1)["inception_score_mean"]
    assert inception_score(logits) == pytest.approx(theirs)
    assert inception_score(np.eye(10) * 100) == pytest.approx(10)
    assert inception_score(np.zeros((5, 10))) == pytest.approx(1)


def test_too_few_images():
    real, fake = samples(5, 4, 3)
    with pytest.raises(UserError, match="k = 5 nearest neighbours need at least 6 real images"):
        density_coverage(real, fake, (3, 5))
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(UserError, match="found 5 real and 1 generated"):
            distance(real, fake[:1])
