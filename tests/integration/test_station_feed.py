"""The feed of a station: in the order of commits, nothing skipped, nothing that is not its own."""

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import text

from ris.releases import bases, releasing
from ris.releases.bases import NewBasis
from ris.releases.model import BasisKind, Facts, State
from ris.reports import releasing as settling
from ris.reports.states import Action
from ris.stations import consents, jobs
from ris.stations.consents import Consent
from storage.access import stations
from storage.access.stations import Facility
from storage.base.clock import utc_now
from storage.db.engine import Session, transaction
from storage.jobs import queue
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.reports import HEAD
from tests.fixtures.stations import API, Province

CODE, OTHER = "68001", "68002"


pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def patient(province: Province) -> int:
    province.station(CODE)
    province.station(OTHER)
    return province.patient()


def consent(province: Province, patient: int, code: str = CODE, **values: object) -> str:
    """Record a consent; return its uid."""
    with transaction(province.engine) as session:
        given = Consent(
            patient_id=patient,
            station_id=province.stations[code].id,
            via="written",
            evidence="phiếu 12",
            **values,  # type: ignore[arg-type]
        )
        return consents.give(session, given, "admin").uid


def withdraw(province: Province, uid: str) -> None:
    with transaction(province.engine) as session:
        consents.withdraw(session, uid, "admin", "người bệnh rút")


def facts(number: int, patient: int) -> Facts:
    return Facts(
        report_uid=f"{number:032x}",
        revision=1,
        version=1,
        state=State.RELEASED,
        patient_id=patient,
        patient_ids=frozenset({patient}),
        order_ids=frozenset(),
        sensitive=frozenset(),
    )


def positions(province: Province, code: str, after: int) -> list[tuple[str, int]]:
    with transaction(province.engine) as session:
        page = releasing.page(session, province.stations[code].id, after, 100)
        return [(one.report_uid[-1], one.position) for one in page]


def allow(session: Session, province: Province, patient: int) -> None:
    bases.record(
        session,
        NewBasis(
            kind=BasisKind.CONSENT,
            station_id=province.stations[CODE].id,
            patient_id=patient,
            via="written",
            evidence="e",
            recorded_by="admin",
        ),
    )


def test_a_transaction_that_stays_open_is_never_skipped(province: Province, patient: int) -> None:
    with transaction(province.engine) as session:
        allow(session, province, patient)

    with transaction(province.engine) as slow:
        releasing.apply(slow, facts(1, patient))  # written first, committed last
        with transaction(province.engine) as quick:
            releasing.apply(quick, facts(2, patient))
        seen = positions(province, CODE, 0)
        assert [uid for uid, _ in seen] == ["2"]
    later = positions(province, CODE, seen[-1][1])

    assert [uid for uid, _ in later] == ["1"]
    assert later[0][1] > seen[0][1]


def test_a_reader_beside_many_writers_sees_every_change_once_and_in_order(
    province: Province, patient: int
) -> None:
    with transaction(province.engine) as session:
        allow(session, province, patient)
    writers, each = 6, 12
    stop = threading.Event()
    seen: list[str] = []

    def write(writer: int) -> None:
        for number in range(each):
            with transaction(province.engine) as session:
                releasing.apply(session, facts(writer * 100 + number, patient))
                time.sleep(0.005 * writer * (number % 3 == 0))  # some stay open for longer

    def read() -> None:
        after = 0
        while True:
            last = stop.is_set()
            with transaction(province.engine) as session:
                page = releasing.page(session, province.stations[CODE].id, after, 5)
            seen.extend(one.report_uid for one in page)
            after = page[-1].position if page else after
            if last and not page:
                return

    with ThreadPoolExecutor(writers + 1) as pool:
        reader = pool.submit(read)
        done = [pool.submit(write, number) for number in range(writers)]
        for one in done:
            one.result()
        stop.set()
        reader.result()

    assert len(seen) == len({*seen}) == writers * each


def test_who_waits_is_told_within_a_moment(province: Province, patient: int) -> None:
    order = province.order(patient, CODE)
    draft = province.draft(order)
    cursor = province.changes(CODE)["next_cursor"]
    answers: list[tuple[float, httpx.Response]] = []

    def wait() -> None:
        begun = time.monotonic()
        given = {"cursor": cursor, "wait": 20}
        answer = province.clients[CODE].get(f"{API}/changes", params=given)
        answers.append((time.monotonic() - begun, answer))

    thread = threading.Thread(target=wait)
    thread.start()
    while not province.node.app.state.parts.releases._waiters:  # noqa: SLF001 - it waits now
        time.sleep(0.01)
    province.desk.act(Action.APPROVE, draft, HEAD)
    signed = time.monotonic()
    thread.join(20)
    late_s = time.monotonic() - signed

    [(_, answer)] = answers
    assert [one["version"] for one in answer.json()["items"]] == [1]
    assert late_s < 4


def test_a_wait_ends_with_nothing_when_nothing_comes(province: Province) -> None:
    begun = time.monotonic()
    page = province.changes(CODE, wait=1)

    assert page["items"] == []
    assert time.monotonic() - begun >= 0.9


def test_every_state_of_a_report_reaches_the_copy(province: Province, patient: int) -> None:
    client = province.clients[CODE]
    report = province.signed(province.order(patient, CODE))
    path = f"{API}/reports/{report.uid}"
    first = province.changes(CODE)
    corrected = province.correct(report)
    second = province.changes(CODE, first["next_cursor"])

    assert [one["version"] for one in second["items"]] == [2]
    stale = client.get(path, params={"version": 1}, headers={"Accept-Language": "vi"})
    assert (stale.status_code, stale.json()["current"]) == (409, 2)
    assert "phiên bản hiện hành là 2" in stale.json()["errors"][0]["detail"]
    awaited = client.get(f"{path}/pdf")
    assert (awaited.status_code, awaited.headers["retry-after"]) == (503, "60")
    province.document(corrected)
    assert province.changes(CODE, second["next_cursor"])["items"][0]["paper"] is not None

    taken_back = province.desk.act(Action.UNAPPROVE, corrected, HEAD, reason="Cần đọc lại")
    suspended = province.changes(CODE, second["next_cursor"])["items"][0]
    assert (suspended["state"], suspended["status"]) == ("suspended", "unapproved")
    assert client.get(path).json()["findings"] == ""
    assert client.get(f"{path}/pdf").status_code == 409

    mended = province.correct(taken_back, "Bản cuối.")
    assert province.shown(CODE) == {report.uid: "released"}
    assert client.get(path).json()["conclusion"] == "Bản cuối."

    province.retract(mended)
    [gone] = province.changes(CODE)["items"]
    assert (gone["state"], gone["reason"], gone["patient"]) == ("deleted", "retracted", None)
    assert client.get(path).status_code == client.get(f"{path}/pdf").status_code == 404


def test_preliminary_reports_and_drafts_are_not_for_stations(
    province: Province, patient: int
) -> None:
    draft = province.draft(province.order(patient, CODE))
    province.desk.act(Action.RELEASE, draft, HEAD)

    assert province.shown(CODE) == {}


def test_without_a_basis_nothing_is_released(province: Province, patient: int) -> None:
    report = province.signed(province.order(patient, "Khoa Cấp cứu"))

    assert province.shown(CODE) == province.shown(OTHER) == {}
    assert province.clients[CODE].get(f"{API}/reports/{report.uid}").status_code == 404


def test_consent_shows_what_was_and_what_comes_and_its_end_deletes_it(
    province: Province, patient: int
) -> None:
    before = province.signed(province.order(patient))
    uid = consent(province, patient)
    after = province.signed(province.order(patient))
    assert province.shown(CODE) == {before.uid: "released", after.uid: "released"}
    assert province.shown(OTHER) == {}

    withdraw(province, uid)

    items = province.changes(CODE)["items"]
    assert {(one["id"], one["state"], one["reason"]) for one in items} == {
        (one.uid, "deleted", "consent_withdrawn") for one in (before, after)
    }
    assert province.clients[CODE].get(f"{API}/reports/{before.uid}").status_code == 404
    province.signed(province.order(patient))
    assert "released" not in province.shown(CODE).values()


def test_who_has_two_bases_keeps_the_copy_when_one_ends(province: Province, patient: int) -> None:
    report = province.signed(province.order(patient, CODE))
    uid = consent(province, patient)

    withdraw(province, uid)

    assert province.shown(CODE) == {report.uid: "released"}


def test_a_copy_stays_readable_on_the_basis_that_is_left(province: Province, patient: int) -> None:
    order = province.order(patient)
    uid = consent(province, patient)
    report = province.signed(order)
    with transaction(province.engine) as session:
        settling.refer(session, order, province.stations[CODE].id, "person", "giấy chuyển 7")
    before = province.changes(CODE)["next_cursor"]

    withdraw(province, uid)

    assert province.clients[CODE].get(f"{API}/reports/{report.uid}").status_code == 200
    assert province.changes(CODE, before)["items"] == []


def test_consent_that_ends_by_itself_is_over_at_once_and_its_copies_follow(
    province: Province, patient: int
) -> None:
    report = province.signed(province.order(patient))
    consent(province, patient, ends_at=utc_now() + timedelta(milliseconds=400))
    client = province.clients[CODE]
    assert client.get(f"{API}/reports/{report.uid}").status_code == 200

    deadline = time.monotonic() + PATIENCE_S
    while client.get(f"{API}/reports/{report.uid}").status_code != 404:
        assert time.monotonic() < deadline
    with transaction(province.engine) as session:
        [job] = [one for one in queue.list_open(session) if one.name == bases.END]
    jobs.handlers(province.engine)[job.name](**job.arguments)

    [item] = province.changes(CODE)["items"]
    assert (item["state"], item["reason"]) == ("deleted", "basis_ended")


@pytest.mark.parametrize("withdrawn_first", [True, False])
def test_withdrawal_and_signature_at_once_leave_nothing_behind(
    province: Province, patient: int, *, withdrawn_first: bool
) -> None:
    """Whichever comes first holds the patient; the other acts on what is true after it."""
    uid = consent(province, patient)
    draft = province.draft(province.order(patient))
    other: threading.Thread

    def run(what: str) -> None:
        if what == "sign":
            province.desk.act(Action.APPROVE, draft, HEAD)
        else:
            withdraw(province, uid)

    first, second = ("withdraw", "sign") if withdrawn_first else ("sign", "withdraw")
    with transaction(province.engine) as session:
        settling.lock_patient(session, patient)
        threads = []
        for number, what in enumerate((first, second), 1):
            other = threading.Thread(target=run, args=[what])
            other.start()
            threads.append(other)
            _until_waiting(province, number)
    for thread in threads:
        thread.join(20)

    assert "released" not in province.shown(CODE).values()


@pytest.mark.parametrize("given_first", [True, False])
def test_consent_and_signature_at_once_release_the_report(
    province: Province, patient: int, *, given_first: bool
) -> None:
    draft = province.draft(province.order(patient))
    doings = {
        "sign": lambda: province.desk.act(Action.APPROVE, draft, HEAD),
        "give": lambda: consent(province, patient),
    }
    names = ("give", "sign") if given_first else ("sign", "give")
    with transaction(province.engine) as session:
        settling.lock_patient(session, patient)
        threads = [threading.Thread(target=doings[name]) for name in names]
        for number, thread in enumerate(threads, 1):
            thread.start()
            _until_waiting(province, number)
    for thread in threads:
        thread.join(20)

    assert province.shown(CODE) == {draft.uid: "released"}


def _until_waiting(province: Province, count: int) -> None:
    statement = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with transaction(province.engine) as session:
            if session.scalar(statement) >= count:
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_an_order_says_anew_of_who_sent_the_patient_is_followed(
    province: Province, patient: int
) -> None:
    order = province.order(patient, CODE)
    report = province.signed(order)
    province.move(order, OTHER)

    with transaction(province.engine) as session:
        settling.settle_order(session, order)

    assert province.shown(CODE) == {report.uid: "deleted"}
    assert province.shown(OTHER) == {report.uid: "released"}


def test_a_referral_that_a_person_took_back_does_not_come_again(
    province: Province, patient: int
) -> None:
    order = province.order(patient, CODE)
    report = province.signed(order)
    with transaction(province.engine) as session:
        [basis] = bases.about(session, (), (order,))
    withdraw(province, basis.uid)

    province.correct(report)

    assert province.shown(CODE) == {report.uid: "deleted"}


def test_what_was_released_stays_a_stations_own_under_a_new_code(
    province: Province, patient: int
) -> None:
    report = province.signed(province.order(patient, CODE))
    with transaction(province.engine) as session:
        renamed = Facility(code="68901", name="Trạm Y tế phường Mới", valid_from=utc_now().date())
        stations.change(session, CODE, renamed)

    assert province.shown(CODE) == {report.uid: "released"}
    me = province.clients[CODE].get(f"{API}/me").json()
    assert (me["code"], [one["code"] for one in me["history"]]) == ("68901", [CODE, "68901"])
    late = province.order(patient, CODE, issued_at=utc_now().replace(tzinfo=None) - timedelta(9))
    assert province.signed(late).uid in province.shown(CODE)


def test_merged_patients_share_a_consent_until_they_are_parted(
    province: Province, patient: int
) -> None:
    one, other = patient, province.patient("BN2", "NGUYỄN VĂN AN")
    report = province.signed(province.order(other))
    consent(province, one)
    assert province.shown(CODE) == {}

    province.merge(other, one)
    province.follow()
    assert province.shown(CODE) == {report.uid: "released"}

    province.part(other)
    province.follow()
    assert province.shown(CODE) == {report.uid: "deleted"}


def test_a_page_of_a_hundred_changes_is_less_than_30_kilobytes(
    province: Province, patient: int
) -> None:
    for number in range(100):
        person = patient if number % 3 else province.patient(f"BN{number + 10}", NAMES[number % 5])
        province.signed(province.order(person, CODE))
    client = province.clients[CODE]

    begun = time.monotonic()
    with client.stream("GET", f"{API}/changes", headers={"Accept-Encoding": "gzip"}) as answer:
        packed = b"".join(answer.iter_raw())
    took_s = time.monotonic() - begun

    plain = gzip.decompress(packed)
    print(f"page of 100: {len(packed)} bytes gzipped, {len(plain)} plain, {took_s:.3f} s")
    assert plain.count(b'"kind":"report"') == 100
    assert len(packed) < 30_000
    assert len(plain) / 100 < 1000
    assert took_s < 3


NAMES = ("TRẦN^THỊ Ỷ", "LÊ VĂN BÉ 5TH", "ĐỖ^ƯỜNG", "NGUYỄN THỊ HỒNG NHUNG", "K'BRỂU")


def test_cursors(province: Province, patient: int) -> None:
    reports = [province.signed(province.order(patient, CODE), paper=False) for _ in range(5)]
    client = province.clients[CODE]

    first = province.changes(CODE, limit=2)
    rest = province.changes(CODE, first["next_cursor"])
    again = province.changes(CODE, first["next_cursor"])
    begun_anew = province.changes(CODE, "0")
    foreign = province.changes(OTHER, first["next_cursor"])
    bad = client.get(
        f"{API}/changes", params={"cursor": "nonsense"}, headers={"Accept-Language": "vi"}
    )

    assert first["more"] is True
    assert [one["id"] for one in (*first["items"], *rest["items"])] == [one.uid for one in reports]
    assert [one["id"] for one in again["items"]] == [one["id"] for one in rest["items"]]
    assert len(begun_anew["items"]) == 5
    assert (foreign["items"], foreign["resync"]) == ([], True)
    assert bad.status_code == 400
    assert bad.json()["errors"][0]["pointer"] == "/cursor"
    assert "con trỏ không do máy chủ này cấp" in bad.json()["errors"][0]["detail"]
