"""Findings about a data set's labels, as a value and as files that every other command can read."""

from __future__ import annotations

import csv
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.data.corrupt import imprecise_share
from condense.data.label_cells import write_candidates
from condense.data.types import Beliefs, Labels, Mask, Source, Supervision, Truth
from condense.errors import UserError
from condense.generator.labels import labeller
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.suggestions import Suggestions, suggest
from condense.generator.model import Generator
from condense.generator.training.two_stage import train_stages
from condense.machine import best_device
from condense.methods._generate import GeneratorOptions, training_cost
from condense.pipeline import fast_labels, probabilities
from condense.pipeline.data import tell_of_unjudged
from condense.pipeline.plan import Plan
from condense.run import JSON, Run, atomic_path
from condense.text import to_cell

TABLE, BELIEFS, REPORT = "labels.csv", "posteriors.npz", "review.html"
COLUMNS = (
    *("file", "given_label", "predicted_label", "label_quality", "is_label_issue"),  # cleanlab's names
    *("suggested", "confidence"),
)


@dataclass(frozen=True, eq=False)
class Relabelling:
    """Beliefs about the labels of a data set.

    Attributes:
        source: the data with their given labels.
        suggestions: the beliefs and the suggestions derived from them.
        asked: weights of the models used: "generator", and "labeller" or "classifier" for a second opinion; or the
            model used instead of a generator.
        network_evaluations: images passed through networks, without the training of a given generator.
        seconds: wall-clock time.
        folder: folder written by `save`; None if not saved.
        left_out: limitations of relabelling without a generator, in words; None with one.
    """

    source: Source
    suggestions: Suggestions
    asked: dict[str, float]
    network_evaluations: int
    seconds: float
    folder: Path | None = None
    left_out: str | None = None

    @property
    def suggested(self) -> Labels:
        """The most likely class of each image given image and label, argmax p(y | x, z): int64 [n]."""
        return self.suggestions.suggested

    @property
    def confidence(self) -> Beliefs:
        """p(suggested | x, z), float32 [n] in [0, 1]."""
        return self.suggestions.confidence

    @property
    def predicted(self) -> Labels:
        """The most likely class of each image given the image alone, argmax p(y | x): int64 [n]."""
        return np.asarray(self.image_posterior.argmax(1), dtype=np.int64)

    @property
    def label_quality(self) -> Beliefs:
        """Probability that one of the given labels is right, 1 - suspicion: float32 [n] in [0, 1]."""
        return np.asarray(1 - self.suggestions.suspicion, dtype=np.float32)

    @property
    def likely_wrong(self) -> Mask:
        """Bool [n]: the most doubtful labels, as many as are expected to be wrong."""
        return self.suggestions.likely_wrong

    @property
    def posterior(self) -> Beliefs:
        """p(y | x, z), float32 [n, c], rows summing to 1."""
        return self.suggestions.posterior

    @property
    def image_posterior(self) -> Beliefs:
        """p(y | x), computed without the label: float32 [n, c], rows summing to 1."""
        return self.suggestions.from_image

    @property
    def transition(self) -> Beliefs:
        """The estimated transition matrix T [c, c], rows are true classes, each summing to 1."""
        return self.suggestions.transition

    @property
    def files(self) -> tuple[str, ...]:
        """The file of each image, or its index."""
        return self.source.files or tuple(map(str, range(len(self.source.train))))

    def to_json(self) -> dict[str, JSON]:
        """Paths (null before `save`), counts, the transition matrix and the scores as a JSON object.

        `likely_wrong` counts labels that are likely wrong, `without_likelier` those of them without a more likely
        class; `would_change` single labels for which another is suggested, `would_fill_in` images without a single
        label for which one is suggested. `found` is the result of `judged`, null if the truth is unknown.
        """
        found, single = self.suggestions, self.source.supervision.single
        kept = found.supervision.candidates[np.arange(len(single)), found.suggested]
        return {
            "labels": self._path(TABLE),
            "posteriors": self._path(BELIEFS),
            "report": self._path(REPORT),
            "images": len(self.source.train),
            "likely_wrong": int(found.likely_wrong.sum()),
            "without_likelier": int((found.likely_wrong & kept).sum()),
            "would_change": int((found.changed & single).sum()),
            "would_fill_in": int((~single).sum()),
            "classes": list(self.source.train.classes),
            "transition": found.transition.astype(float).tolist(),
            "asked": self.asked,
            "left_out": self.left_out,
            "found": None if self.source.truth is None else judged(found, self.source.truth),
            "network_evaluations": self.network_evaluations,
            "seconds": self.seconds,
        }

    def save(self, folder: str | Path) -> Relabelling:
        """Write the table `labels.csv` and `posteriors.npz` into a folder.

        `labels.csv` has a row for each training image: its file (or index); under cleanlab's names the given label
        (a|b: candidates; empty: none), the class predicted from the image alone, the probability that the given label
        is right, and whether it is likely wrong; then the suggested class, given image and label, and its probability.
        `posteriors.npz` holds `posterior`, `image_posterior`, `transition`, `class_names` and `files`. Existing files
        are replaced.

        Returns:
            This relabelling with `folder` set.

        Raises:
            UserError: the folder cannot be written.
        """
        folder = Path(folder)
        if folder.is_file():
            raise UserError(f"{folder} is a file, but a folder is needed; choose another one.")
        folder.mkdir(parents=True, exist_ok=True)
        self._write_table(folder / TABLE)
        self._write_beliefs(folder / BELIEFS)
        return dataclasses.replace(self, folder=folder)

    def _path(self, name: str) -> str | None:
        return None if self.folder is None else str(self.folder / name)

    def _write_table(self, path: Path) -> None:
        found, classes = self.suggestions, self.source.train.classes
        unlabelled, predicted, quality = found.supervision.unlabelled, self.predicted, self.label_quality
        cells = [to_cell(write_candidates([name])) for name in classes]
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(COLUMNS)
            for row, file in enumerate(self.files):
                given = [] if unlabelled[row] else np.flatnonzero(found.supervision.candidates[row]).tolist()
                table.writerow(
                    (
                        to_cell(file),
                        to_cell(write_candidates(classes[y] for y in given)),
                        cells[predicted[row]],
                        f"{quality[row]:.4f}",
                        bool(found.likely_wrong[row]),
                        cells[found.suggested[row]],
                        f"{found.confidence[row]:.4f}",
                    )
                )

    def _write_beliefs(self, path: Path) -> None:
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                posterior=self.posterior,
                image_posterior=self.image_posterior,
                transition=self.transition,
                class_names=np.array(self.source.train.classes),
                files=np.array(self.files),
            )


def relabelling_options(plan: Plan) -> GeneratorOptions:
    """The options of the plan's generator. Raises `UserError` unless its method is dmis and it repairs given labels."""
    if not isinstance(plan.options, GeneratorOptions) or plan.recipe.method != "dmis":
        raise UserError(f"Labels are repaired by the method dmis, not {plan.recipe.method!r}; leave the method out.")
    if plan.recipe.clean_first not in ("none", "labeller"):
        raise UserError(
            f"`dmis relabel` judges the labels as given; leave out clean_first: {plan.recipe.clean_first}, which "
            "belongs to `dmis condense`."
        )
    return plan.options


def relabel_plan(plan: Plan, run: Run) -> Relabelling:
    """The beliefs about every training image of the plan's generator, trained in `run` or given, or of its labeller.

    Raises:
        UserError: the method is not dmis, or the given generator or the labeller does not fit the data.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    started, options = time.perf_counter(), relabelling_options(plan)
    if isinstance(plan.labeller, LabellerOptions):
        fitted = labeller.fit(plan.train, plan.labeller, plan.recipe.seed, run, device=best_device())
        spent, seconds = fitted.network_evaluations, time.perf_counter() - started
        return Relabelling(plan.source, fitted.suggestions, {"labeller": 1.0}, spent, seconds)
    if options.generator is not None:
        return ask(Generator.load(Run(options.generator), best_device()), plan, run)
    generator = train_stages(plan.train, options.network, options.train, None, plan.recipe.seed, run)
    found = ask(generator, plan, run)
    spent = training_cost(generator.record).network_evaluations + found.network_evaluations
    return dataclasses.replace(found, network_evaluations=spent, seconds=time.perf_counter() - started)


def relabel_fast(plan: Plan) -> Relabelling:
    """Relabel by a simple classifier trained in seconds, see `fast_labels`. Raises as `out_of_sample`."""
    return _by_linear_classifier(plan, None, "linear classifier", fast_labels.LEFT_OUT)


def relabel_by_features(features: Beliefs, plan: Plan, whose: str) -> Relabelling:
    """As `relabel_fast`, on checked features [n, d]; `whose` is their name. Raises as `out_of_sample`."""
    return _by_linear_classifier(plan, features, f"linear classifier on {whose}", fast_labels.LEFT_OUT_BESIDE_FEATURES)


def _by_linear_classifier(plan: Plan, features: Beliefs | None, asked: str, left_out: str) -> Relabelling:
    started, train, seed = time.perf_counter(), plan.train, plan.recipe.seed
    not_judged = fast_labels.not_judged(train, seed)
    found = probabilities.weighed(fast_labels.out_of_sample(train, seed, features), train.supervision, not_judged)
    tell_of_unjudged(not_judged, train.supervision, train.images.classes)
    return Relabelling(plan.source, found, {asked: 1.0}, 0, time.perf_counter() - started, left_out=left_out)


def relabel_by(pred_probs: Beliefs, plan: Plan, asked: str) -> Relabelling:
    """Relabel by out-of-sample probabilities [n, c] that are already checked; `asked`: name of their source."""
    started = time.perf_counter()
    found = probabilities.weighed(pred_probs, plan.train.supervision)
    seconds = time.perf_counter() - started
    return Relabelling(plan.source, found, {asked: 1.0}, 0, seconds, left_out=probabilities.LEFT_OUT)


def ask(generator: Generator, plan: Plan, run: Run) -> Relabelling:
    """Relabel by a trained generator, with its second opinion unless the plan declines it.

    Raises `UserError` if the generator does not fit the data.
    """
    started = time.perf_counter()
    generator.check_data(plan.train.images)
    if not relabelling_options(plan).train.second_opinion:
        generator = dataclasses.replace(generator, opinion=None)
    before = generator.evaluations
    found = suggest(generator, plan.train, run)
    evaluations, seconds = generator.evaluations - before, time.perf_counter() - started
    return Relabelling(plan.source, found, _asked(generator), evaluations, seconds)


def judged(found: Suggestions, truth: Truth) -> dict[str, float | None]:
    """Scores of finding wrong labels, see `label_scores`, and the calibration error of the confidence as "ece"."""
    scores = label_scores(found.supervision, truth, found.suggested, found.likely_wrong, found.suspicion)
    return {**scores, "ece": calibration_error(found.confidence, found.suggested == truth.labels)}


def calibration_error(confidence: Beliefs, right: Mask, bins: int = 15) -> float:
    """Expected calibration error, Σ_b n_b/n |mean confidence - accuracy|, in [0, 1], over bins of equal width.

    Source: Naeini, Cooper & Hauskrecht (2015); 15 bins as in Guo et al. (2017), https://arxiv.org/abs/1706.04599.

    Args:
        confidence: p of the suggested class, float [n] in [0, 1].
        right: whether the suggestion is the true class, bool [n].
        bins: number of bins.
    """
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=confidence.astype(np.float64) - right, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def label_scores(
    given: Supervision, truth: Truth, suggested: Labels, marked: Mask, suspicion: npt.NDArray[np.floating]
) -> dict[str, float | None]:
    """How well wrong labels were found and corrected; fractions in [0, 1], None if undefined.

    Args:
        given: the given labels.
        truth: the true classes.
        suggested: suggested class of each image, int64 [n].
        marked: labels marked as wrong, bool [n].
        suspicion: doubt about each label, larger for more doubt, [n].

    Returns:
        wrong (fraction of images whose given labels miss the truth), precision and recall of the marked ones, auroc of
        the suspicion among labels that may be wrong; right_before and right_after, fractions of images whose single
        given label, and whose suggested label, is right.
    """
    from sklearn.metrics import roc_auc_score

    doubtful = given.doubtful
    wrong = ~given.candidates[np.arange(len(truth)), truth.labels]
    hit = marked & wrong
    mixed = doubtful.any() and 0 < wrong[doubtful].sum() < doubtful.sum()
    return {
        "wrong": float(wrong.mean()),
        "precision": float(hit.sum() / marked.sum()) if marked.any() else None,
        "recall": float(hit.sum() / wrong.sum()) if wrong.any() else None,
        "auroc": float(roc_auc_score(wrong[doubtful], suspicion[doubtful])) if mixed else None,
        "right_before": 1 - imprecise_share(given, truth),
        "right_after": float((suggested == truth.labels).mean()),
    }


def _asked(generator: Generator) -> dict[str, float]:
    if generator.opinion is None:
        return {"generator": 1.0}
    return dict(zip(("generator", generator.opinion.judge.NAME), generator.opinion.exponents, strict=True))
