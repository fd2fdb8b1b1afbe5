"""`dmis audit`: check the labels of a condensed set or of training data, and look for copied images."""

from __future__ import annotations

from pathlib import Path

from condense.classifiers import networks
from condense.errors import UserError
from condense.evaluate.audit_report import AuditReport, write_audit_report
from condense.evaluate.judge import STEPS
from condense.files import prepare_output
from condense.json_values import JSON
from condense.pipeline.audit_data import audit_data
from condense.pipeline.audit_set import audit_set
from condense.pipeline.data import given_labels, load_source
from condense.recipe import DataRecipe
from condense.run import Run
from condense.sets.hdf5 import is_condensed_set, read

NO_CLASSIFIER = "none"


def audit(
    target: str,
    data: DataRecipe,
    *,
    classifier: str = "convnet3",
    steps: int = STEPS,
    seed: int = 0,
    html: Path | None = None,
    force: bool = False,
    progress: bool = False,
) -> dict[str, JSON]:
    """Audit a condensed set against the data it was made from, or a data set by itself.

    Args:
        target: an .h5 condensed set, or a data set as accepted by `condense.data.sources.load`.
        data: for a set, its training data, by default those it records; for a data set, its labels and noise.
        classifier: one of `networks.NAMES`, which judges labels whose true class is unknown; or "none".
        steps: training steps of the classifier (for a data set, for each half).
        seed: seed of the classifier, of samples, and of noise without its own seed.
        html: file for a report; None for none.
        force: whether an existing report is replaced.
        progress: whether bars are drawn on stderr.

    Returns:
        kind "condensed set" or "data set", then the findings; fractions are in [0, 1].

    Raises:
        UserError: a file cannot be read, set and data do not match, or a name or number is out of range.
    """
    if classifier != NO_CLASSIFIER and classifier not in networks.NAMES:
        raise UserError(
            f"no classifier is called {classifier!r}; choose {NO_CLASSIFIER} or one of {', '.join(networks.NAMES)}."
        )
    if steps < 1:
        raise UserError(f"a classifier cannot be trained for {steps} steps; give at least 1.")
    if html is not None:
        prepare_output(html, force=force)
    network = None if classifier == NO_CLASSIFIER else classifier
    result, report = _audited(target, data, network, steps, seed, Run(None, progress=progress))
    if html is not None:
        write_audit_report(html, report)
    return result


def _audited(
    target: str, data: DataRecipe, network: str | None, steps: int, seed: int, run: Run
) -> tuple[dict[str, JSON], AuditReport]:
    if is_condensed_set(Path(target)):
        return audit_set(Path(target), read(Path(target)), data, network, steps, seed, run)
    data = data.model_copy(update={"name": target})
    given = given_labels(load_source(data), data, seed if data.noise_seed is None else data.noise_seed)
    return audit_data(given, network, steps, seed, run)
