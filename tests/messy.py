"""A folder of pictures as messy as people's are: every form of file, some unreadable, some twice, some misfiled."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("bars", "disc", "square", "triangle")
FORMS = (
    *("plain jpg", "plain png", "rotated by EXIF", "shape in alpha", "palette", "16 bits", "cmyk", "animated", "grey"),
    *("tiff", "webp", "grey with alpha", "upper case", "jfif"),
)
SHARE_WRONG, SHARE_TEST = 0.2, 0.2


@dataclass
class Messy:
    """What was written.

    Attributes:
        folder: with train/ and test/, a folder per class in each.
        truth: class of every readable training picture, by its path relative to `folder`.
        misfiled: those of them that lie in another class's folder.
        unreadable: files that no program can read.
        duplicates: files that are copies of another one.
        forms: how many pictures of each of FORMS.
    """

    folder: Path
    truth: dict[str, str] = field(default_factory=dict)
    misfiled: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    forms: dict[str, int] = field(default_factory=dict)


def drawn(kind: str, width: int, height: int, generator: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A shape on a background, RGB, and its mask, L: dark shapes on bright ground, bars horizontal."""
    mask = Image.new("L", (width, height))
    pen, side = ImageDraw.Draw(mask), min(width, height)
    left, top = (width - side) / 2 + 0.1 * side, (height - side) / 2 + 0.1 * side
    box = (left, top, left + 0.8 * side, top + 0.8 * side)
    if kind == "disc":
        pen.ellipse(box, fill=255)
    elif kind == "square":
        pen.rectangle(box, fill=255)
    elif kind == "triangle":
        pen.polygon([(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) / 2, box[1])], fill=255)
    else:
        for third in range(3):
            y = box[1] + 0.3 * side * third
            pen.rectangle((box[0], y, box[2], y + 0.15 * side), fill=255)
    ground = generator.integers(190, 256, 3) + generator.normal(0, 6, (height, width, 3))
    colour = generator.integers(0, 90, 3)
    pixels = np.where(np.asarray(mask)[..., None] > 127, colour, ground).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels), mask


def write(form: str, path: Path, kind: str, generator: np.random.Generator) -> Path:
    """One picture of a kind in a form; returns the file, whose ending is the form's."""
    width, height = (int(side) for side in generator.integers(24, 120, 2))
    width, height = (width, min(height, 2 * width)) if width < height else (min(width, 2 * height), height)
    picture, mask = drawn(kind, width, height, generator)
    match form:
        case "plain jpg" | "upper case" | "jfif":
            path = path.with_suffix({"plain jpg": ".jpg", "upper case": ".JPG", "jfif": ".jfif"}[form])
            picture.save(path, "JPEG", quality=90)
        case "rotated by EXIF":
            exif = Image.Exif()
            exif[0x0112] = 6  # to be turned by 90 degrees clockwise to be seen upright
            path = path.with_suffix(".jpg")
            picture.rotate(90, expand=True).save(path, quality=90, exif=exif)
        case "shape in alpha":
            picture = Image.new("RGBA", picture.size, (20, 20, 20, 0))
            picture.putalpha(mask)
            picture.save(path := path.with_suffix(".png"))
        case "palette":
            picture.convert("P", palette=Image.Palette.ADAPTIVE).save(path := path.with_suffix(".png"))
        case "16 bits":
            wide = np.asarray(picture.convert("L")).astype(np.uint16) * 257
            Image.fromarray(wide).save(path := path.with_suffix(".png"))
        case "cmyk":
            picture.convert("CMYK").save(path := path.with_suffix(".jpeg"), "JPEG", quality=90)
        case "animated":
            frames = [picture.convert("P"), Image.new("RGB", picture.size, (0, 0, 0)).convert("P")]
            frames[0].save(path := path.with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=100)
        case "grey":
            picture.convert("L").save(path := path.with_suffix(".png"))
        case "grey with alpha":
            grey = Image.new("LA", picture.size, (20, 0))
            grey.putalpha(mask)
            grey.save(path := path.with_suffix(".png"))
        case "tiff":
            picture.save(path := path.with_suffix(".tiff"))
        case "webp":
            picture.save(path := path.with_suffix(".webp"), lossless=True)
        case _:
            picture.save(path := path.with_suffix(".png"))
    return path


def make(folder: Path, pictures: int = 400, seed: int = 0) -> Messy:
    """Write `pictures` files that are pictures or pretend to be, and the other files found in such folders."""
    generator, made = np.random.default_rng(seed), Messy(folder)
    num_bad, num_twice = max(3, pictures // 50), max(2, pictures // 40)
    good = pictures - num_bad - num_twice
    for number in range(good):
        kind, form = CLASSES[number % 4], FORMS[(number // 4) % len(FORMS)]
        tested = number >= good * (1 - SHARE_TEST)
        wrong = not tested and generator.random() < SHARE_WRONG
        filed = generator.choice([name for name in CLASSES if name != kind]) if wrong else kind
        place = folder / ("test" if tested else "train") / str(filed)
        place.mkdir(parents=True, exist_ok=True)
        file = write(form, place / f"IMG_{number:04d} ({kind[0]})", kind, generator)
        made.forms[form] = made.forms.get(form, 0) + 1
        if not tested:
            name = file.relative_to(folder).as_posix()
            made.truth[name] = kind
            made.misfiled += [name] if wrong else []
    for number, name in enumerate(sorted(made.truth)[:: max(1, len(made.truth) // num_twice)][:num_twice]):
        source = folder / name
        others = [folder / "train" / kind for kind in CLASSES if kind != source.parent.name]
        place = others[0] if number == 0 else source.parent  # one copy is filed under another class
        copy = place / f"{source.stem} - Copy{source.suffix}"
        copy.write_bytes(source.read_bytes())
        made.duplicates.append(copy.relative_to(folder).as_posix())
        made.truth[made.duplicates[-1]] = made.truth[name]
        if place.name != made.truth[name]:
            made.misfiled.append(made.duplicates[-1])
    for number in range(num_bad):
        file = folder / "train" / CLASSES[number % 4] / f"bad {number}{('.jpg', '.png', '.gif')[number % 3]}"
        whole = io.BytesIO()
        drawn(CLASSES[0], 60, 60, generator)[0].save(whole, "JPEG")
        file.write_bytes((whole.getvalue()[:300], b"", b"<html>not found</html>")[number % 3])
        made.unreadable.append(file.relative_to(folder).as_posix())
    for junk in (
        ".DS_Store",
        "train/disc/Thumbs.db",
        "train/disc/._IMG_0001.jpg",
        "train/bars/.ipynb_checkpoints/x.png",
        "notes.txt",
    ):
        (folder / junk).parent.mkdir(parents=True, exist_ok=True)
        (folder / junk).write_bytes(b"junk")
    return made
