"""What `test_torchrun.py` runs in two processes: work done alone, then the same work shared.

Each process first does everything by itself, before they join, and then compares with what they find together.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny
import torch

from condense.errors import Interrupted, RunFailed, UserError, WorkerDone
from condense.generator.labels import fold_networks, labeller, one_classifier, suggestions
from condense.generator.labels.coherence import estimate_coherence
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.suggestions import suggest
from condense.generator.training import fitting, prerequisites
from condense.generator.training.session import train_generator
from condense.machine import process_index
from condense.processes import join_processes, leave_processes, of_all, place, shared
from condense.run import Run

CPU = torch.device("cpu")
DATA = tiny.training_set(per_class=40)
THREE = LabellerOptions(folds=3, rounds=2, epochs=2, width=4, crops=False)
HELPER = {"steps": 4, "batch_size": 8, "look_every": 2}
TRAINED = {
    "tdsm": tiny.train_options(objective="tdsm", transition="volmin", steps=4, held_out=0.4, helper=HELPER),
    "dmis": tiny.train_options(
        transition="volmin", steps=6, held_out=0.4, helper=HELPER, select="best", select_every=2, refresh_share=0.5
    ),
    "cad": tiny.train_options(objective="cad", steps=2, coherence={"folds": 3, "epochs": 2, "batch_size": 8}),
}


class Saving(Run):
    """A run that notes the files this process saves."""

    def __init__(self, folder):
        super().__init__(folder)
        self.saved = set()

    def save(self, name, tensors, meta):
        super().save(name, tensors, meta)
        self.saved.add(name)


class Stopping(Run):
    """A run in which the second process receives Ctrl-C in its first pass over fold 1."""

    def save(self, name, tensors, meta):
        super().save(name, tensors, meta)
        if name == "labeller-anchors-1" and meta["done"] == 1:
            os.kill(os.getpid(), signal.SIGINT)


def everything_prepared(seed=1):
    """What the objectives need beforehand, as tensors by name."""
    fitted = labeller.fit(DATA, THREE, seed, Run(None))
    coherence, _ = estimate_coherence(DATA, TRAINED["cad"].coherence, seed, Run(None), CPU)
    tdsm = prerequisites.prepare(DATA, tiny.NETWORK, TRAINED["tdsm"], seed, Run(None), CPU)
    found = {
        "from image": torch.from_numpy(fitted.suggestions.from_image),
        "posterior": torch.from_numpy(fitted.suggestions.posterior),
        "exponent": torch.tensor(fitted.networks.exponent, dtype=torch.float64),
        "evaluations": torch.tensor([fitted.network_evaluations, fitted.images_seen]),
        "asked again": torch.from_numpy(fitted.networks.out_of_fold(DATA)),
        "coherence": coherence,
        "transition": tdsm.transition,
    }
    found |= fitted.networks.tensors()
    return found | {f"h {name}": weight for name, weight in tdsm.classifier.state_dict().items()}


def check_equal(alone, together):
    assert alone.keys() == together.keys()
    differing = [name for name in alone if not torch.equal(alone[name], together[name])]
    assert not differing, differing


def check_resumed(folder):
    """After Ctrl-C in one process both stop, and go on to what is found without a stop."""
    whole = labeller.fit(DATA, THREE, 2, Run(None))
    try:
        labeller.fit(DATA, THREE, 2, Stopping(folder))
    except Interrupted as stopped:
        assert "continue with --resume" in str(stopped)
    else:
        raise AssertionError("not stopped")
    saved = [name for names in of_all([sorted(file.stem for file in folder.glob("*.safetensors"))]) for name in names]
    assert {"labeller-anchors-0", "labeller-anchors-1"} <= set(saved) and "labeller-anchors-2" not in saved
    run = Saving(folder)
    again = labeller.fit(DATA, THREE, 2, run)
    check_equal(whole.networks.tensors(), again.networks.tensors())
    np.testing.assert_array_equal(whole.suggestions.posterior, again.suggestions.posterior)
    mine, others = run.saved, set().union(*of_all([run.saved])) - run.saved
    assert mine and others and not any(name.endswith(f"-{1 - process_index()}") for name in mine)


def check_failure():
    """Where the work of one process fails, the others stop too."""

    def work(item, agree):
        if item == 1:
            raise RunFailed("lost")
        while not agree(False):
            pass
        raise Interrupted("stopped")

    try:
        shared([0, 1], work, Run(None))
    except (Interrupted, RunFailed) as error:
        assert str(error) == ("stopped", "lost")[process_index()]
    else:
        raise AssertionError("not stopped")


def told(name, folder):
    """A generator trained together, and once more from its checkpoint: evaluations and held-out loss of both."""
    first = train_generator(DATA, tiny.NETWORK, TRAINED[name], 3, Run(folder)).record
    generator = train_generator(DATA, tiny.NETWORK, TRAINED[name], 3, Run(folder))
    held = np.arange(0, len(DATA), 2)
    fitting.fit_held_out(replace(generator), DATA, held)
    before = generator.evaluations
    posterior = suggest(generator, DATA, Run(None)).posterior
    return {
        "evaluations": [first.evaluations, generator.record.evaluations],
        "images_seen": first.images_seen,
        "asked": sum(of_all([generator.evaluations - before])),
        "loss": [first.held_out_loss, generator.record.held_out_loss],
        "equal": len({each.tobytes() for each in of_all([posterior])}) == 1,
    }


def main():
    folder = Path(sys.argv[1])
    fitting._AT_ONCE = suggestions._AT_ONCE = one_classifier._AT_ONCE = fold_networks._AT_ONCE = (
        10  # so that all have some
    )
    alone = everything_prepared()
    assert place() == (0, 1)
    join_processes()
    assert place() == (process_index(), 2)
    check_equal(alone, everything_prepared())
    check_resumed(folder / "stopped")
    check_failure()
    found = {name: told(name, folder / name) for name in TRAINED}
    try:
        leave_processes()  # at the end of a process its threads may no longer wait for another's
    except WorkerDone:
        return
    print(json.dumps(found))


if __name__ == "__main__":
    try:
        main()
    except (UserError, RunFailed, Interrupted) as error:
        sys.exit(f"{type(error).__name__}: {error}")
