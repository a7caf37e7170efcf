"""Reports of a system of another maker, from its messages to versions, orders and the study."""

import base64

import pytest

from pacs.report_objects import ENCAPSULATED_PDF
from pacs.reporting import Reporting
from ris.hl7 import repair, reporting
from ris.reports import documents, queries
from ris.reports.model import Command, Report
from ris.reports.queries import Search
from ris.reports.signing.local import LocalSigner
from ris.reports.states import Action, Status
from ris.reports.verbs import act
from storage.archive import instances
from storage.base.errors import Conflict
from storage.db.engine import Engine, transaction
from storage.jobs.runner import Runner
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.his import ZONE, His, order, pid
from tests.fixtures.http import HttpNode
from tests.fixtures.reports import HEAD, Desk
from tests.fixtures.reports import TEXT as DESK_TEXT

PDF = b"%PDF-1.7\nforeign"
ED = f"PACS^application^pdf^Base64^{base64.b64encode(PDF).decode()}"
TEXT = "Tim phổi bình thường."


class Foreign:
    """A HIS that orders, and a report system of another maker."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.his = His(engine)
        self.ris = His(engine, "ris")

    def order(self, number: str = "7781001", patient: str = "BN1") -> None:
        assert self.his.send("ORM^O01", *order("NW", number, patient)) == "AA"

    def tell(  # noqa: PLR0913 - parts of a message
        self,
        status: str,
        text: str = TEXT,
        *,
        number: str = "7781001",
        patient: str = "BN1",
        observed: str = "",
        at: str = "",
        extra: str = "",
    ) -> tuple[str, str]:
        """Send a result; return MSA-1 and the code of ERR-3."""
        obr = ["OBR", "1", number, *[""] * 18, "", at, "", "DX", status, *[""] * 6, "BS9&BS. Lạ"]
        segments = [
            pid(patient),
            f"ORC|RE|{number}",
            "|".join(obr),
            f"OBX|1|TX|MO_TA||{text}||||||{observed or status}",
            *([extra] if extra else []),
        ]
        return self.ris.answer("ORU^R01", *segments)[:2]

    def reports(self) -> list[Report]:
        with transaction(self.engine) as session:
            return [*queries.find(session, Search())]

    def only(self) -> Report:
        [found] = self.reports()
        return found

    def statuses(self) -> list[str]:
        with transaction(self.engine) as session:
            found = queries.versions(session, self.only().uid, issued=True)
        return [one.status.value for one in found]

    def outcome(self) -> str:
        return self.ris.entry().outcome


@pytest.fixture
def foreign(engine: Engine) -> Foreign:
    made = Foreign(engine)
    made.order()
    return made


def test_result_becomes_a_signed_version_of_its_author(foreign: Foreign) -> None:
    assert foreign.tell("F") == ("AA", "")

    report = foreign.only()
    assert (report.status, report.source, report.version) == (Status.FINAL, "ris", 1)
    assert report.latest.content.findings == TEXT
    assert (report.latest.author.code, report.latest.author.name) == ("ris:BS9", "BS. Lạ")
    assert report.latest.subject.patient_id == "BN1"
    assert foreign.his.only_order("7781001").state == "REPORTED"
    assert foreign.outcome() == "final"


def test_life_of_a_foreign_report(foreign: Foreign) -> None:
    for status, text, observed in (
        ("P", "sơ bộ", ""),
        ("F", "cuối", ""),
        ("C", "đính chính", ""),
        ("C", "sai", "W"),
    ):
        assert foreign.tell(status, text, observed=observed) == ("AA", "")

    assert foreign.statuses() == ["preliminary", "final", "corrected", "retracted"]
    assert foreign.his.only_order("7781001").state != "REPORTED"


@pytest.mark.parametrize("again", ["F", "C", "P"])
def test_same_text_again_writes_nothing(foreign: Foreign, again: str) -> None:
    foreign.tell("F")

    assert foreign.tell(again) == ("AA", "")

    assert foreign.statuses() == ["final"]
    assert foreign.outcome() == "unchanged"


def test_other_text_after_a_final_one_is_a_correction(foreign: Foreign) -> None:
    foreign.tell("F")
    foreign.tell("F", "khác")

    assert foreign.statuses() == ["final", "corrected"]


def test_correction_that_overtakes_its_report_stays_the_newest(foreign: Foreign) -> None:
    foreign.tell("C", "đúng", at="20260301100000")

    assert foreign.tell("F", "sai", at="20260301090000") == ("AA", "")

    assert foreign.statuses() == ["corrected"]
    assert foreign.only().latest.content.findings == "đúng"
    assert foreign.outcome() == "stale"


def test_withdrawal_that_overtakes_its_report_keeps_it_away(foreign: Foreign) -> None:
    foreign.tell("C", "sai", observed="W", at="20260301100000")
    foreign.tell("F", "sai", at="20260301090000")

    assert foreign.statuses() == ["retracted"]


def test_withdrawn_report_may_be_followed_by_another(foreign: Foreign) -> None:
    foreign.tell("F", at="20260301090000")
    foreign.tell("C", observed="D", at="20260301100000")
    foreign.tell("F", "mới", at="20260301110000")

    assert [one.status for one in foreign.reports()] == [Status.FINAL, Status.RETRACTED]


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"number": "999"}, "204"),
        ({"patient": "BN2"}, "205"),
    ],
    ids=["unknown order", "another patient"],
)
def test_result_that_fits_nothing_is_a_dead_letter(
    foreign: Foreign, told: dict[str, str], code: str
) -> None:
    assert foreign.tell("F", **told) == ("AE", code)  # type: ignore[arg-type]

    assert foreign.reports() == []
    assert foreign.ris.entry().state == "dead"


def test_result_of_the_laboratory_is_no_dead_letter(foreign: Foreign) -> None:
    glucose = "OBX|1|NM|GLU^Glucose||5.6|mmol/L|||||F"
    obr = "|".join(["OBR", "1", "999", *[""] * 21, "CH", "F"])

    assert foreign.ris.send("ORU^R01", pid("BN1"), "ORC|RE|999", obr, glucose) == "AA"

    entry = foreign.ris.entry()
    assert (entry.state, entry.outcome) == ("applied", "ignored")
    assert entry.reason == "OBR-24: a result of the laboratory (CH), passed over"
    assert foreign.reports() == []


@pytest.mark.parametrize(
    ("obx", "reason"),
    [
        ("OBX|1|TX|X^Ghi chú||Bình thường||||||F", "no order has this number"),
        ("OBX|1|NM|GLU^Glucose||5.6|mmol/L|||||F", "OBX-5 is required: passed over"),
    ],
    ids=["text", "number"],
)
def test_who_tells_of_all_results_makes_no_dead_letters(
    engine: Engine, obx: str, reason: str
) -> None:
    his = His(engine, "all", ignore_unknown_results=True)
    obr = "|".join(["OBR", "1", "999", *[""] * 22, "F"])

    assert his.send("ORU^R01", pid("BN1"), "ORC|RE|999", obr, obx) == "AA"

    entry = his.entry()
    assert (entry.state, entry.outcome) == ("applied", "ignored")
    assert reason in entry.reason


def test_who_tells_of_all_results_is_heard_where_the_order_is_known(engine: Engine) -> None:
    his = His(engine, "all", ignore_unknown_results=True)
    his.order("NW", "7781001", "BN1")
    obr = "|".join(["OBR", "1", "7781001", *[""] * 22, "F"])

    his.send("ORU^R01", pid("BN1"), "ORC|RE|7781001", obr, f"OBX|1|TX|MO_TA||{TEXT}||||||F")

    assert his.entry().outcome == "final"


def test_dead_letter_is_applied_when_its_order_has_come(foreign: Foreign) -> None:
    foreign.tell("F", number="888")
    entry = foreign.ris.entry()
    foreign.order("888")

    done = repair.replay(foreign.engine, foreign.ris.pipeline, entry.id)

    assert done.state == "applied"
    assert foreign.only().status is Status.FINAL


def test_report_of_ours_is_not_replaced(foreign: Foreign, desk: Desk) -> None:
    ours = desk.open(study_instance_uids=(), order_ids=(foreign.his.only_order("7781001").id,))

    assert foreign.tell("F") == ("AE", "205")

    assert foreign.only().uid == ours.uid


def test_report_of_ours_that_comes_back_is_nothing_new(foreign: Foreign, desk: Desk) -> None:
    desk.signed(study_instance_uids=(), order_ids=(foreign.his.only_order("7781001").id,))
    told = f"{DESK_TEXT.findings}~{DESK_TEXT.impression}".replace("\n", "~")

    assert foreign.tell("F", told) == ("AA", "")
    assert foreign.outcome() == "unchanged"
    assert foreign.tell("F", "khác") == ("AE", "205")
    assert foreign.only().source == ""


def test_nobody_here_changes_a_foreign_report(foreign: Foreign, desk: Desk) -> None:
    foreign.tell("F")
    report = foreign.only()
    command = Command(action=Action.ADDEND, revision=report.revision, addendum="x")

    with pytest.raises(Conflict), transaction(desk.engine) as session:
        act(session, HEAD, report.uid, command)


def test_foreign_report_is_not_told_to_others(foreign: Foreign) -> None:
    foreign.tell("F")

    assert reporting.tell(foreign.engine, ZONE, None) == 0


def test_paper_that_came_with_it_is_kept_and_put_into_the_study(http_node: HttpNode) -> None:
    image = ct_slice(PatientID="BN1", PatientName="NGUYỄN VĂN MẪU")
    http_node.put(image)
    uid = str(image.StudyInstanceUID)
    foreign = Foreign(http_node.engine)
    ordered = order("NW", "7781001", "BN1", study=uid)
    assert foreign.his.send("ORM^O01", *ordered) == "AA"
    paper = f"OBX|2|ED|PDF||{ED}||||||F"

    assert foreign.tell("F", extra=paper) == ("AA", "")
    signer = LocalSigner(http_node.settings.secrets_dir)
    work = Reporting(http_node.settings, http_node.engine, http_node.store, http_node.spool, signer)
    runner = Runner(http_node.engine, work.handlers())
    while runner.run_once():
        pass
    http_node.ingest()

    report = foreign.only()
    with transaction(http_node.engine) as session:
        kept = documents.find(session, report.uid, report.revision)
        stored = instances.locate(session, {"StudyInstanceUID": uid})
    assert kept is not None
    assert http_node.store.read(kept.object_key) == PDF
    assert kept.evidence.method == "received"
    [document] = [one for one in stored if one.sop_class_uid == ENCAPSULATED_PDF]
    content = http_node.store.read(
        document.object_key, document.dataset_offset, document.dataset_size
    )
    assert PDF in content
