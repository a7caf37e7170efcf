"""Searches answered page by page (FHIR R4 3.1.1.5): matches, what goes with them, the way on.

A page continues behind the last id of the one before, so that what is written meanwhile neither
pushes a resource off a page nor onto two.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from ris.listing import results
from storage.access.tokens import PERMITTED, Caller
from storage.audit import journal
from storage.base.errors import Malformed, NotFound
from storage.db.criteria import Criterion, Reference, Token, Wanted
from storage.db.engine import Session
from viewer_api.fhir import audits, datatypes, outcomes
from viewer_api.fhir.datatypes import Context, Json
from viewer_api.fhir.kinds import TYPES, Find, Type
from viewer_api.fhir.parameters import CURSOR, Asked, Include

MOST_INCLUDED: Final = 1000
"""Resources that a page brings beside its matches."""
_MANDATORY: Final = frozenset({"resourceType", "id", "meta", "status", "subject", "code", "intent"})
_KEPT: Final = re.compile(r"([0-9a-f]{32})\.([0-9]{1,6})", re.ASCII)
SUBSETTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
BY_ID: Final = frozenset({"_id"})


@dataclass(frozen=True, slots=True)
class Searcher:
    """Answers searches of one caller in one transaction."""

    session: Session
    caller: Caller
    address: str
    """Where the request came from."""
    context: Context

    def read(self, kind: Type, id_: str) -> Json:
        """Return one resource.

        Raises
        ------
        NotFound
            There is none of that id.
        """
        found = self._by_ids(kind, [id_])
        if not found:
            raise NotFound(f"there is no {kind.name} of this id")
        self.tell(found[0])
        return found[0]

    def tell(self, resource: Json) -> None:
        """Write into the journal that a resource was given out."""
        journal.append(self.session, audits.of_read(self.caller, self.address, resource))

    def search(self, kind: Type, asked: Asked) -> Json:
        """Return a page as a Bundle.

        Raises
        ------
        Malformed
            The cursor is none, or the result cannot be sorted or included like that.
        """
        known = {*BY_ID, *kind.sorts}
        if asked.sort.removeprefix("-") not in known:
            raise Malformed(f"_sort: {kind.name} is sorted by {', '.join(sorted(known))}")
        for one in (*asked.include, *asked.revinclude):
            _check(one)
        if asked.summary == "count":
            counted = kind.count(self.session, asked.criteria, full=self.context.full)
            told = audits.of_search(self.caller, self.address, kind.name, ())
            journal.append_all(self.session, told)
            return _bundle(self._links(kind, asked, None), [], counted)
        ids, onward, warnings = self._page(kind, asked)
        matches = self._rendered(kind, ids)
        whole = not onward and not asked.cursor and not warnings
        total = self._total(kind, asked, len(matches), whole=whole)
        beside, cut = self._beside(kind, asked, matches)
        told = audits.of_search(self.caller, self.address, kind.name, [*matches, *beside])
        journal.append_all(self.session, told)
        entries = [self._entry(_subset(one, asked), "match") for one in matches]
        entries += [self._entry(_subset(one, asked), "include") for one in beside]
        if cut:
            warnings.append(f"more than {MOST_INCLUDED} resources go with this page")
        for text in warnings:
            warning = outcomes.issue("warning", "incomplete", text)
            entries.append({"resource": warning, "search": {"mode": "outcome"}})
        return _bundle(self._links(kind, asked, onward), entries, total)

    def _page(self, kind: Type, asked: Asked) -> tuple[list[int], str | None, list[str]]:
        """Return the ids of a page, the cursor of the next one, and what is to be warned of."""
        if asked.sort.removeprefix("-") not in BY_ID and kind.find_sorted is not None:
            return self._sorted_page(kind.name, kind.find_sorted, asked)
        wanted = Wanted(
            criteria=asked.criteria,
            limit=asked.count + 1,
            after=_position(asked.cursor) if asked.cursor else None,
            newest_first=asked.sort.startswith("-"),
        )
        ids = kind.find(self.session, wanted, full=self.context.full)
        page = ids[: asked.count]
        return page, _code(page[-1]) if len(ids) > asked.count else None, []

    def _sorted_page(
        self, name: str, find: Find, asked: Asked
    ) -> tuple[list[int], str | None, list[str]]:
        """Return a page of a sorted search: it is kept, for what is sorted by may change."""
        if asked.cursor:
            uid, first = _place(asked.cursor)
            page, more = results.page(self.session, name, uid, first, asked.count)
            return page, f"{uid}.{first + asked.count}" if more else None, []
        given = asked.criteria, asked.sort, results.MOST + 1
        ids = find(self.session, *given, full=self.context.full)
        cut = f"the first {results.MOST} are sorted: narrow the search, or sort by _id"
        warnings = [cut] if len(ids) > results.MOST else []
        ids = ids[: results.MOST]
        if len(ids) <= asked.count:
            return ids, None, warnings
        uid = results.keep(self.session, name, ids)
        return ids[: asked.count], f"{uid}.{asked.count}", warnings

    def _total(self, kind: Type, asked: Asked, found: int, *, whole: bool) -> int | None:
        if whole:
            return found
        if asked.total == "none":
            return None
        return kind.count(self.session, asked.criteria, full=self.context.full)

    def _rendered(self, kind: Type, ids: Sequence[int]) -> list[Json]:
        held = kind.load(self.session, ids) if ids else {}
        shown = (held[one] for one in ids if one in held)
        return [kind.render(one, self.context) for one in shown if kind.shown(one)]

    def _by_ids(self, kind: Type, ids: Sequence[str]) -> list[Json]:
        values = tuple(Token(None, one.replace("\0", "")) for one in ids)
        criterion = Criterion(name="_id", values=values)
        wanted = Wanted(criteria=(criterion,), limit=len(ids))
        return self._rendered(kind, kind.find(self.session, wanted, full=self.context.full))

    def _may(self, kind: Type) -> bool:
        return kind.action in PERMITTED[self.caller.role]

    def _beside(self, kind: Type, asked: Asked, matches: Sequence[Json]) -> tuple[list[Json], bool]:
        """Return what goes with the matches, of the types that the caller may see."""
        found = {(kind.name, one["id"]): one for one in matches}
        before = len(found)
        cut = False
        for one in asked.include:
            if one.source == kind.name:
                cut |= self._include(kind, one, matches, found, before)
        for one in asked.revinclude:
            cut |= self._reverse(kind, one, matches, found, before)
        return [*found.values()][before:], cut

    def _include(
        self,
        kind: Type,
        one: Include,
        matches: Sequence[Json],
        found: dict[tuple[str, str], Json],
        before: int,
    ) -> bool:
        wanted: dict[str, list[str]] = {}
        for member in {kind.references[one.param]}:
            for match in matches:
                for text in datatypes.references_in(match, member):
                    type_, _, id_ = text.partition("/")
                    wanted.setdefault(type_, []).append(id_.partition("/")[0])
        cut = False
        for type_, ids in wanted.items():
            if type_ in TYPES and one.target in {"", type_} and self._may(TYPES[type_]):
                fresh = [id_ for id_ in dict.fromkeys(ids) if (type_, id_) not in found]
                room = MOST_INCLUDED - (len(found) - before)
                cut |= len(fresh) > room
                for shown in self._by_ids(TYPES[type_], fresh[:room]) if fresh[:room] else ():
                    found[type_, shown["id"]] = shown
        return cut

    def _reverse(
        self,
        kind: Type,
        one: Include,
        matches: Sequence[Json],
        found: dict[tuple[str, str], Json],
        before: int,
    ) -> bool:
        source = TYPES[one.source]
        targets = source.params[one.param].targets
        if not self._may(source) or kind.name not in targets or not matches:
            return False
        values = tuple(Reference(kind.name, match["id"]) for match in matches)
        room = MOST_INCLUDED - (len(found) - before)
        criterion = Criterion(name=one.param, values=values)
        wanted = Wanted(criteria=(criterion,), limit=room + 1)
        ids = source.find(self.session, wanted, full=self.context.full)
        for shown in self._rendered(source, ids[:room]):
            found.setdefault((source.name, shown["id"]), shown)
        return len(ids) > room

    def _entry(self, resource: Json, mode: str) -> Json:
        url = f"{self.context.base}/{resource['resourceType']}/{resource['id']}"
        return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}

    def _links(self, kind: Type, asked: Asked, onward: str | None) -> list[Json]:
        root = f"{self.context.base}/{kind.name}"
        given = [*asked.pairs]
        own = [*given, (CURSOR, asked.cursor)] if asked.cursor else given
        links = [{"relation": "self", "url": _url(root, own)}]
        if asked.cursor:
            links.append({"relation": "first", "url": _url(root, given)})
        if onward is not None:
            links.append({"relation": "next", "url": _url(root, [*given, (CURSOR, onward)])})
        return links


def _bundle(links: list[Json], entries: list[Json], total: int | None) -> Json:
    made: Json = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if total is not None:
        made["total"] = total
    if entries:
        made["entry"] = entries
    return made


def _check(one: Include) -> None:
    """Raise `Malformed` unless the parameter refers to something that can be included."""
    kind = TYPES.get(one.source)
    if kind is None or one.param not in kind.references:
        known = ", ".join(
            f"{name}:{param}" for name, of in TYPES.items() for param in of.references
        )
        raise Malformed(f"_include: one of {known}")


def _subset(resource: Json, asked: Asked) -> Json:
    """Return the members that are asked for, and those that a resource must have."""
    if asked.elements:
        kept = {*asked.elements, *_MANDATORY}
        shown = {name: value for name, value in resource.items() if name in kept}
    elif asked.summary == "text":
        shown = {name: value for name, value in resource.items() if name in _MANDATORY}
    elif asked.summary == "true":
        left = {"contained", "result", "presentedForm", "series", "note", "contact", "address"}
        shown = {name: value for name, value in resource.items() if name not in left}
    else:
        return resource
    meta = {**resource.get("meta", {}), "tag": [SUBSETTED]}
    return {**shown, "meta": meta}


def _url(root: str, pairs: Iterable[tuple[str, str]]) -> str:
    query = urlencode([*pairs])
    return f"{root}?{query}" if query else root


def _code(position: int) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _place(text: str) -> tuple[str, int]:
    match = _KEPT.fullmatch(text)
    if match is None:
        raise Malformed(f"{CURSOR}: not one that we gave out")
    return match[1], int(match[2])


def _position(text: str) -> int:
    try:
        found = json.loads(
            base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        )
    except (ValueError, binascii.Error, RecursionError) as error:
        raise Malformed(f"{CURSOR}: not one that we gave out") from error
    if type(found) is not int or not -(2**63) < found < 2**63:
        raise Malformed(f"{CURSOR}: not one that we gave out")
    return found
