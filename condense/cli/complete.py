"""Shell completion. Lists defined in heavy modules are repeated here; a test compares the two."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

from condense import methods as registry
from condense import plugins
from condense.classifiers import arms as classifiers
from condense.watch import LOGS

DATA = ("digits", "fashion-mnist", "cifar10", "cifar100", "imagenette")
PROTOCOLS = (
    "hard",
    "hard-quick",
    "hard-adam",
    "hard-as-learned",
    "stored-labels",
    "quick",
    "soft",
    "soft-stored",
    "dmis",
)
NETWORKS = (
    "mlp",
    "convnet1",
    "convnet1-bn",
    "convnet2",
    "convnet2-bn",
    "convnet3",
    "convnet3-bn",
    "convnet4",
    "convnet4-bn",
    "lenet",
    "alexnet",
    "vgg11",
    "vgg11-bn",
    "resnet18",
    "resnet18-bn",
    "resnet34",
    "resnet34-bn",
    "wrn16-4",
    "wrn16-4-bn",
    "wrn40-10",
    "wrn40-10-bn",
    "vit-tiny",
)
FORMATS = ("folder", "hf", "webdataset", "npz", "vico", "ddranking", "parquet")
OBJECTIVES = ("dmis", "vanilla", "tdsm", "cad")
OF_GENERATORS = ("vanilla", "dmis", "dmis-ce")
NOISE = (
    "none",
    "sym:",
    "asym:",
    "pair:",
    "instance:",
    "partial:",
    "class-partial:",
    "annotators:",
    "unlabeled:",
    "longtail:",
    "mix:",
)


def one_of(*names: str) -> Callable[[str], list[str]]:
    """A completer that offers the `names` beginning with what was typed."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def recipes(incomplete: str) -> list[str]:
    """Names of the shipped recipes."""
    files = (entry.name for entry in resources.files("condense.recipes").iterdir())
    names = sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))
    return [name for name in names if name.startswith(incomplete) and not name.startswith("generator-")]


def methods(incomplete: str) -> list[str]:
    """Names of the methods."""
    return one_of(*registry.names())(incomplete)


def arms(incomplete: str) -> list[str]:
    """Names of the classifiers of `dmis classify`."""
    return one_of("all", *classifiers.names(), *OF_GENERATORS)(incomplete)


def data(incomplete: str) -> list[str]:
    """Names of the data sets."""
    return one_of(*DATA, *sorted(plugins.announced(plugins.DATA).keys() - set(DATA)))(incomplete)


protocols = one_of(*PROTOCOLS)
networks = one_of(*NETWORKS)
formats = one_of(*FORMATS)
objectives = one_of(*OBJECTIVES)
noise = one_of(*NOISE)
devices = one_of("auto", "cpu", "cuda", "mps")
logs = one_of(*LOGS)
