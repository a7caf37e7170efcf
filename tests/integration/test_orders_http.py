"""Orders, worklists, explanations and reconciliation over HTTP."""

from dataclasses import replace

import httpx
import pytest

from ris import news, performed, queries
from ris.following import Following
from ris.queries import LastQuery
from ris.worklist import MODALITY
from storage.access.tokens import Role
from storage.archive import instances
from storage.base.clock import utc_now
from storage.db.engine import transaction
from tests.fixtures.http import HttpNode
from tests.fixtures.index import received
from tests.fixtures.orders import Placed, place

RECONCILE = "/api/v1/reconcile"
STUDY = "2.25.7"


@pytest.fixture
def placed(http_node: HttpNode) -> list[Placed]:
    with transaction(http_node.engine) as session:
        return [place(session, number) for number in (1, 2)]


@pytest.fixture
def client(http_node: HttpNode, placed: list[Placed]) -> httpx.Client:
    """A technologist; two orders are placed."""
    assert placed
    return http_node.client(http_node.token(Role.TECHNOLOGIST))


def test_orders_are_listed_and_found(client: httpx.Client, placed: list[Placed]) -> None:
    newest = client.get("/api/v1/orders").json()
    page = client.get("/api/v1/orders", params={"limit": 1, "before": placed[1].order}).json()
    by_number = client.get("/api/v1/orders", params={"number": "7781001"}).json()
    by_patient = client.get("/api/v1/orders", params={"patient_id": "bn-1"}).json()
    by_study = client.get("/api/v1/orders", params={"study_instance_uid": "2.25.2"}).json()

    def numbers(found: list[dict[str, dict[str, str]]]) -> list[str]:
        return [one["order"]["accession_number"] for one in found]

    assert numbers(newest) == numbers(by_patient) == ["A2", "A1"]
    assert numbers(page) == numbers(by_number) == ["A1"]
    assert numbers(by_study) == ["A2"]
    one = client.get(f"/api/v1/orders/{placed[0].order}").json()
    assert one["patient"]["patient_name"] == "NGUYỄN^VĂN AN"
    assert one["steps"][0]["scheduled_procedure_step_id"] == "S1"
    assert client.get("/api/v1/orders/999999").status_code == 404


def test_worklist_is_shown_by_its_usual_keys(client: httpx.Client) -> None:
    keys = {"station": "CT01", "modality": "ct", "date": "20260105-", "patient_name": "nguyễn*"}

    found = client.get("/api/v1/worklist", params=keys).json()
    none = client.get("/api/v1/worklist", params={"station": "MR01"}).json()
    bad = client.get("/api/v1/worklist", params={"date": "tomorrow"})

    assert [one["AccessionNumber"] for one in found] == ["A1", "A2"]
    assert none == []
    assert bad.status_code == 400


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("vi-VN, en;q=0.5", "Máy hỏi loại máy MR, bước S1 là CT."),
        ("en", "The console asks for modality MR, step S1 is CT."),
    ],
)
def test_explanation_comes_in_the_language_of_the_client(
    http_node: HttpNode, client: httpx.Client, language: str, text: str
) -> None:
    with transaction(http_node.engine) as session:
        queries.remember(session, LastQuery("CT01", {MODALITY: "MR"}, utc_now(), 0))

    answer = client.get(
        "/api/v1/worklist/explain",
        params={"order": "A1", "ae": "CT01"},
        headers={"Accept-Language": language},
    ).json()

    assert (answer["shown"], answer["keys"]) == (False, {MODALITY: "MR"})
    [finding] = answer["findings"]
    assert (finding["cause"], finding["asked"], finding["held"]) == ("modality", "MR", "CT")
    assert finding["text"] == text


def test_performed_steps_are_listed(
    http_node: HttpNode, client: httpx.Client, placed: list[Placed]
) -> None:
    item = {"StudyInstanceUID": "2.25.1", "ScheduledProcedureStepID": "S1"}
    begun = {
        "Modality": "CT",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "ScheduledStepAttributesSequence": [item],
    }
    with transaction(http_node.engine) as session:
        performed.create(session, "2.25.9000", begun, "CT01", utc_now())

    found = [
        client.get("/api/v1/performed-steps", params=params).json()
        for params in (
            {},
            {"order_id": placed[0].order},
            {"study_instance_uid": "2.25.1", "status": "IN PROGRESS"},
        )
    ]

    assert [[one["sop_instance_uid"] for one in some] for some in found] == [["2.25.9000"]] * 3
    shown = client.get("/api/v1/performed-steps/2.25.9000").json()
    assert shown["items"][0]["order_id"] == placed[0].order
    assert client.get("/api/v1/performed-steps/1.2").status_code == 404


def test_study_is_attached_with_a_preview_and_taken_back(
    http_node: HttpNode, client: httpx.Client, placed: list[Placed]
) -> None:
    image = received("1", "1", "7", PatientID="", PatientName="", PatientBirthDate="")
    with transaction(http_node.engine) as session:
        instances.record(session, [replace(image, received_at=utc_now())])
    deed = {"action": "attach", "procedure_ids": [placed[0].procedure], "reason": "phone"}

    tried = client.post(f"{RECONCILE}/{STUDY}/preview", json=deed)
    between = client.get(f"{RECONCILE}/{STUDY}")
    done = client.post(f"{RECONCILE}/{STUDY}/actions", json=deed)
    again = client.post(f"{RECONCILE}/{STUDY}/actions", json=deed)
    shown = client.get(f"{RECONCILE}/{STUDY}").json()
    undone = client.post(f"{RECONCILE}/journal/{done.json()['id']}/undo")

    assert (tried.status_code, done.status_code, undone.status_code) == (200, 200, 200)
    assert {"what": "study of order", "which": "A1", "before": "", "after": STUDY} in (
        tried.json()["changes"]
    )
    assert (between.json()["standing"], between.json()["attachments"]) == ("", [])
    assert again.status_code == 409
    assert [one["accession_number"] for one in shown["attachments"]] == ["A1"]
    assert client.get(f"{RECONCILE}/{STUDY}").json()["attachments"] == []
    journal = client.get(f"{RECONCILE}/{STUDY}/journal").json()
    assert [one["action"] for one in journal] == ["attach", "undo"]


def test_studies_that_wait_are_listed(http_node: HttpNode, client: httpx.Client) -> None:
    image = received("1", "1", "7", PatientID="X", StudyDate=f"{utc_now():%Y%m%d}")
    with transaction(http_node.engine) as session:
        instances.record(session, [replace(image, received_at=utc_now())])
        news.arrived(session, {STUDY}, utc_now())
    Following(http_node.engine, http_node.settings.zone).run_once()

    found = client.get(RECONCILE, params={"standing": "provisional"}).json()

    assert [one["study_instance_uid"] for one in found] == [STUDY]
    assert found[0]["held"]["patient_id"] == "X"
    assert client.get(RECONCILE, params={"after": STUDY}).json() == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "undo"},
        {"action": "attach", "procedure_ids": ["x"]},
        {"action": "attach", "procedure_ids": [0]},
        {"action": "attach", "more": 1},
    ],
    ids=str,
)
def test_bad_deeds_are_refused(client: httpx.Client, body: dict[str, object]) -> None:
    assert client.post(f"{RECONCILE}/{STUDY}/actions", json=body).status_code in {400, 422}
