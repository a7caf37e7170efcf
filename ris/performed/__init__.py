"""Performed procedure steps: what devices say they do, and what that makes of orders (PS3.4 F).

    N-CREATE ─ the step and its items ─ each item linked to scheduled steps ─┐
    N-SET ──── only while it is in progress ─────────────────────────────────┴─ steps, orders, HIS

One performed step may be for several scheduled ones, and for several orders (IHE group case);
one scheduled step may be performed in several (append case). What an item names is looked for
again whenever its study is attached to an order: images and steps may come before orders.
"""

from ris.performed.attributes import ITEMS, STATUS
from ris.performed.linking import SENT
from ris.performed.model import Made, PerformedItem, PerformedStep
from ris.performed.showing import get, missing_objects, newest, of_order, of_study, show
from ris.performed.verbs import attach, close, create, detach, synthesise, update

__all__ = [
    "ITEMS",
    "SENT",
    "STATUS",
    "Made",
    "PerformedItem",
    "PerformedStep",
    "attach",
    "close",
    "create",
    "detach",
    "get",
    "missing_objects",
    "newest",
    "of_order",
    "of_study",
    "show",
    "synthesise",
    "update",
]
