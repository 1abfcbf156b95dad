"""Objects that belong to no patient (PS3.4 GG.3, and the annexes that say how they are found and fetched).

They have no Study and Series Instance UID; the archive files each under UIDs derived from its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NonPatientModel:
    """One information model. classes: the storage SOP classes of its objects; find, move, get: its own SOP classes."""

    name: str
    classes: frozenset[str]
    find: str
    move: str
    get: str


def _model(name: str, root: str, classes: tuple[str, ...] = (), first: int = 2) -> NonPatientModel:
    """find, move and get are numbered one after the other; the storage class comes before them, unless given."""
    find, move, get = (f"1.2.840.10008.5.1.4.{root}.{first + position}" for position in range(3))
    stored = classes or (f"1.2.840.10008.5.1.4.{root}.1",)
    return NonPatientModel(name, frozenset(stored), find, move, get)


_PROTOCOLS = "1.2.840.10008.5.1.4.1.1.200"
MODELS = (
    _model("hanging protocol", "38"),
    _model("color palette", "39"),
    _model("generic implant template", "43"),
    _model("implant assembly template", "44"),
    _model("implant template group", "45"),
    _model("defined procedure protocol", "20", (f"{_PROTOCOLS}.1", f"{_PROTOCOLS}.7"), first=1),
    _model("protocol approval", "1.1.200", (f"{_PROTOCOLS}.3",), first=4),
    _model("inventory", "1.1.201"),
)
CLASSES = frozenset(uid for model in MODELS for uid in model.classes)
