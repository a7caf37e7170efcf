"""Studies and orders brought together, by rules or by a person, and taken apart again.

    a study comes ─ rules ─┬─ attach     to the orders it names, or plainly belongs to
                           ├─ proposed   some orders may be meant        ┐
                           ├─ conflict   what it names contradicts it    ├ a person decides
                           └─ provisional   there is no order            ┘

Rules only ever attach a study that is attached to nothing, and only take away one that was
rejected as a whole because its worklist entry was wrong. Whatever a person does is shown
before it is done (`preview` does it and takes it back), is written into a journal and can be
undone while nothing else was done about the study since. Objects are never touched.
"""

from ris.reconcile.deeds import do, preview, undo
from ris.reconcile.model import (
    OPEN,
    RULES,
    Action,
    Attachment,
    Change,
    Deed,
    Entry,
    Preview,
    Proposal,
    Reconciled,
    Standing,
)
from ris.reconcile.rules import consider
from ris.reconcile.showing import attached_to, journal, list_open, show

__all__ = [
    "OPEN",
    "RULES",
    "Action",
    "Attachment",
    "Change",
    "Deed",
    "Entry",
    "Preview",
    "Proposal",
    "Reconciled",
    "Standing",
    "attached_to",
    "consider",
    "do",
    "journal",
    "list_open",
    "preview",
    "show",
    "undo",
]
