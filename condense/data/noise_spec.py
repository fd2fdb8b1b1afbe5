"""The syntax of `--noise`, parsed and checked.

    none | KIND | KIND:RATE                          one kind for all images, see the table in `corrupt`
    mix:KIND[:RATE]=SHARE,…                          each kind for a share of the images; the shares add up to 1
    longtail:FACTOR, longtail:FACTOR+any of these    first thin the classes out, the largest FACTOR times the smallest

Within `mix:` the words `clean` and `unlabeled` stand for images that keep, or lose, their label.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from condense.errors import UserError

WITH_RATE = ("sym", "asym", "pair", "instance", "partial", "annotators", "unlabeled")
WITHOUT_RATE = ("none", "class-partial")
KINDS = (*WITHOUT_RATE, *WITH_RATE)

LONG_TAIL = "longtail"
MIXTURE = "mix"
LOST = "lost"  # the kind behind `unlabeled=SHARE`: all labels of the share are gone
_WORDS = {"clean": "none", "unlabeled": LOST}


@dataclass(frozen=True)
class Spec:
    """One kind of label noise, and its rate in [0, 1] where the kind has one (else 0)."""

    kind: str
    rate: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.rate:g}" if self.kind in WITH_RATE else self.kind


@dataclass(frozen=True)
class Noise:
    """The noise on a data set's labels.

    Attributes:
        parts: kinds and the share in (0, 1] of the images each is done to; shares add up to 1.
        imbalance: how many times larger the first class is made than the last; 1 keeps all images.
    """

    parts: tuple[tuple[Spec, float], ...]
    imbalance: float = 1.0

    @property
    def keeps_labels(self) -> bool:
        """Whether the labels stay as they are."""
        return [spec.kind for spec, _ in self.parts] == ["none"]

    @property
    def keeps_all(self) -> bool:
        """Whether labels and images stay as they are."""
        return self.keeps_labels and self.imbalance == 1

    def __str__(self) -> str:
        tail = f"{LONG_TAIL}:{self.imbalance:g}"
        if self.keeps_labels:
            return "none" if self.imbalance == 1 else tail
        return self.labels_text if self.imbalance == 1 else f"{tail}+{self.labels_text}"

    @property
    def labels_text(self) -> str:
        """The noise on the labels alone, as text."""
        if len(self.parts) == 1:
            return str(self.parts[0][0])
        words = {kind: word for word, kind in _WORDS.items()}
        return f"{MIXTURE}:" + ",".join(f"{words.get(spec.kind, str(spec))}={share:g}" for spec, share in self.parts)


def parse(spec: str) -> Spec:
    """Read a single kind such as "sym:0.4", "class-partial" or "none".

    Raises:
        UserError: unknown kind (the nearest one is named), missing or superfluous rate, rate outside [0, 1].
    """
    kind, colon, rate_text = (part.strip() for part in spec.partition(":"))
    if kind not in KINDS:
        known = (*KINDS, LONG_TAIL, MIXTURE)
        near = difflib.get_close_matches(kind.lower().replace("unlabelled", "unlabeled"), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? Known kinds" if near else "known kinds"
        raise UserError(f"label noise {spec!r}: there is no kind {kind!r}; {hint}: {', '.join(known)}.")
    if kind in WITHOUT_RATE:
        if colon:
            raise UserError(f"label noise {spec!r}: {kind!r} takes no rate; write just {kind!r}.")
        return Spec(kind)
    rate = _number(rate_text)
    if rate is None:
        raise UserError(f"label noise {spec!r}: {kind!r} needs a rate between 0 and 1, written like {kind}:0.4.")
    if not 0 <= rate <= 1:
        percent = f"; {rate:g} % is written {kind}:{rate / 100:g}" if 1 < rate <= 100 else ""
        raise UserError(f"label noise {spec!r}: the rate {rate:g} must lie between 0 and 1{percent}.")
    return Spec(kind, rate)


def parse_noise(text: str) -> Noise:
    """Read any request, see the top of this file.

    Raises:
        UserError: as `parse`; an imbalance below 1; shares that are not numbers in (0, 1] or do not add up to 1.
    """
    first, plus, rest = text.partition("+")
    if first.partition(":")[0].strip() == LONG_TAIL:
        return Noise(_parts(rest) if plus else ((Spec("none"), 1.0),), _imbalance(first, text))
    return Noise(_parts(text))


def _parts(text: str) -> tuple[tuple[Spec, float], ...]:
    word, _, listed = text.strip().partition(":")
    if word != MIXTURE:
        return ((parse(text), 1.0),)
    parts = tuple(_part(entry, text) for entry in listed.split(","))
    total = math.fsum(share for _, share in parts)
    if abs(total - 1) > 1e-6:
        raise UserError(f"label noise {text!r}: the shares add up to {total:g}, not to 1; correct them.")
    return parts


def _part(entry: str, text: str) -> tuple[Spec, float]:
    name, equals, share_text = (part.strip() for part in entry.partition("="))
    share = _number(share_text)
    if not equals or share is None or not 0 < share <= 1:
        raise UserError(
            f"label noise {text!r}: the part {entry!r} needs a share between 0 and 1, "
            f"written like {MIXTURE}:clean=0.1,sym:0.4=0.4,partial:0.5=0.3,unlabeled=0.2."
        )
    return (Spec(_WORDS[name]) if name in _WORDS else parse(name)), share


def _imbalance(word: str, text: str) -> float:
    factor = _number(word.partition(":")[2])
    if factor is None or not 1 <= factor < math.inf:
        raise UserError(
            f"label noise {text!r}: {LONG_TAIL} needs how many times larger the largest class is than the smallest, "
            f"at least 1, written like {LONG_TAIL}:100 or {LONG_TAIL}:50+sym:0.4."
        )
    return factor


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
