"""The matching of a key of an attribute that an operator added (PS3.4 C.2.2.2).

It is that of `matching` for the same VR; values stand in a table of their own, so a
condition asks for the numbers of the rows that have one.
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import ColumnElement, and_, or_, select

from storage.archive import custom, custom_rows, matching, tables
from storage.archive.attributes import Attribute, Matching
from storage.archive.custom_tables import custom_values
from storage.archive.matching import Condition, Reach
from storage.archive.model import Custom
from storage.base import names
from storage.base.errors import Malformed

_VALUES: Final = custom_values.c


def condition(one: Custom, value: str, *, fuzzy: bool = False) -> Condition | None:
    """Return what `value` asks of an attribute; None when nothing.

    Raises
    ------
    Malformed
        The value is none of the attribute's VR; the text names the attribute.
    """
    attribute = attribute_of(one)
    wanted = matching.values_of(attribute, value)
    if not wanted:
        return None
    try:
        clauses = [_clause(attribute, text, fuzzy=fuzzy) for text in wanted]
    except Malformed as error:
        raise Malformed(f"{one.name}: {error}") from error
    if any(clause is None for clause in clauses):
        return None
    found = or_(*(clause for clause in clauses if clause is not None))
    owners = select(_VALUES.owner).where(_VALUES.attribute_ref == one.id, found)
    exact = one.vr != "PN" and not any(matching.is_wild(attribute, text) for text in wanted)
    return Condition(
        custom_rows.owner_of(one.level).in_(owners), Reach.INDEX if exact else Reach.WALK
    )


def attribute_of(one: Custom) -> Attribute:
    """Return what an answer is written by."""
    return Attribute(one.name, one.path, one.vr, one.level, "", Matching.TEXT, multiple=True)


def _clause(attribute: Attribute, text: str, *, fuzzy: bool) -> ColumnElement[bool] | None:
    build = _BUILDERS.get(attribute.vr)
    if build is not None:
        return build(text)
    if attribute.vr == "PN":
        if matching.WILD.search(names.fold(text)):
            return matching.pattern_of_name(_VALUES.key, text)
        return matching.words(_VALUES.key, text, fuzzy=fuzzy)
    if attribute.vr in custom.NUMBER_VRS:
        return _number(attribute.vr, text)
    if matching.is_wild(attribute, text):
        return matching.like(_VALUES.key, text)
    return _exactly(text)


def _exactly(text: str) -> ColumnElement[bool]:
    start = text[: tables.INDEXED_CHARACTERS]
    found = tables.start_of(_VALUES.key) == start
    return found if start == text else and_(found, _VALUES.key == text)


def _number(vr: str, text: str) -> ColumnElement[bool]:
    number = custom_rows.number_key(text)
    if not number:
        raise Malformed(f"not a value of VR {vr}")
    return _exactly(number)


def _uid(text: str) -> ColumnElement[bool]:
    matching.check_uids((text,))
    return _exactly(text)


def _instant(text: str) -> ColumnElement[bool]:
    """Match a DT as it was sent: a value, or a range without time zones."""
    low, hyphen, high = text.partition("-")
    if not hyphen or len(high) == len("hhmm"):  # an offset from UTC, PS3.5 6.2
        return _VALUES.key.startswith(text, autoescape=True)
    inside = [_VALUES.key != "", _VALUES.key >= low]
    if high:
        inside.append(_VALUES.key <= f"{high}~")
    return and_(*inside)


_BUILDERS: Final[dict[str, Callable[[str], ColumnElement[bool]]]] = {
    "UI": _uid,
    "DT": _instant,
    "DA": lambda text: matching.between(_VALUES.key, *matching.date_ends(text)),
    "TM": lambda text: matching.between(_VALUES.key, *matching.time_ends(text)),
}
