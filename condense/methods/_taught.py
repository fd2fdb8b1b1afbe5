"""Shared by methods with a teacher: their cost, and the record of soft labels."""

from __future__ import annotations

from pydantic import Field

from condense.classifiers.networks import NetworkName
from condense.classifiers.teacher import InTurn, Teacher, TeacherOptions
from condense.data.types import TrainingSet
from condense.run import JSON, peak_memory_bytes
from condense.sets.condensed_set import Cost, Floats


class LabelTeacher(TeacherOptions):
    """The network that judges crops and gives soft labels."""

    network: NetworkName = Field("convnet3-bn", description="architecture, e.g. convnet3-bn, resnet18-bn")
    epochs: int = Field(50, ge=1, description="passes over the images")
    batch_size: int = Field(128, ge=2, description="images per step")
    augment: InTurn = Field("crop_flip", description="augmentations applied in turn per image; digits are not flipped")


def teaching(train: TrainingSet, options: TeacherOptions) -> int:
    """Images that will pass through a teacher in its training; 0 for a given one."""
    return 0 if options.folder is not None else options.epochs * int((~train.supervision.unlabelled).sum())


def cost_with(teacher: Teacher, seconds: float, passes: int) -> Cost:
    """The cost of training the teacher, and of `seconds` and `passes` of images through the network after it.

    The training of a given teacher counts too, so that methods stay comparable.
    """
    images_seen = teacher.record.images_seen
    return Cost(
        seconds=teacher.record.seconds + seconds,
        network_evaluations=images_seen + passes,
        peak_memory_bytes=peak_memory_bytes(),
        images_seen=images_seen,
    )


def notes_with(teacher: Teacher, soft_labels: Floats, temperature: float) -> dict[str, JSON]:
    """Notes on the teacher and its soft labels, float32 [n, c], for the record."""
    return {
        "teacher": teacher.record.to_json(),
        "soft_label_temperature": temperature,
        "soft_label_bytes": soft_labels.nbytes,
    }
