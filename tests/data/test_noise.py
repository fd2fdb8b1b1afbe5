"""Instance-dependent noise by its formula, annotators, mixtures, long tails."""

import numpy as np
import pytest

from condense.data import corrupt, digits, instance
from condense.data.noise import imprecise, long_tail
from condense.data.noise_spec import parse_noise
from condense.data.types import ImageData, Source, Supervision, Truth
from condense.data.votes import from_votes
from condense.errors import UserError


def blank(labels: np.ndarray, num_classes: int = 10) -> Source:
    """Blank images of the given classes."""
    names = tuple("abcdefghij"[:num_classes])
    images = ImageData(np.zeros((len(labels), 1, 1, 1), dtype=np.uint8), names, "letters", "train")
    truth = Truth(labels.astype(np.int64))
    return Source(images, Supervision.from_labels(labels, num_classes, trusted=True), truth, None, None)


def balanced(n: int) -> Source:
    return blank(np.arange(n) % 10)


@pytest.mark.parametrize("image", [0, 1, 700, 1296])
def test_instance_probabilities_are_the_formula(image):
    """p = q softmax(x W_y) with the true class left out, p_y = 1 - q; one image at a time, in float64."""
    source, rate, seed = digits.load(), 0.4, 3
    labels, y = source.truth.labels, int(source.truth.labels[image])
    found = instance.label_probabilities(labels, source.train.images, rate, 10, seed)
    q = instance.flip_rates(rate, len(labels), seed)[image]
    x = source.train.images[image].transpose(2, 0, 1).ravel() / 127.5 - 1
    scores = np.array([x @ instance.class_weights(64, 10, y, seed)[:, z].astype(float) for z in range(10)])
    wrong = [z for z in range(10) if z != y]
    odds = np.exp(scores[wrong] - scores[wrong].max())
    expected = np.zeros(10)
    expected[y], expected[wrong] = 1 - q, q * odds / odds.sum()
    np.testing.assert_allclose(found[image], expected, atol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_flip_rates_are_a_truncated_normal():
    rates = instance.flip_rates(0.4, 100_000, 0)
    assert rates.min() >= 0 and rates.max() <= 1
    assert abs(rates.mean() - 0.4) < 0.002 and abs(rates.std() - 0.1) < 0.002
    cut = instance.flip_rates(0.05, 100_000, 0)  # much of the bell lies below 0: the mean rises
    assert cut.min() >= 0 and 0.08 < cut.mean() < 0.12


def test_instance_noise_hits_its_rate_and_follows_the_image():
    source = digits.load()
    twice = np.concatenate([np.arange(1297)] * 8)
    labels, train = source.truth.take(twice), source.train.take(twice)
    given, record = corrupt.apply("instance:0.4", labels, train, 0)
    assert given.kind == "noisy" and record.spec == "instance:0.4"
    assert record.overall_rate == np.mean(given.observed != labels.labels)
    assert abs(record.overall_rate - 0.4) < 0.015
    wrong = np.where(given.observed == labels.labels, -1, given.observed).reshape(8, 1297)
    pairs = (wrong[0] >= 0) & (wrong[1] >= 0)
    assert (wrong[0] == wrong[1])[pairs].mean() > 0.6, "copies of an image are taken for the same wrong class"
    with pytest.raises(UserError, match="depends on the image"):
        corrupt.transition_matrix("instance:0.4", source.train.classes, "digits")


def test_annotators_give_candidates_that_may_miss_the_truth():
    source = balanced(60_000)
    given, record = corrupt.apply("annotators:0.4", source.truth, source.train, 0)
    missed = ~given.candidates[np.arange(60_000), source.truth.labels]
    assert abs(missed.mean() - 0.4**3) < 0.004
    agreed = 0.6**3 + 9 * (0.4 / 9) ** 3
    assert abs(given.single.mean() - agreed) < 0.01
    assert record.overall_rate == np.mean(given.observed != source.truth.labels)
    assert not given.trusted.any() and given.kind == "noisy-partial"


def test_votes_become_candidates():
    given = from_votes(np.array([[0, 0, 2], [1, -1, -1], [-1, -1, -1]]), 3)
    assert given.candidates.astype(int).tolist() == [[1, 0, 1], [0, 1, 0], [1, 1, 1]]
    assert given.trusted.tolist() == [False, False, True]
    assert given.doubtful.tolist() == [True, True, False] and given.kind == "mixture"
    with pytest.raises(UserError, match="Annotator 1 answers 3 for image 0"):
        from_votes(np.array([[0, 3]]), 3)
    with pytest.raises(UserError, match="Annotator 0 answers -2"):
        from_votes(np.array([[-2, 0]]), 3)


@pytest.mark.parametrize("n", [1000, 997])
def test_mixtures_keep_their_shares_exactly(n):
    source, noise = balanced(n), parse_noise("mix:clean=0.1,sym:1=0.4,partial:1=0.3,unlabeled=0.2")
    given, record = imprecise(source, noise, 5)
    kinds = given.supervision
    clean = kinds.single & kinds.trusted
    lost = kinds.unlabelled  # partial:1 has all candidates too: trusted, and indistinguishable
    counts = clean.sum(), kinds.noisy.sum(), lost.sum()
    for count, share in zip(counts, (0.1, 0.4, 0.5), strict=True):
        assert abs(count - share * n) < 1.001
    assert (kinds.observed[clean] == source.truth.labels[clean]).all()
    assert (kinds.observed[kinds.noisy] != source.truth.labels[kinds.noisy]).all()
    assert record.overall_rate == pytest.approx(1 - clean.mean()) and record.seed == 5
    assert record.spec == "mix:clean=0.1,sym:1=0.4,partial:1=0.3,unlabeled=0.2"
    again, other = (imprecise(source, noise, seed)[0].supervision.fingerprint() for seed in (5, 6))
    assert kinds.fingerprint() == again != other


def test_a_mixture_of_one_is_that_kind():
    source = balanced(500)
    alone, record = imprecise(source, parse_noise("mix:sym:0.4=1"), 2)
    plain, same = corrupt.apply("sym:0.4", source.truth, source.train, 2)
    assert alone.supervision.fingerprint() == plain.fingerprint() and record == same


def test_long_tails_have_the_published_sizes():
    """CIFAR-10-LT with factor 100, as Cui et al. (2019) and their followers count it."""
    source = balanced(50_000)
    kept = long_tail(source.truth, 10, 100, 0)
    sizes = np.bincount(source.truth.labels[kept]).tolist()
    assert sizes == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert (np.diff(kept) > 0).all()


def test_a_long_tail_keeps_images_labels_truth_and_files_together():
    labels = np.arange(300) % 3
    plain = blank(labels, 3)
    images = ImageData(np.arange(300).astype(np.uint8)[:, None, None, None], plain.train.classes, "n", "train")
    files = tuple(f"{number}.png" for number in range(300))
    source = Source(images, plain.supervision, plain.truth, None, None, files)
    tail, record = imprecise(source, parse_noise("longtail:10+sym:0.5"), 1)
    assert np.bincount(tail.truth.labels).tolist() == [100, 31, 10]
    numbers = [int(name.removesuffix(".png")) for name in tail.files]
    np.testing.assert_array_equal(tail.train.images[:, 0, 0, 0], np.array(numbers) % 256)
    np.testing.assert_array_equal(tail.truth.labels, labels[numbers])
    assert record.overall_rate == np.mean(tail.supervision.observed != tail.truth.labels)
    only, plain_record = imprecise(source, parse_noise("longtail:10"), 1)
    assert only.files == tail.files and plain_record.overall_rate == 0
    assert only.supervision.kind == "labelled"


def test_every_class_keeps_an_image():
    kept = long_tail(balanced(100).truth, 10, 1e6, 0)
    assert np.bincount(balanced(100).truth.labels[kept]).tolist() == [10, 2, *[1] * 8]


@pytest.mark.parametrize(
    "text",
    [
        *("none", "sym:0.4", "class-partial", "longtail:100", "longtail:50+sym:0.4"),
        *("mix:clean=0.5,annotators:0.2=0.5", "longtail:2+mix:unlabeled=0.25,instance:0.3=0.75"),
    ],
)
def test_requests_are_recorded_as_written(text):
    assert str(parse_noise(text)) == text and parse_noise(str(parse_noise(text))) == parse_noise(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("longtail", "longtail:100"),
        ("longtail:0.5", "at least 1"),
        ("longtail:inf", "at least 1"),
        ("longtail:10+sim:0.4", "did you mean 'sym'"),
        ("longtale:10", "did you mean 'longtail'"),
        ("mix", "needs a share"),
        ("mix:clean", "needs a share"),
        ("mix:clean=0.5,sym:0.4=0.4", "add up to 0.9"),
        ("mix:clean=0,sym:0.4=1", "needs a share"),
        ("mix:clean=0.5,sim:0.4=0.5", "did you mean 'sym'"),
        ("mix:clean=0.5,sym=0.5", "written like sym:0.4"),
        ("sym:0.4+longtail:10", "between 0 and 1"),
    ],
)
def test_bad_requests_say_what_to_write(text, message):
    with pytest.raises(UserError, match=message):
        parse_noise(text)


def test_noise_needs_the_truth():
    source = Source(balanced(20).train, balanced(20).supervision, None, None, None)
    with pytest.raises(UserError, match="no clean labels, so 'longtail:10'"):
        imprecise(source, parse_noise("longtail:10"), 0)
