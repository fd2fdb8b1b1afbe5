"""The samples of a benchmark's generators: every metric over the seeds, and the published number for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from condense.evaluate.reference import Published
from condense.evaluate.results import Measured, Result, beside
from condense.evaluate.stats import Summary, summarise

PAPERS = {"FD": "FID", "IS": "IS", "Density k=5": "Density", "Coverage k=5": "Coverage"}
PAPERS |= {f"CW-{ours}": f"CW-{theirs}" for ours, theirs in PAPERS.items() if theirs != "IS"}
"""Our metrics and their names in the DMIS paper; 5 neighbours are the default of Naeem et al. (2020)."""


@dataclass(frozen=True)
class SampleEntry:
    """One metric of one generator's samples at one setting, over all seeds that measured it alike.

    Attributes:
        setting: data, size and noise in one name.
        method: method of the generator.
        metric: its key in the result of `quality`.
        name: full name by `features.metric_name`, followed by ", %" if the value is in percent.
        summary: mean and spread over the seeds; None if a seed has no value, or none is done.
        num_failed: number of failed cells.
        published: the published number for it, if there is one.
    """

    setting: str
    method: str
    metric: str
    name: str
    summary: Summary | None
    num_failed: int
    published: Published | None


def sample_entries(results: Sequence[Result]) -> list[SampleEntry]:
    """One entry for each setting, method and full name of a metric, in order; Density and Coverage in percent."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.task == "generation":
            groups.setdefault((result.setting, result.method), []).append(result)
    return [entry for group in groups.values() for entry in _entries(group)]


def _entries(group: Sequence[Result]) -> list[SampleEntry]:
    first, failed = group[0], sum(result.status == "failed" for result in group)
    seeds: dict[str, list[Measured]] = {}
    for result in group:
        for measured in result.measured if result.status == "done" else ():
            seeds.setdefault(measured.name, []).append(measured)
    found: list[SampleEntry] = []
    for name, each in seeds.items():
        metric, values = each[0].metric, [_shown(measured) for measured in each]
        known = [value for value in values if value is not None]
        found.append(
            SampleEntry(
                setting=first.setting,
                method=first.method,
                metric=metric,
                name=f"{name}, %" if _is_share(metric) else name,
                summary=summarise(known) if known and len(known) == len(values) else None,
                num_failed=failed,
                published=_published(first, metric),
            )
        )
    return found


def _shown(measured: Measured) -> float | None:
    """The value in the unit used by papers."""
    return 100 * measured.value if measured.value is not None and _is_share(measured.metric) else measured.value


def _is_share(metric: str) -> bool:
    return "Density" in metric or "Coverage" in metric


def _published(result: Result, metric: str) -> Published | None:
    return beside(result, metric=PAPERS[metric]) if metric in PAPERS else None
