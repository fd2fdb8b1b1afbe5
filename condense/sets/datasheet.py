"""The datasheet that accompanies every exported set: how it was made, its purpose, licence of the data, checksums.

The questions are those of Gebru et al. (2021), "Datasheets for Datasets", https://arxiv.org/abs/1803.09010, as far as
the file's contents can answer them; the rest is left to its author to fill in, and marked as such.
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
        told: the terms in words, with their source.
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
            "for non-commercial research, under its terms of access (https://www.image-net.org/download)",
        ),
    }
)
ORACLE = "**Made with the true labels (oracle): an upper bound for comparisons, not a result of noisy-label learning.**"
PURPOSE = """To train small networks quickly, to compare condensation methods (`dmis evaluate`), and to try out settings
before using all the data. It does not replace the data where their variety matters, and fairness between groups of
people was not examined. Compare networks trained on it with networks trained on as many random images, never with
networks trained on all the data."""
TERMS = """Whatever is made from data falls under their terms too. Condensed images can resemble training images;
`dmis audit` looks for copies. If the data show people, check whether they gave their consent."""
UNKNOWN = Licence("unknown", "not known to dmis: **ask the authors of the data, and write it here**")


def licence_of(condensed: CondensedSet) -> Licence:
    """Licence of the data from which a set was made; `UNKNOWN` for data that are not in `LICENCES`."""
    return LICENCES.get(condensed.provenance.data_name.lower(), UNKNOWN)


def datasheet(condensed: CondensedSet) -> str:
    """The datasheet of a set as Markdown."""
    made = condensed.provenance
    title = f"{visible(shortened(made.data_name, 200))}, {visible(made.method)}, {condensed.ipc} per class"
    parts = [f"# Datasheet of a condensed set: {title}"]
    if condensed.uses_true_labels:
        parts.append(ORACLE)
    parts += ["## What it is", _what(condensed), "## How it was made", _how(condensed)]
    parts += ["The recipe, with which `dmis condense -c` reproduces it:", f"```json\n{_json(made.recipe)}\n```"]
    parts += ["## What it is for", PURPOSE, "## Whose the data are"]
    parts.append(f"Licence of {visible(shortened(made.data_name, 200))}: {licence_of(condensed).told}. {TERMS}")
    checked = "of images, labels and preprocessing; `dmis validate` checks it in the .h5 file"
    digest = made.notes.get("unpacked_from", condensed.sha256())
    parts += ["## Checksums", f"SHA-256 `{visible(str(digest))}` ({checked})."]
    return "\n\n".join(parts) + "\n"


def _what(condensed: CondensedSet) -> str:
    process = condensed.preprocessing
    height, width, channels = condensed.images.shape[1:]
    kind = "real images of the data" if condensed.source_index is not None else "synthetic images"
    whitened = ", after ZCA whitening" if process.zca_mean is not None else ""
    return "\n".join(
        [
            f"- {len(condensed)} {kind}, {condensed.ipc} per class, {condensed.num_classes} classes, sorted by class",
            *_packing(condensed),
            f"- {height} x {width} pixels, channels: {channels}",
            f"- classes: {_listed(condensed)}",
            f"- pixels in [0, 1] are normalised with mean {_numbers(process.mean)} and standard deviation "
            f"{_numbers(process.std)}{whitened}",
        ]
    )


def _packing(condensed: CondensedSet) -> list[str]:
    """The line about pictures that share an image, in the file or before they were cut apart; none without any."""
    if condensed.pack > 1:
        told = f"every image holds {condensed.packing} pictures; networks see each enlarged to the size of the image"
    elif "unpacked_from" in condensed.provenance.notes:
        told = f"cut out of images of {condensed.packing} pictures each and enlarged to their size"
    else:
        return []
    return [f"- {told}"]


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
            f"- labels {visible(made.supervision)}; injected noise: {visible(made.corruption)}{rate}",
            f"- {cost.seconds:,.0f} s, {cost.network_evaluations:,} images passed through networks, "
            f"{cost.peak_memory_bytes / 2**30:.1f} GiB",
            f"- {'sealed by a checksum' if made.sealed else '**this record is not protected by a checksum**'}",
        ]
    )


def _listed(condensed: CondensedSet) -> str:
    shown = [visible(shortened(name, 60)) for name in condensed.classes[:200]]
    return ", ".join(shown) + (f" and {condensed.num_classes - 200} more" if condensed.num_classes > 200 else "")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in np.asarray(values).tolist())


def _json(value: object) -> str:
    return shortened(json.dumps(value, indent=1, default=str), _LONGEST).replace("```", "'''")
