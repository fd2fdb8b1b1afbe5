"""The contents of the review page: the images to show, their pictures, and the noise of each class's labels."""

from __future__ import annotations

import base64
import io
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from condense.data.decode import LEVELS, Unreadable, decode, look
from condense.data.pictures import full_scale
from condense.data.types import Images, Mask
from condense.evaluate.image_issues import ImageIssues, conflicting, image_issues
from condense.evaluate.review_page import ClassNoise, Item, ReviewPage
from condense.machine import best_device
from condense.pipeline.decisions import identity, label_rows
from condense.pipeline.fast_labels import Features, pixel_components
from condense.pipeline.plan import Plan
from condense.pipeline.relabelling import Relabelling

MOST_SHOWN = 2000  # images on a page
MOST_OUTLIERS = 60
LIKELIEST = 5  # classes shown per image
LARGEST_SIDE = 384  # pixels of an embedded picture
MOST_EMBEDDED = 48 * 2**20  # bytes of all embedded pictures

PictureOf = tuple[str | None, str | None]
"""A picture as a data URI, and the URL of the original relative to the page."""


def review_page(plan: Plan, relabelling: Relabelling, folder: Path, features: Features | None = None) -> ReviewPage:
    """The review page of a relabelling, for `folder`.

    Near-duplicates and outliers are found by `features` [n, d], or by the pixels when None.
    """
    found, source = relabelling.suggestions, plan.source
    observed = source.supervision.observed
    x = pixel_components(source.train.images) if features is None else features
    issues = image_issues(x, device=best_device())
    twins = conflicting(issues.twins, observed)
    outliers = _worst(issues)
    chosen = _chosen(relabelling, twins, outliers)
    place = {image: number for number, image in enumerate(chosen)}
    beside = {image: group for group in twins for image in group}
    likeliest = np.argsort(-found.posterior, axis=1, kind="stable")[:, :LIKELIEST]
    files, truth = relabelling.files, source.truth
    items = [
        Item(
            row=image,
            file=files[image],
            picture=picture,
            original=original,
            given=[] if source.supervision.unlabelled[image] else _classes(source.supervision.candidates[image]),
            suggested=int(found.suggested[image]),
            likeliest=[(int(y), float(found.posterior[image, y])) for y in likeliest[image]],
            likely_wrong=bool(found.likely_wrong[image]),
            outlier=image in outliers,
            twins=[place[other] for other in beside.get(image, ()) if other != image and other in place],
            true=None if truth is None else int(truth.labels[image]),
        )
        for image, (picture, original) in zip(chosen, _pictures(plan, chosen, folder), strict=True)
    ]
    told = relabelling.to_json()
    return ReviewPage(
        title=f"{source.train.name}: labels to review",
        told=told,
        data=identity(source),
        rows=label_rows(source, source.supervision),
        classes=source.train.classes,
        items=items,
        left_out=len(set(_suspects(relabelling)) - set(chosen)),
        noise=class_noise(relabelling),
        transition=found.transition,
        settings=_settings(plan, relabelling),
        apply_command=_apply_command(plan),
    )


def class_noise(relabelling: Relabelling) -> list[ClassNoise]:
    """The estimated noise in the labels of each class."""
    found, supervision = relabelling.suggestions, relabelling.source.supervision
    observed, num_classes = supervision.observed, supervision.num_classes
    summary = []
    for y in range(num_classes):
        labelled = observed == y
        wrong = labelled & found.likely_wrong
        really = found.posterior[wrong].sum(0)
        really[y] = 0
        confused = int(really.argmax()) if wrong.any() else None
        summary.append(
            ClassNoise(
                given=int(labelled.sum()),
                likely_wrong=int(wrong.sum()),
                share_wrong=float(found.suspicion[labelled].mean()) if labelled.any() else None,
                confused_with=confused,
                suggested=int((found.suggested == y).sum()),
            )
        )
    return summary


def _classes(candidates: Mask) -> list[int]:
    return [int(y) for y in np.flatnonzero(candidates)]


def _suspects(relabelling: Relabelling) -> list[int]:
    """Images with a suggestion, likely wrong labels before all others, each by decreasing suspicion."""
    found = relabelling.suggestions
    asked = np.flatnonzero(found.likely_wrong | found.changed)
    order = np.lexsort((-found.suspicion[asked], ~found.likely_wrong[asked]))
    return [int(image) for image in asked[order]]


def _worst(issues: ImageIssues) -> list[int]:
    outliers = np.flatnonzero(issues.outlier)
    order = np.argsort(-issues.distance[outliers], kind="stable")
    return [int(image) for image in outliers[order][:MOST_OUTLIERS]]


def _chosen(relabelling: Relabelling, twins: Sequence[tuple[int, ...]], outliers: Sequence[int]) -> list[int]:
    """The images on the page: suspects, near-duplicates that disagree, outliers; the last two have reserved places."""
    others = list(dict.fromkeys([*(image for group in twins for image in group), *outliers]))[: MOST_SHOWN // 2]
    kept = set(others)
    suspects = [image for image in _suspects(relabelling) if image not in kept][: MOST_SHOWN - len(others)]
    wanted = {*suspects, *others}
    ordered = [image for image in _suspects(relabelling) if image in wanted]
    return [*ordered, *(image for image in others if image not in set(ordered))]


def _pictures(plan: Plan, chosen: Sequence[int], folder: Path) -> Iterator[PictureOf]:
    """Each image at a readable size, embedded while there is room; original files are linked too."""
    files, room = plan.source.files, MOST_EMBEDDED
    home = None if files is None else Path(plan.recipe.data.name)
    for image in chosen:
        original = None
        if files is None or home is None:
            encoded = _png(plan.source.train.images[image])
        else:
            original = _link(home / files[image], folder)
            encoded = _readable(plan, home / files[image], plan.source.train.images[image])
        room -= len(encoded)
        yield (encoded if room >= 0 else None), original


def _readable(plan: Plan, file: Path, as_read: Images) -> str:
    """The original, rotated and composited as when it was read, with sides of at most `LARGEST_SIDE` pixels."""
    try:
        white = full_scale([look(file)])
        picture = decode(file, as_read.shape[2] == 1, LEVELS[plan.recipe.data.background], white)
    except Unreadable:  # changed since it was read
        return _png(as_read)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    if max(picture.size) <= 64:
        return _png(np.asarray(picture).reshape(picture.height, picture.width, -1))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _png(image: Images) -> str:
    from condense.evaluate.figures import png_data_uri

    return png_data_uri(image)


def _link(file: Path, folder: Path) -> str:
    """The URL of a file, relative to the page in `folder` if possible."""
    try:
        return quote(Path(os.path.relpath(file.absolute(), folder.absolute())).as_posix())
    except ValueError:  # on another drive
        return file.absolute().as_uri()


def _settings(plan: Plan, relabelling: Relabelling) -> list[tuple[str, str]]:
    return [
        ("data", f"{plan.source.train.name}, {len(plan.train):,} training images"),
        ("labels", f"{plan.train.supervision.kind}, {plan.train.corruption.spec}"),
        ("seed", str(plan.recipe.seed)),
        ("asked", asked(relabelling)),
        ("time", f"{relabelling.seconds:.0f} s"),
    ]


def asked(relabelling: Relabelling) -> str:
    """The models used, with their weights if there are several."""
    several = len(relabelling.asked) > 1
    return ", ".join(f"{name} (weight {weight:g})" if several else name for name, weight in relabelling.asked.items())


def _apply_command(plan: Plan) -> str:
    """The command that applies decisions to the same data."""
    data = plan.recipe.data
    values: dict[str, object] = {
        "--root": data.root,
        "--labels": data.labels,
        "--noise": None if data.noise == "none" else data.noise,
        "--seed": plan.recipe.seed or None,
        "--image-size": data.image_size,
        "--fit": None if data.fit == "crop" else data.fit,
        "--background": None if data.background == "white" else data.background,
    }
    options = [word for name, value in values.items() if value is not None for word in (name, str(value))]
    if data.skip_unreadable:
        options.append("--skip-unreadable")
    if data.noise_seed is not None and data.noise_seed != plan.recipe.seed:
        options += ["--set", f"data.noise_seed={data.noise_seed}"]
    return shlex.join(["dmis", "relabel", data.name, *options, "--apply", "decisions.json"])
