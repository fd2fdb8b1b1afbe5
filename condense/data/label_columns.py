"""Names of the columns of a label table, and which column names the images; case-insensitive."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from condense.data.class_names import are_numbers, index_of, is_unknown, plain
from condense.data.file_keys import KEY_NAMES, Key, find_key
from condense.data.label_cells import split_candidates
from condense.errors import UserError

LABELS = ("candidates", "label", "labels", "suggested", "noisy_label", "train_labels", "aggregate")
OTHER_LABELS = ("class", "classes", "class_name", "class_label", "category", "choice", "target", "tag", "y")
TRUSTED, SPLIT = "trusted", "split"
_ASIDE = frozenset(
    {
        *(TRUSTED, SPLIT, "given", "suggested", "confidence", "likely_wrong", "clean_label", "clean_labels"),
        *("given_label", "predicted_label", "label_quality", "is_label_issue"),
        *("class_names", "name", "corruption"),
    }
)


def called(names: Sequence[str], columns: Collection[str]) -> str | None:
    """The first of some names that is a column, as the column is written."""
    written = {column.casefold(): column for column in columns}
    return next((written[name] for name in names if name in written), None)


def label_column(first: Sequence[str], last: Sequence[str], columns: Collection[str], what: str) -> str | None:
    """The column of the labels by its name; None where no name is a usual one.

    Args:
        first: names that mean the labels whatever else there is.
        last: names that do where there is no other; between them come those of `OTHER_LABELS`.
        columns: all columns.
        what: what to call the table in an error.

    Raises:
        UserError: two columns may be meant.
    """
    found = called(first, columns)
    if found is not None:
        return found
    others = [column for column in columns if column.casefold() in OTHER_LABELS]
    if len(others) > 1:
        raise UserError(f"{what} has {others[0]!r} and {others[1]!r}; call the column of the labels 'label'.")
    return others[0] if others else called(last, columns)


def key_of(
    columns: Mapping[str, list[str]],
    files: Sequence[str] | None,
    num_images: int,
    labels: Collection[str],
    what: str,
    lines: Sequence[int] | None = None,
) -> Key | None:
    """The column that names the images, see `find_key`, among those that are not known to be something else."""
    aside = {name.casefold() for name in labels} | (_ASIDE - KEY_NAMES) | {*LABELS, *OTHER_LABELS}
    possible = {name: cells for name, cells in columns.items() if name.casefold() not in aside}
    return find_key(possible, files, num_images, what, lines)


def refuse_unknown_texts(
    columns: Mapping[str, list[str]], labels: Collection[str], classes: Sequence[str], what: str
) -> None:
    """Refuse a table without a key that has columns of text nobody can place: one of them may be meant as the key.

    Raises:
        UserError: there is such a column.
    """
    known = index_of(classes)

    def is_label(cell: str) -> bool:
        return is_unknown(cell, among_numbers=True) or all(
            plain(part) in known for part in split_candidates(cell, what)
        )

    for name, cells in columns.items():
        if name in labels or name.casefold() in _ASIDE | {*LABELS} or all(map(_is_figure, cells)):
            continue
        if are_numbers(cells) or all(map(is_label, cells)):
            continue
        raise UserError(
            f"{what}: the column {name!r} (with {cells[0]!r}) holds neither the image files nor labels, and without a "
            "column of the files nothing tells which row belongs to which image; add one, or remove this column."
        )


def _is_figure(cell: str) -> bool:
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True
