"""Export of condensed sets to the file formats of other programs; `FORMATS` lists them."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.errors import UserError
from condense.files import AnyPath, atomic_path, check_name, prepare_folder, prepare_output
from condense.grid import png
from condense.json_values import JSON
from condense.preprocessing import planes
from condense.sets import published_scales
from condense.sets.condensed_set import CondensedSet
from condense.sets.datasheet import NAME as DATASHEET
from condense.sets.datasheet import datasheet
from condense.sets.shards import dataset_card, write_sums, write_tar_shards

MARKER = "condensed.json"  # in exported folders; only a folder that has it is ever replaced
_UNSAFE = re.compile(r"[^\w .-]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names reserved by Windows


def export(condensed: CondensedSet, path: AnyPath, format: str, *, force: bool = False) -> None:
    """Write `condensed` to `path` in one of `FORMATS`, atomically; packed images are cut apart, as networks see them.

    Raises:
        UserError: the format is unknown; `path` has the suffix of another format, exists without `force`, or is a
            folder that no export made; a picture format for images without 1 or 3 channels; a library is missing.
        RunFailed: the disk is full; any previous contents of `path` are untouched.
    """
    path, condensed = Path(path), condensed.unpacked()
    if format not in FORMATS:
        near = difflib.get_close_matches(format, FORMATS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"there is no format {format!r}; {hint}choose one of {', '.join(FORMATS)}.")
    if format in FOLDERS and path.suffix.lower() in (*ENDINGS.values(), ".h5", ".hdf5", ".tar"):
        raise UserError(
            f"{path} is named like a file, but the format {format} makes a folder; choose a format with --format."
        )
    if format not in FOLDERS and path.suffix.lower() != ENDINGS[format]:
        raise UserError(f"{path}: files of the format {format} end in {ENDINGS[format]}; choose a name that does.")
    path = path.resolve()
    if format not in FOLDERS:
        prepare_output(path, force=force)
    else:
        check_name(path)
        _take_back(path)
        prepare_folder(path, force=force)
    replaces = path.is_dir() and any(path.iterdir())
    if replaces and not (path / MARKER).is_file():
        raise UserError(f"{path} is a folder that no export made, so --force does not replace it; choose another name.")
    with ExitStack() as afterwards, atomic_path(path) as temporary:
        FORMATS[format](condensed, temporary)
        if format in FOLDERS:
            _describe(condensed, temporary)
        if replaces:
            afterwards.enter_context(_set_aside(path))


def to_folder(condensed: CondensedSet, path: Path) -> None:
    """Write PNG files in one folder per class, as torchvision's ImageFolder reads them, and condensed.json.

    ImageFolder numbers classes in the order of their sorted folder names. So if the class names are not safe folder
    names, or do not sort in label order, each folder name begins with the zero-padded label.
    Learned pixels are clipped and rounded.
    """
    folders = folder_names(condensed.classes)
    pictures, digits = condensed.pictures(), len(str(condensed.ipc - 1))
    for place, (label, picture) in enumerate(zip(condensed.labels, pictures, strict=True)):
        folder = path / folders[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place % condensed.ipc:0{digits}}.png").write_bytes(png(picture))
    (path / MARKER).write_text(json.dumps(_description(condensed, folders), indent=1), encoding="utf-8")


def to_hf(condensed: CondensedSet, path: Path) -> None:
    """Write a folder for `datasets.load_dataset`: data/train-00000-of-00001.parquet, and the card as README.md."""
    file = path / "data" / "train-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    to_parquet(condensed, file)
    card = dataset_card(condensed, file.relative_to(path).as_posix(), _card_features(condensed))
    (path / "README.md").write_text(card, encoding="utf-8", newline="\n")


def to_webdataset(condensed: CondensedSet, path: Path) -> None:
    """Write train-000000.tar … for WebDataset, see `write_tar_shards`."""
    path.mkdir(parents=True)
    write_tar_shards(condensed, path)


def _describe(condensed: CondensedSet, folder: Path) -> None:
    """Add condensed.json (which marks the folder as an export), the datasheet and checksums to an exported folder."""
    if not (folder / MARKER).exists():
        told = json.dumps(_description(condensed, condensed.classes), indent=1)
        (folder / MARKER).write_text(told, encoding="utf-8")
    (folder / DATASHEET).write_text(datasheet(condensed), encoding="utf-8", newline="\n")
    write_sums(folder)


def to_npz(condensed: CondensedSet, path: Path) -> None:
    """Write arrays that `condense.data.sources.load` reads: images uint8 NHWC, labels int64, class_names.

    Also mean and std [C] (which normalise pixels in [0, 1]), the datasheet and, where they exist: zca_mean, zca_matrix,
    zca_inverse; pixels float32 NHWC of learned images (0 black, 1 white), soft_labels, soft_label_temperature,
    source_index, weights.
    """
    process = condensed.preprocessing
    zca = {name: getattr(process, name) for name in ("zca_mean", "zca_matrix", "zca_inverse")}
    arrays = {
        **dict(condensed.arrays()),
        "images": condensed.pictures(),
        "class_names": np.array(condensed.classes),
        "mean": np.array(process.mean),
        "std": np.array(process.std),
        "datasheet": np.array(datasheet(condensed)),
        **{name: array for name, array in zca.items() if array is not None},
    }
    if condensed.images.dtype == np.float32:
        arrays["pixels"] = condensed.unit_images()
    temperature = condensed.provenance.notes.get("soft_label_temperature")
    if condensed.soft_labels is not None and isinstance(temperature, int | float):
        arrays["soft_label_temperature"] = np.array(float(temperature))
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def to_vico(condensed: CondensedSet, path: Path) -> None:
    """Write the res_*.pt format of DC, DSA and DM (VICO-UoE/DatasetCondensation).

    {"data": [[images float32 [n, C, H, W] normalised, labels int64 [n]]], "accs_all_exps": {}, "mean": [C], "std": [C],
    "datasheet": str}; their programs take the last entry of "data". Images are normalised by "mean" and "std": those by
    which their code normalises the test images of a data set it knows, else the set's own, which a set with ZCA always
    keeps. The format cannot hold soft labels.
    """
    tensors = _hard_tensors(condensed, published_scales.VICO)
    images, labels = tensors.pop("images"), tensors.pop("labels")
    _save_tensors({"data": [[images, labels]], "accs_all_exps": {}, **tensors}, path)


def to_ddranking(condensed: CondensedSet, path: Path) -> None:
    """Write tensors for DD-Ranking's `image_tensor`, `hard_labels` and `soft_labels`, sorted by class.

    {"images": float32 [n, C, H, W] normalised, "labels": int64 [n], "mean": [C], "std": [C], "datasheet": str} and,
    where they exist, "soft_labels" float32 [n, c]. Normalised as by `to_vico`, with DD-Ranking's own numbers.
    """
    tensors = _hard_tensors(condensed, published_scales.DDRANKING)
    if condensed.soft_labels is not None:
        tensors["soft_labels"] = torch.from_numpy(condensed.soft_labels.copy())
    _save_tensors(tensors, path)


def to_parquet(condensed: CondensedSet, path: Path) -> None:
    """Write a table of image {bytes: PNG, path} and label, which Hugging Face `datasets` decodes by itself.

    Where they exist, soft_labels (float32 [c]), source_index and weights are further columns. The file's metadata hold
    the contents of the folder format's `condensed.json` (mean and std of the normalisation among them) under "dmis",
    and the datasheet under "datasheet".

    Raises:
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("writing parquet needs the library pyarrow; run: pip install 'dmis[parquet]'") from error
    images = [{"bytes": png(picture), "path": f"{place}.png"} for place, picture in enumerate(condensed.pictures())]
    features: dict[str, JSON] = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(condensed.classes)},
    }
    columns: dict[str, object] = {"image": images, "label": condensed.labels}
    if condensed.soft_labels is not None:
        columns["soft_labels"] = pyarrow.array(list(condensed.soft_labels), pyarrow.list_(pyarrow.float32()))
        features["soft_labels"] = {"_type": "Sequence", "feature": {"dtype": "float32", "_type": "Value"}}
    for name, array in (("source_index", condensed.source_index), ("weights", condensed.weights)):
        if array is not None:
            columns[name] = array
            features[name] = {"dtype": str(array.dtype), "_type": "Value"}
    told = {"huggingface": {"info": {"features": features}}, "dmis": _description(condensed, condensed.classes)}
    texts = {**{key: json.dumps(value) for key, value in told.items()}, "datasheet": datasheet(condensed)}
    table = pyarrow.table(columns).replace_schema_metadata(texts)
    content = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, content)
    path.write_bytes(content.getvalue())


FORMATS: Mapping[str, Callable[[CondensedSet, Path], None]] = MappingProxyType(
    {
        "folder": to_folder,
        "hf": to_hf,
        "webdataset": to_webdataset,
        "npz": to_npz,
        "vico": to_vico,
        "ddranking": to_ddranking,
        "parquet": to_parquet,
    }
)


FOLDERS = ("folder", "hf", "webdataset")
"""Formats that are folders."""
_NO_PLACE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "folder": ("soft_labels", "source_index", "weights"),
        "vico": ("soft_labels", "source_index", "weights"),
        "ddranking": ("source_index", "weights"),
    }
)
ENDINGS: Mapping[str, str] = MappingProxyType({"npz": ".npz", "vico": ".pt", "ddranking": ".pt", "parquet": ".parquet"})


def left_out(condensed: CondensedSet, format: str) -> tuple[str, ...]:
    """Parts of the set that a format cannot hold: soft_labels, source_index, weights, or unrounded pixels."""
    condensed = condensed.unpacked()
    lacking = [name for name, _ in condensed.arrays() if name in _NO_PLACE.get(format, ())]
    clipped = format in (*FOLDERS, "parquet") and condensed.images.dtype == np.float32
    return (*lacking, *(["pixels between and beyond the 256 shades"] if clipped else []))


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Folder names valid on every common file system, all different, which sort in the order of `classes`."""
    safe = [_UNSAFE.sub("_", name)[:60].strip(" .") for name in classes]
    unchanged = all(safe) and safe == list(classes) and safe == sorted(safe) and not any(map(_RESERVED.fullmatch, safe))
    if unchanged and len({name.casefold() for name in safe}) == len(safe):
        return tuple(safe)
    digits = len(str(len(safe) - 1))
    return tuple(f"{label:0{digits}}_{name}".rstrip(" .") for label, name in enumerate(safe))


def _description(condensed: CondensedSet, folders: Sequence[str]) -> dict[str, JSON]:
    process = condensed.preprocessing
    return {
        "classes": dict(zip(folders, condensed.classes, strict=True)),
        "mean": process.mean,
        "std": process.std,
        "zca": process.zca_mean is not None,
        "sha256": condensed.sha256(),
        "provenance": asdict(condensed.provenance),
    }


def _card_features(condensed: CondensedSet) -> list[dict[str, JSON]]:
    """The columns of `to_parquet` in the form that a dataset card's YAML uses."""
    names = {str(label): name for label, name in enumerate(condensed.classes)}
    features: list[dict[str, JSON]] = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
    ]
    if condensed.soft_labels is not None:
        features.append({"name": "soft_labels", "list": "float32"})
    for name, array in (("source_index", condensed.source_index), ("weights", condensed.weights)):
        if array is not None:
            features.append({"name": name, "dtype": str(array.dtype)})
    return features


def _hard_tensors(condensed: CondensedSet, scales: published_scales.Scales) -> dict[str, Tensor | list[float] | str]:
    """Images normalised as the receiving program normalises its test images, labels, that mean and std, datasheet."""
    scale = condensed.preprocessing
    if scale.zca_mean is None:
        known = published_scales.published(scales, condensed.provenance.data_name)
        scale = known if known is not None and len(known.mean) == len(scale.mean) else scale
    return {
        "images": scale.normalise(planes(condensed.unit_images())),
        "labels": torch.from_numpy(condensed.labels.copy()),
        "mean": list(scale.mean),
        "std": list(scale.std),
        "datasheet": datasheet(condensed),
    }


def _save_tensors(content: Mapping[str, Any], path: Path) -> None:
    buffer = io.BytesIO()  # torch reports a full disk less clearly than a plain write does
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())


def _aside(folder: Path) -> Path:
    """Temporary name of an older export while the new one replaces it; hashed, so that it cannot become too long."""
    name = hashlib.sha256(folder.name.encode(errors="surrogateescape")).hexdigest()[:16]
    return folder.with_name(f".replaced-{name}")


def _take_back(folder: Path) -> None:
    """Clean up after a killed export: restore the older one if nothing has replaced it, else delete it."""
    for aside in (_aside(folder), folder.with_name(f".replaced-{folder.name}"[:200])):
        if (aside / MARKER).is_file():
            if (folder / MARKER).is_file():
                shutil.rmtree(aside)
            elif not folder.exists():
                aside.rename(folder)


@contextmanager
def _set_aside(folder: Path) -> Iterator[None]:
    """Move `folder` out of the way; afterwards delete it if something has replaced it, else move it back."""
    aside = _aside(folder)
    folder.rename(aside)
    try:
        yield
    finally:
        if folder.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(folder)
