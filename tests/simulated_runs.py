"""What runs on the simulated GPU, in a process of its own: `python -P tests/simulated_runs.py NAME` prints JSON."""

import json
import sys

import numpy as np
import simulated_gpu as gpu
import tiny
import torch

from condense import methods
from condense.augment import DSA
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, Teaching, fit
from condense.classifiers.mixing import cutmix
from condense.classifiers.stacked import fit_stacked
from condense.generator.labels import auxiliary
from condense.generator.labels.labeller_training import LabellerOptions, Training
from condense.generator.labels.noisy_classifier import NoisyClassifier, train_noisy_classifier
from condense.generator.labels.volminnet import estimate_by_volume, fresh_classifier
from condense.generator.training.prerequisites import Prerequisites
from condense.generator.training.session import train_generator
from condense.generator.training.trainer import Trainer
from condense.methods import _learn
from condense.methods._augmentation import per_image
from condense.preprocessing import standardisation
from condense.run import Run

STEPS = 10
OBJECTIVES = {
    "dmis": {},
    "dmis, cold": {"cold_start": 1.0},
    "dmis, mixture": {"form": "mixture"},
    "dmis, sampled, augmented": {"form": "sampled", "augment_probability": 0.3, "flip": True},
    "dmis, forward": {"noisy_loss": "forward"},
    "vanilla": {"objective": "vanilla"},
}


def counted(run, per=STEPS):
    """Waits and copies a step of what `run` does, and where."""
    gpu.reset()
    run()
    return {"waits": gpu.waits() / per, "copies": gpu.copies() / per, "places": gpu.places("", per)}


def budget():
    """What a step of everything that trains costs the host."""
    found = {}
    data = tiny.training_set("noisy", 200)
    for name in ("dmis", "dmis, mixture", "dmis, sampled, augmented", "vanilla"):
        options = OBJECTIVES[name]
        options = {"cold_start": 0.0, "steps": 100, **options}
        found[f"generator, {name}"] = counted_steps(Trainer(data, tiny.NETWORK, tiny.train_options(**options), 0))
    classifier = NoisyClassifier(tiny.NETWORK.shape(), 1, 3).to("cuda:0").eval()
    prepared = {
        "tdsm": Prerequisites(transition=0.8 * torch.eye(3) + 0.2 / 3, classifier=classifier),
        "cad": Prerequisites(coherence=torch.ones(len(data), 3, device="cuda")),
    }
    for name, before in prepared.items():
        options = tiny.train_options(objective=name, steps=100)
        trainer = Trainer(data, tiny.NETWORK, options, 0, prepared=before)
        found[f"generator, {name}"] = counted_steps(trainer)
    mixed = Trainer(tiny.training_set("mixture", 200), tiny.CONDITIONAL, tiny.train_options(top_k=2, steps=100), 0)
    found["generator, conditional, top 2"] = counted_steps(mixed)
    found["generator, label model, once an epoch"] = counted(lambda: mixed.labels.update(mixed.epoch_steps), 1)
    found |= learned()
    found |= fitted()
    found |= helped(data)
    return found


def helped(data):
    """A step of VolMinNet and TDSM's classifier, looks at held-out images aside; and of the labeller."""
    found, device, real = {}, torch.device("cuda:0"), auxiliary._one_step
    options = tiny.train_options(objective="tdsm", helper={"steps": 4})
    matrix = 0.8 * torch.eye(3) + 0.2 / 3

    def one_step(helper, step):
        gpu.reset()
        loss = real(helper, step)
        found[f"helper, {helper.name}"] = {"waits": gpu.waits(), "copies": gpu.copies(), "places": gpu.places("")}
        return loss

    auxiliary._one_step = one_step
    estimate_by_volume(data, fresh_classifier(data, 0), options, 0, Run(None), device)
    train_noisy_classifier(data, matrix, tiny.NETWORK, options, 0, Run(None), device)
    auxiliary._one_step = real
    labelling = LabellerOptions(width=4, epochs=2)
    training = Training(data, np.arange(len(data)), matrix, labelling, standardisation(data.images.images), 0, device)
    passes = training.passes("pass")
    next(passes)
    return {**found, "labeller": counted(lambda: next(passes), training.budget.steps)}


def counted_steps(trainer):
    steps = trainer.steps()
    for _ in range(2):
        next(steps)
    return counted(lambda: [next(steps) for _ in range(STEPS)])


def learned():
    """The steps of DM, DataDAM, DC, DSA, MTT, FRePo and IDC, counted from the second on."""
    found = {}
    real = _learn.Learning._one_step
    for name in ("dm", "datadam", "dc", "dsa", "mtt", "frepo", "idc"):
        seen = []

        def one_step(self, done, seen=seen):
            if done == 1:
                gpu.reset()
            shown = real(self, done)
            seen.append((gpu.waits(), gpu.copies()))
            return shown

        _learn.Learning._one_step = one_step
        method = methods.load(name)
        options = {**method.Options.QUICK, "iterations": 3}
        options |= {"outer": 1} if name in ("dc", "dsa") else {}  # the network's own epochs are those of `fit`
        if name == "mtt":
            options |= {"experts": 1, "start_epochs": 1, "expert_gap": 1, "zca": False}
        method.condense(tiny.training_set("noisy"), 1, method.Options.model_validate(options), 0, Run(None))
        waits, copies = seen[-1]
        found[name] = {"waits": waits / 2, "copies": copies / 2, "places": gpu.places("", 2)}
    _learn.Learning._one_step = real
    return found


def fitted():
    """A step of classifiers, one and five at once; what an epoch costs besides, one wait and copy a network, aside."""

    def built(seed):
        return networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=seed)

    images, labels = torch.randn(64, 1, 8, 8), torch.arange(64) % 3
    options = FitOptions(epochs=2, batch_size=8)
    how = {"teaching": Teaching(per_image(DSA)), "device": "cuda:0"}
    mixed = Teaching(per_image(DSA), cutmix)
    five = [built(seed) for seed in range(5)]
    return {
        "fit": epoch_of(fit(built(0), images, labels, options, seed=0, **how), 1),
        "fit, cutmix": epoch_of(
            fit(built(0), images, torch.eye(3)[labels], options, seed=0, teaching=mixed, device="cuda:0"), 1
        ),
        "stacked, a network": epoch_of(fit_stacked(five, images, labels, options, seeds=range(5), **how), 5),
    }


def epoch_of(epochs, networks):
    """The second of two epochs of eight steps."""
    next(epochs)
    found = counted(lambda: next(epochs), 8 * networks)
    return {**found, "waits": found["waits"] - 1 / 8 / networks, "copies": found["copies"] - 1 / 8}


def objectives():
    """Every objective trained to the end, and its beliefs computed, on noisy and mixed labels."""
    found = {}
    helper = {"steps": 6, "look_every": 3}
    more = {
        "tdsm": {"objective": "tdsm", "transition": "volmin", "helper": helper},
        "cad": {"objective": "cad", "coherence": {"folds": 2, "epochs": 1}},
        "volmin": {"transition": "volmin", "helper": helper},
        "best": {"select": "best", "select_every": 5},
    }
    for kind in ("noisy", "mixture"):
        data = tiny.training_set(kind)
        for name, options in (OBJECTIVES | more).items():
            generator = train_generator(data, tiny.NETWORK, tiny.train_options(**options), 0, Run(None))
            posterior = generator.posterior(data.images.images[:4])
            drawn = generator.sample(data.supervision.observed.clip(0)[:3], 0, num_steps=2, guidance=0.5)
            found[f"{name}, {kind}"] = [str(generator.device), list(posterior.shape), list(drawn.shape)]
    return found


def everything():
    """Every method at its quick budget on digits; its sets scored; the audits of data and set."""
    from condense.cli import run

    told = {}
    for name in methods.names():
        options = ["--set", "network.channels=8", "--set", "train.steps=6", "--set", "draw.sampler_steps=2"]
        options = options if name in ("dmis", "vanilla", "tdsm", "cad") else []
        noise = ["--noise", "none"] if name == "tdsm" else ["--noise", "sym:0.4"]
        matrix = ["--set", "train.transition=volmin"] if name == "tdsm" else []
        noise = ["--noise", "sym:0.4"] if name == "tdsm" else noise
        made = ["condense", *noise, "--method", name, "--ipc", "1", "--quick", "--out", f"{name}.h5", "-q"]
        told[name] = run([*made, *options, *matrix])
    told["evaluate"] = run(["evaluate", "dm.h5", "--repeats", "2", "--protocol", "hard-quick", "-q"])
    told["audit of data"] = run(["audit", "digits", "--noise", "sym:0.4", "--steps", "5", "-q"])
    told["audit of set"] = run(["audit", "dmis.h5", "-q"])
    return told


def narrow():
    """What trains in float64 on other devices, on one without: drawing of classes, FRePo; and other methods."""
    with gpu.without_float64():
        refused = ""
        try:
            torch.ones(3, device="cuda").double()
        except TypeError as error:
            refused = str(error)
        for options in ({"top_k": 2}, {"top_k": 2, "form": "mixture"}, {"eliminate": 3.0}):
            trainer = Trainer(tiny.training_set("mixture"), tiny.CONDITIONAL, tiny.train_options(**options), 0)
            list(trainer.steps())
            trainer.finish().posterior(trainer.data.images.images[:4])
        return {"refused": refused, "learned": sorted(learned())}


def numbers():
    """Losses of a run in float32, and whether there was NaN, as a GPU reads them."""
    options = tiny.train_options(precision="fp32", steps=30)
    data = tiny.training_set("noisy")
    trainer = Trainer(data, tiny.NETWORK, options, 0)
    losses = [step.losses.loss for step in trainer.steps()]
    from condense.errors import RunFailed

    lost = Trainer(data, tiny.NETWORK, options, 0)
    steps = lost.steps()
    for _ in range(13):
        next(steps)
    with torch.no_grad():
        next(lost.denoiser.parameters()).fill_(float("nan"))
    said, done = "", 0
    try:
        for step in steps:
            done = step.step
    except RunFailed as error:
        said = str(error)
    return {"losses": losses, "said": said, "done": done}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with gpu.simulated():
        found = {run.__name__: run for run in (budget, objectives, everything, narrow, numbers)}[sys.argv[1]]()
    print("\n" + json.dumps(found))
