"""Parts of exported folders: the Hugging Face dataset card, WebDataset shards, checksums."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import yaml

from condense.grid import png
from condense.json_values import JSON
from condense.sets.condensed_set import CondensedSet
from condense.sets.datasheet import datasheet, licence_of

SHARD = 10_000  # images in one tar file
SUMS = "SHA256SUMS"


def dataset_card(condensed: CondensedSet, file: str, features: list[dict[str, JSON]]) -> str:
    """README.md of a folder on the Hugging Face hub: YAML front matter for `load_dataset`, then the datasheet.

    Args:
        condensed: the set.
        file: its parquet file, relative to the folder.
        features: the columns' features, as `datasets` writes them in YAML.
    """
    size = len(condensed)
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    front = {
        "license": licence_of(condensed).known_as,
        "task_categories": ["image-classification"],
        "tags": ["dataset-condensation", "dataset-distillation", "noisy-labels"],
        "size_categories": [next((name for most, name in bounds if size < most), "1M<n<10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": file}]}],
        "dataset_info": {"features": features},
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{datasheet(condensed)}"


def write_tar_shards(condensed: CondensedSet, folder: Path) -> None:
    """Write train-000000.tar …: for each image NNNNNN.png, .cls (the label) and .json, in the order of the set.

    The .json holds label and class, and where they exist soft_labels, source_index and weights. Equal sets give equal
    bytes.
    """
    pictures, extras = condensed.pictures(), [(n, a) for n, a in condensed.arrays() if n in _EXTRAS]
    for start in range(0, len(condensed), SHARD):
        with tarfile.open(folder / f"train-{start // SHARD:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for place in range(start, min(start + SHARD, len(condensed))):
                label = int(condensed.labels[place])
                told = {"label": label, "class": condensed.classes[label]}
                told |= {name: np.asarray(array[place]).tolist() for name, array in extras}
                _add(tar, f"{place:06d}.png", png(pictures[place]))
                _add(tar, f"{place:06d}.cls", str(label).encode())
                _add(tar, f"{place:06d}.json", json.dumps(told).encode())


_EXTRAS = ("soft_labels", "source_index", "weights")


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of all files in the folder, for `sha256sum --check`."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}" for file in files
    ]
    (folder / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
