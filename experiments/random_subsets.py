"""Random subsets of real images with their true labels: does the evaluation agree with the literature?

    python experiments/random_subsets.py --data cifar10.npz [--ipc 1 10 50] [--sets 1] [--networks 3] [--threads 2]

ConvNet-3 by `hard-quick`, with and without its augmentation. Set s is that of `dmis condense --method random
--seed s`. Prints mean and 95 % interval, over the networks of one set or, for several, over sets and networks. For
comparison: CIFAR-10, IPC 1, 10, 50: 14.4, 26.0, 43.4 (Zhao et al. 2021, https://arxiv.org/abs/2006.05929, Table 1).
"""

from __future__ import annotations

import argparse

import torch

from condense.evaluate.protocols import HARD_QUICK, Protocol
from condense.evaluate.score import FreshNetworks, score
from condense.evaluate.stats import summarise, summarise_nested
from condense.machine import best_device, machine
from condense.pipeline.plan import Plan, Request, make_plan
from condense.run import Run


def scored(plan: Plan, ipc: int, seed: int, protocol: Protocol, networks: int) -> tuple[float, ...]:
    """Accuracies in percent of the networks trained on one subset."""
    made = plan.method.condense(plan.train, ipc, plan.options, seed, Run(None))
    test, truth = plan.source.test, plan.source.test_truth
    assert test is not None and truth is not None, "there are no test images"
    fresh = FreshNetworks(repeats=networks)
    return score(made, test, truth, protocol=protocol, fresh=fresh, device=best_device()).accuracies


def main() -> None:
    """Print a line per IPC and protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="without augmentation only")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    plan = make_plan(Request(named={"data": {"name": asked.data}, "method": "random"}))
    print(machine())
    print(f"{'IPC':>4}  {'protocol':16}  accuracy   ci95")
    for ipc in asked.ipc:
        for protocol in (HARD_QUICK.plain(),) if asked.plain else (HARD_QUICK, HARD_QUICK.plain()):
            sets = [scored(plan, ipc, seed, protocol, asked.networks) for seed in range(asked.sets)]
            found = summarise_nested(sets) if len(sets) > 1 else summarise(sets[0])
            spread = "" if found.ci95 is None else f"{found.ci95:5.1f}"
            print(f"{ipc:4}  {protocol.name:16}  {found.mean:8.1f}  {spread}", flush=True)


if __name__ == "__main__":
    main()
