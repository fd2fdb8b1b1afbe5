"""What goes with a set wherever it goes: how it was made, what for, whose the data are, checksums.

The questions are those of Gebru et al. (2021), "Datasheets for Datasets", https://arxiv.org/abs/1803.09010, as far as a
file can answer them; what its maker alone knows is asked for in so many words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from condense.sets.condensed_set import CondensedSet
from condense.text import shortened, visible

NAME = "DATASHEET.md"
_LONGEST = 20_000  # characters of a recipe or of notes


@dataclass(frozen=True)
class Licence:
    """Terms of a named data set.

    Attributes:
        known_as: its identifier on the Hugging Face hub.
        told: the terms in words, and where they stand.
    """

    known_as: str
    told: str


LICENCES: Mapping[str, Licence] = MappingProxyType(
    {
        "digits": Licence(
            "cc-by-4.0",
            "CC BY 4.0 (E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning "
            "Repository, https://doi.org/10.24432/C50P49)",
        ),
        "fashion-mnist": Licence(
            "mit", "MIT (Xiao, Rasul & Vollgraf 2017, https://github.com/zalandoresearch/fashion-mnist)"
        ),
        "cifar10": Licence(
            "unknown", "none stated by its authors (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html)"
        ),
        "cifar100": Licence(
            "unknown", "none stated by its authors (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html)"
        ),
        "imagenette": Licence(
            "other",
            "Apache-2.0 for the choice of images (https://github.com/fastai/imagenette); the images are ImageNet's, "
            "for research that is not commercial, under its terms of access (https://www.image-net.org/download)",
        ),
    }
)
ORACLE = "**The true labels went into it (oracle): a bound for comparisons, no result of learning from wrong labels.**"
PURPOSE = """To train small networks quickly, to compare methods of condensation (`dmis evaluate`), to try settings
before all the data are used. It does not replace the data where their variety counts, and nothing was tried about
fairness between groups of people. Compare networks trained on it with networks trained on as many random images,
never on all."""
TERMS = """What was made from data falls under their terms too. Images of condensed sets can resemble training images;
`dmis audit` looks for copies. Where the data show people, ask whether they agreed."""
UNKNOWN = Licence("unknown", "not known to the program: **ask whoever made the data, and write it here**")


def licence_of(condensed: CondensedSet) -> Licence:
    """Terms of the data a set was made from, as far as they are known."""
    return LICENCES.get(condensed.provenance.data_name.lower(), UNKNOWN)


def datasheet(condensed: CondensedSet) -> str:
    """The datasheet of a set as Markdown."""
    made = condensed.provenance
    title = f"{visible(shortened(made.data_name, 200))}, {visible(made.method)}, {condensed.ipc} per class"
    parts = [f"# Datasheet of a condensed set: {title}"]
    if condensed.uses_true_labels:
        parts.append(ORACLE)
    parts += ["## What it is", _what(condensed), "## How it was made", _how(condensed)]
    parts += ["The recipe, from which `dmis condense -c` makes it again:", f"```json\n{_json(made.recipe)}\n```"]
    parts += ["## What it is for", PURPOSE, "## Whose the data are"]
    parts.append(f"Licence of {visible(shortened(made.data_name, 200))}: {licence_of(condensed).told}. {TERMS}")
    checked = "of images, labels and preprocessing; `dmis validate` checks it in the .h5 file"
    parts += ["## Checksums", f"SHA-256 `{condensed.sha256()}` ({checked})."]
    return "\n\n".join(parts) + "\n"


def _what(condensed: CondensedSet) -> str:
    process = condensed.preprocessing
    height, width, channels = condensed.images.shape[1:]
    kind = "real images of the data" if condensed.source_index is not None else "synthetic images"
    whitened = ", after ZCA whitening" if process.zca_mean is not None else ""
    return "\n".join(
        [
            f"- {len(condensed)} {kind}, {condensed.ipc} of each of {condensed.num_classes} classes, class after class",
            f"- {height} x {width} pixels, channels: {channels}",
            f"- classes: {_listed(condensed)}",
            f"- pixels in [0, 1] are normalised with mean {_numbers(process.mean)} and standard deviation "
            f"{_numbers(process.std)}{whitened}",
        ]
    )


def _how(condensed: CondensedSet) -> str:
    made = condensed.provenance
    revision = f", revision {visible(made.git_revision)}" if made.git_revision else ""
    rate = "" if made.corruption_rate is None else f", {made.corruption_rate:.1%} imprecise"
    cost = made.cost
    return "\n".join(
        [
            f"- method {visible(made.method)}, seed {made.seed}",
            f"- dmis {visible(made.package_version) or 'of unknown version'}{revision}",
            f"- {visible(made.created) or 'at an unknown time'}",
            f"- data {visible(shortened(made.data_name, 200))}, fingerprint `{visible(made.data_fingerprint)}`",
            f"- labels {visible(made.supervision)}; made imprecise on purpose: {visible(made.corruption)}{rate}",
            f"- {cost.seconds:,.0f} s, {cost.network_evaluations:,} images passed through networks, "
            f"{cost.peak_memory_bytes / 2**30:.1f} GiB",
            f"- {'sealed by a checksum' if made.sealed else '**no checksum vouches for what is told here**'}",
        ]
    )


def _listed(condensed: CondensedSet) -> str:
    shown = [visible(shortened(name, 60)) for name in condensed.classes[:200]]
    return ", ".join(shown) + (f" and {condensed.num_classes - 200} more" if condensed.num_classes > 200 else "")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in np.asarray(values).tolist())


def _json(value: object) -> str:
    return shortened(json.dumps(value, indent=1, default=str), _LONGEST).replace("```", "'''")
