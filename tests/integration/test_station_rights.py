"""Who may do what: every station, legal basis, state of a report and operation.

The expected answer is worked out here from the rule alone: a station may see a report while a
basis of its own holds that covers it, and the report is signed and not taken back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import product

import httpx
import pytest

from ris.releases import marks
from ris.releases.model import BasisKind, Sensitive
from ris.reports import releasing as settling
from ris.reports.model import Report
from ris.reports.states import Action
from ris.stations import consents, people
from ris.stations.consents import Consent
from ris.stations.people import Number, Wanted
from storage.access.station_sessions import Visitor
from storage.audit.model import Kind, Outcome
from storage.base.clock import utc_now
from storage.db.engine import transaction
from tests.fixtures.http import HttpNode
from tests.fixtures.reports import HEAD
from tests.fixtures.stations import API, Province

OWN, NEIGHBOUR = "68001", "68002"


@dataclass(frozen=True)
class Case:
    """One report about which the station `OWN` has one kind of basis."""

    basis: str
    state: str
    sensitive: bool = False


BASES = (
    *("none", "registered", "referral", "referral_of_neighbour", "consent", "consent_covering"),
    *("consent_ended", "consent_withdrawn", "emergency", "statute"),
)
STATES = ("draft", "preliminary", "final", "corrected", "unapproved", "retracted")
CASES = [Case(*one) for one in product(BASES, STATES, (False, True))]

# Which bases show a report, and which of them one that is sensitive.
SHOWS = {"referral", "consent", "consent_covering", "emergency", "statute"}
SHOWS_SENSITIVE = {"consent_covering"}


def _entitled(case: Case) -> bool:
    return case.basis in (SHOWS_SENSITIVE if case.sensitive else SHOWS)


def _text(case: Case) -> int:
    return 200 if _entitled(case) and case.state in {"final", "corrected", "unapproved"} else 404


def _paper(case: Case) -> int:
    if _entitled(case) and case.state == "unapproved":
        return 409
    return 200 if _entitled(case) and case.state in {"final", "corrected"} else 404


def _receipt(case: Case) -> int:
    """What was a station's own once, it may give receipts for."""
    was_own = _entitled(case) or (
        case.basis in {"consent_ended", "consent_withdrawn"} and not case.sensitive
    )
    signed = case.state in {"final", "corrected", "unapproved", "retracted"}
    return 201 if was_own and signed else 404


OPERATIONS: Mapping[str, tuple[Callable[[httpx.Client, str], httpx.Response], object]] = {
    "text": (lambda client, path: client.get(path), _text),
    "old version": (lambda client, path: client.get(path, params={"version": 99}), lambda _: 404),
    "paper": (lambda client, path: client.get(f"{path}/pdf"), _paper),
    "part of the paper": (
        lambda client, path: client.get(f"{path}/pdf", headers={"Range": "bytes=0-9"}),
        lambda case: 206 if _paper(case) == 200 else _paper(case),
    ),
    "pictures": (lambda client, path: client.get(f"{path}/key-images"), _paper),
    "picture": (
        lambda client, path: client.get(f"{path}/key-images/1"),
        lambda case: 404 if _paper(case) == 200 else _paper(case),
    ),
    "receipt": (
        lambda client, path: client.post(
            f"{path}/receipt", json={"version": 1, "kind": "delivered"}
        ),
        _receipt,
    ),
}


class Made:
    """The province with one report for each case."""

    def __init__(self, province: Province) -> None:
        self.province = province
        for code in (OWN, NEIGHBOUR):
            province.station(code)
        self.reports = {case: self._report(case, number) for number, case in enumerate(CASES)}

    def _report(self, case: Case, number: int) -> Report:
        """Make the report, with the basis there before it is signed."""
        province = self.province
        patient = province.patient(f"BN{number + 100}")
        sender = {"referral": OWN, "referral_of_neighbour": NEIGHBOUR, "registered": ""}
        order = province.order(patient, sender.get(case.basis, "Khoa Cấp cứu"))
        uid = self._basis(case, patient, number)
        report = province.draft(order)
        if case.sensitive:
            with transaction(province.engine) as session:
                marks.put(session, "admin", [Sensitive.HIV], report_uid=report.uid)
        report = self._signed(case, report)
        if case.basis == "consent_withdrawn":
            with transaction(province.engine) as session:
                consents.withdraw(session, uid, "admin")
        return report

    def _signed(self, case: Case, report: Report) -> Report:
        province, desk = self.province, self.province.desk
        if case.state == "draft":
            return report
        if case.state == "preliminary":
            return desk.act(Action.RELEASE, report, HEAD)
        report = desk.act(Action.APPROVE, report, HEAD)
        if case.state == "corrected":
            report = province.correct(report)
        province.document(report)
        if case.state == "unapproved":
            return desk.act(Action.UNAPPROVE, report, HEAD, reason="đọc lại")
        return province.retract(report) if case.state == "retracted" else report

    def _basis(self, case: Case, patient: int, number: int) -> str:
        province = self.province
        station = province.stations[OWN]
        with transaction(province.engine) as session:
            if case.basis == "emergency":
                visitor = Visitor(station=station, device="d1", device_name="PC")
                wanted = Wanted(number=Number.MA_BN, value=f"BN{number + 100}", birth_year=1960)
                people.break_glass(session, visitor, wanted, "hôn mê")
                return ""
            if case.basis == "statute":
                return _statute(session, station.id, patient)
            if not case.basis.startswith("consent"):
                return ""
            covering = case.basis == "consent_covering"
            given = Consent(
                patient_id=patient,
                station_id=station.id,
                via="written",
                evidence="phiếu",
                covers=frozenset(Sensitive) if covering else frozenset(),
            )
            basis = consents.give(session, given, "admin")
        return basis.uid

    def end(self) -> None:
        """Have the consents end that are to end: by the clock alone, nobody looked yet."""
        from sqlalchemy import text  # noqa: PLC0415

        for case, report in self.reports.items():
            if case.basis == "consent_ended":
                with transaction(self.province.engine) as session:
                    patient = settling.patient_of(session, report.uid)
                    statement = "UPDATE release_bases SET ends_at = :at WHERE patient_ref = :id"
                    given = {"at": utc_now() - timedelta(seconds=1), "id": patient}
                    session.execute(text(statement), given)


def _statute(session, station: int, patient: int) -> str:
    from ris.releases import bases  # noqa: PLC0415
    from ris.releases.bases import NewBasis  # noqa: PLC0415

    new = NewBasis(
        kind=BasisKind.STATUTE,
        station_id=station,
        patient_id=patient,
        via="circular",
        evidence="Điều 5",
        recorded_by="admin",
    )
    return bases.record(session, new).uid


@pytest.fixture(scope="module")
def made(shared_http_node: HttpNode) -> Made:
    done = Made(Province(shared_http_node))
    done.end()
    return done


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_answers_what_the_rule_says(made: Made, operation: str) -> None:
    perform, expected = OPERATIONS[operation]
    client = made.province.clients[OWN]

    answers = {
        case: perform(client, f"{API}/reports/{report.uid}").status_code
        for case, report in made.reports.items()
    }

    wrong = {
        case: (answers[case], expected(case))  # type: ignore[operator]
        for case in CASES
        if answers[case] != expected(case)  # type: ignore[operator]
    }
    assert wrong == {}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_neighbour_gets_nothing_of_all_that(made: Made, operation: str) -> None:
    """A station tries the identifiers of every report of another: 404, and nothing of it."""
    perform, _ = OPERATIONS[operation]
    client = made.province.clients[NEIGHBOUR]

    for case, report in made.reports.items():
        if case.basis == "referral_of_neighbour":
            continue
        answer = perform(client, f"{API}/reports/{report.uid}")
        assert answer.status_code == 404, case
        assert "NGUYỄN" not in answer.text
        assert "nhu mô" not in answer.text


def test_the_feed_names_the_same_reports(made: Made) -> None:
    shown = made.province.shown(OWN)
    now = {case for case, report in made.reports.items() if shown.get(report.uid) == "released"}
    ever = {case for case, report in made.reports.items() if report.uid in shown}

    ended = {case for case in now if case.basis == "consent_ended"}  # nobody looked at them yet
    assert now - ended == {case for case in CASES if _paper(case) == 200}
    assert ever == {case for case in CASES if _receipt(case) == 201}


def test_every_refusal_is_in_the_journal(made: Made) -> None:
    client = made.province.clients[NEIGHBOUR]
    report = made.reports[Case("consent", "final")]

    client.get(f"{API}/reports/{report.uid}/pdf")

    [entry, *_] = made.province.journal(station=NEIGHBOUR, report_uid=report.uid)
    assert (entry.kind, entry.outcome) == (Kind.DOWNLOAD, Outcome.REFUSED)
    assert entry.details["why"] == "no_report"
    assert entry.actor.startswith("token:")


def test_nobody_but_a_station_comes_in(made: Made) -> None:
    report = made.reports[Case("referral", "final")]
    admin = made.province.node.client()

    for path in ("/changes", f"/reports/{report.uid}", f"/reports/{report.uid}/pdf", "/me"):
        assert admin.get(API + path).status_code == 403
