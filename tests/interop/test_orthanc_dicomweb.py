"""Orthanc's DICOMweb plug-in and we are asked the same 200 things about the same objects.

Where the answers differ, `EXPLAINED` says which sentence of the Standard ours follows; the
same list stands in ``deploy/docs/conformance/orthanc.md``. A difference that nobody has
explained fails, and so does an explanation that nothing needs any more.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydicom import Dataset, dcmread

from tests.fixtures.dicom_files import ct_slice, multi_frame, part10_file
from tests.fixtures.http import HttpNode, multipart_body, multipart_parts
from tests.fixtures.orthanc import is_installed, orthanc

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="Orthanc with DICOMweb is not installed"),
]

JSON = {"Accept": "application/dicom+json"}
TYPE = 'multipart/related; type="application/dicom"; boundary=b'
UIDS = ("0020000D", "0020000E", "00080018")


@dataclass(frozen=True)
class Asked:
    """One request to both."""

    path: str
    accept: str = "application/dicom+json"

    def __str__(self) -> str:
        return self.path if self.accept == JSON["Accept"] else f"{self.path} as {self.accept}"


def objects() -> list[Dataset]:
    """Return five studies of four patients, with fixed UIDs."""
    found = []
    people = [
        ("P1", "NGUYEN^VAN AN", "20260101", "080000", "A1", "CT"),
        ("P1", "NGUYEN^VAN AN", "20260215", "093000", "A2", "MR"),
        ("P2", "TRAN^THI BINH", "20260301", "101500", "A3", "US"),
        ("P3", "Le^Cuc", "20260302", "", "A4", "CR"),
        ("P4", "DO^QUANG", "20260401", "235959", "", "CT"),
    ]
    for number, (patient, name, day, moment, accession, modality) in enumerate(people, 1):
        for series in (1, 2):
            for instance in (1, 2):
                make = multi_frame if (number, series) == (3, 2) else ct_slice
                dataset = make(
                    PatientID=patient,
                    PatientName=name,
                    StudyDate=day,
                    StudyTime=moment,
                    AccessionNumber=accession,
                    Modality=modality,
                    StudyID=f"S{number}",
                    StudyDescription=f"Study {number}",
                    ReferringPhysicianName="PHAM^D",
                    SeriesNumber=series,
                    SeriesDescription=f"Series {series}",
                    BodyPartExamined="CHEST",
                    InstanceNumber=instance,
                    StudyInstanceUID=f"2.25.{number}",
                    SeriesInstanceUID=f"2.25.{number}.{series}",
                    SOPInstanceUID=f"2.25.{number}.{series}.{instance}",
                )
                found.append(dataset)
    return found


def questions() -> list[Asked]:
    """Return what both are asked."""
    return [*_searches(), *_retrievals(), *_mistakes()]


def _searches() -> Iterator[Asked]:
    keys = [
        *("PatientID=P1", "PatientID=P*", "PatientID=P?", "PatientID=", "PatientID=none"),
        *("00100020=P2", "PatientName=NGUYEN*", "PatientName=*AN", "PatientName=nguyen*"),
        *("PatientName=NGUYEN^VAN AN", "PatientName=NGUYEN^VAN?AN", "PatientName=Le^Cuc"),
        *("PatientName=le^cuc", "PatientName=*", "00100010=TRAN*", "PatientBirthDate=19600102"),
        *("PatientSex=M", "PatientSex=F", "StudyDate=20260101", "StudyDate=20260101-20260228"),
        *("StudyDate=20260301-", "StudyDate=-20260215", "StudyDate=", "00080020=20260302"),
        *("StudyTime=080000", "StudyTime=080000-100000", "StudyTime=09-", "AccessionNumber=A1"),
        *("AccessionNumber=A*", "AccessionNumber=a1", "00080050=A3", "StudyID=S4"),
        *("StudyInstanceUID=2.25.1", "StudyInstanceUID=2.25.1,2.25.2", "0020000D=2.25.5"),
        *("StudyInstanceUID=2.25.99", "ModalitiesInStudy=CT", "ModalitiesInStudy=MR"),
        *("ModalitiesInStudy=XA", "ReferringPhysicianName=PHAM^D", "ReferringPhysicianName=P*"),
        *("StudyDescription=Study 1", "StudyDescription=Study*", "00081030=*3"),
        *("PatientID=P1&StudyDate=20260215", "PatientID=P1&PatientName=TRAN*"),
        *("limit=2", "limit=1&offset=1", "limit=100", "offset=3", "offset=50", "limit=0"),
        *("StudyDate=20260216-20260228", "StudyTime=235959", "PatientID=P4&StudyDate=20260401"),
        *("ModalitiesInStudy=CR", "PatientName=T*", "PatientName=D*", "00080061=US"),
    ]
    for key in keys:
        yield Asked(f"studies?{quote(key, safe='=&*?,^-')}")
    for more in ("includefield=StudyDescription", "includefield=00081030,00080090"):
        yield Asked(f"studies?PatientID=P1&{more}")
    yield Asked("studies?PatientID=P2&includefield=all")
    yield Asked("studies?PatientName=BINH&fuzzymatching=true")
    yield from _searches_of_series()
    yield from _searches_of_instances()


def _searches_of_series() -> Iterator[Asked]:
    of_series = [
        *("Modality=CT", "Modality=M*", "Modality=ct", "SeriesNumber=1", "SeriesNumber=9"),
        *("SeriesDescription=Series 2", "SeriesDescription=*2", "BodyPartExamined=CHEST"),
        *("limit=1", "offset=1", "00080060=MR", "00200011=2", ""),
    ]
    for number in (1, 2, 3):
        for key in of_series:
            yield Asked(f"studies/2.25.{number}/series?{quote(key, safe='=&*?,^-')}")
    for key in ("Modality=US", "SeriesInstanceUID=2.25.1.1", "PatientID=P1", "StudyDate=20260401"):
        yield Asked(f"series?{key}")


def _searches_of_instances() -> Iterator[Asked]:
    of_instances = [
        *("InstanceNumber=1", "InstanceNumber=2", "SOPInstanceUID=2.25.1.1.1", "limit=1", "")
    ]
    first, second = "studies/2.25.1/series/2.25.1.1", "studies/2.25.3/series/2.25.3.2"
    for place in ("studies/2.25.1", first, second):
        for key in of_instances:
            yield Asked(f"{place}/instances?{key}")
    ct = "1.2.840.10008.5.1.4.1.1.2"
    for key in ("SOPInstanceUID=2.25.2.1.1", "PatientID=P3", f"SOPClassUID={ct}"):
        yield Asked(f"instances?{key}")


def _retrievals() -> Iterator[Asked]:
    part10 = 'multipart/related; type="application/dicom"'
    octets = 'multipart/related; type="application/octet-stream"'
    for study in (1, 2, 3, 4):
        yield Asked(f"studies/2.25.{study}/metadata")
        yield Asked(f"studies/2.25.{study}", part10)
        for series in (1, 2):
            place = f"studies/2.25.{study}/series/2.25.{study}.{series}"
            yield Asked(f"{place}/metadata")
            yield Asked(place, part10)
            yield Asked(f"{place}/instances/2.25.{study}.{series}.1/metadata")
            yield Asked(f"{place}/instances/2.25.{study}.{series}.1", part10)
            yield Asked(f"{place}/instances/2.25.{study}.{series}.1/frames/1", octets)
            yield Asked(f"{place}/instances/2.25.{study}.{series}.2/frames/1", octets)
    movie = "studies/2.25.3/series/2.25.3.2/instances/2.25.3.2.1"
    for frames in ("2", "3", "1,3", "1,2,3"):
        yield Asked(f"{movie}/frames/{frames}", octets)
    first = "studies/2.25.1/series/2.25.1.1/instances/2.25.1.1.1"
    yield Asked(f"{first}/rendered", "image/png")
    yield Asked(f"{first}/rendered", "image/jpeg")
    yield Asked(f"{first}/frames/1/rendered", "image/png")
    yield Asked(f"{first}/bulkdata/7FE00010", "application/octet-stream")


def _mistakes() -> Iterator[Asked]:
    yield Asked("studies/2.25.99/metadata")
    yield Asked("studies/2.25.99/series")
    yield Asked("studies/2.25.99", 'multipart/related; type="application/dicom"')
    yield Asked("studies/2.25.1/series/2.25.2.1/metadata")
    first = "studies/2.25.1/series/2.25.1.1/instances/2.25.1.1.1"
    yield Asked(f"{first}/frames/2", 'multipart/related; type="application/octet-stream"')
    yield Asked(f"{first}/frames/0", 'multipart/related; type="application/octet-stream"')
    yield Asked(f"{first}/bulkdata/00100020", "application/octet-stream")
    yield Asked("studies?NoSuchKeyword=1")
    yield Asked("studies?StudyDate=yesterday")
    yield Asked("studies", "text/html")
    yield Asked("studies", 'multipart/related; type="application/dicom+xml"')
    yield Asked("nothing")
    yield Asked("studies?limit=x")


# What differs


@dataclass(frozen=True)
class Explained:
    """Differences, in which answers, and the sentence that ours follow."""

    differences: str
    """A regular expression."""
    questions: str
    sentence: str

    def covers(self, difference: str, question: str) -> bool:
        """Whether it explains a difference of the answers to a question."""
        return bool(
            re.fullmatch(self.differences, difference) and re.search(self.questions, question)
        )


NUMBERS = r"entities|number: .*"
EXPLAINED = (
    Explained(
        "status: 204 and 200",
        r"^(studies|series|instances)\?(?!limit=0)|/(series|instances)(\?|$)",
        "PS3.18 8.3.4.4.1: with no results a search is answered 204 (No Content).",
    ),
    Explained(
        "status: 204 and 200",
        r"limit=0",
        "PS3.18 8.3.4.4.1: there are no more results than limit; none are 204 (No Content).",
    ),
    Explained(
        "status: 400 and 200",
        r"NoSuchKeyword|yesterday|limit=x",
        "PS3.18 Table 10.6.3-1: an invalid query parameter is answered 400 (Bad Request).",
    ),
    Explained(
        "status: 404 and 400",
        r"/frames/",
        "PS3.18 8.5: a resource that does not exist is answered 404 (Not Found).",
    ),
    Explained(
        "status: 406 and 200",
        r"text/html",
        "PS3.18 8.7.8: without an acceptable media type the answer is 406 (Not Acceptable).",
    ),
    Explained(
        f"media type: .*|part type|{NUMBERS}",
        r"dicom\+xml",
        "PS3.18 10.6.3.3: search results are given in an acceptable media type (8.7.4).",
    ),
    Explained(
        "status: 200 and 404",
        r"/bulkdata/",
        "PS3.18 10.4.3.3.2: the URI of bulk data is the one that the server's metadata have.",
    ),
    Explained(
        NUMBERS,
        r"%20",
        "RFC 3986 2.1: %20 in a query string is a space.",
    ),
    Explained(
        NUMBERS,
        r"fuzzymatching=true",
        "PS3.18 8.3.4.2: fuzzymatching=true asks for fuzzy semantic matching of person names.",
    ),
    Explained(
        "entities",
        r"limit=|offset=",
        "PS3.18 8.3.4.4.1: the same search gives the same order; which one is not prescribed.",
    ),
    Explained(
        r"they alone tell (0008(0020|0030|0050|0060|0090|103E)|0010....|002000(10|11))",
        r"^studies/",
        "PS3.18 10.6.3.3.2: study attributes are added when the resource is all series.",
    ),
    Explained(
        r"we alone tell 00080056",
        r"",
        "PS3.18 Table 10.6.3-5: Instance Availability shall be present if known.",
    ),
    Explained(
        r"we alone tell 00083002",
        r"instances|metadata",
        "PS3.18 10.6.3.3.3: a response may have more attributes; this one tells how it is stored.",
    ),
    Explained(
        r"we alone tell (00080061|00201206|00201208|00201209|00400244|00400245|00400275)",
        r"",
        "PS3.18 Tables 10.6.3-3 and 10.6.3-4: what is required is there, empty if unknown.",
    ),
    Explained(
        r"we alone tell .*",
        r"includefield=all",
        "PS3.18 8.3.4.3: includefield=all asks for every attribute of the level.",
    ),
)
DOCUMENT = Path(__file__).parents[2] / "deploy" / "docs" / "conformance" / "orthanc.md"


# What is compared


def told(response: httpx.Response) -> Mapping[str, Any]:
    """Return the aspects of an answer that are compared."""
    aspects: dict[str, Any] = {"status": response.status_code}
    if response.status_code != 200:
        return aspects
    essence = response.headers["content-type"].partition(";")[0].strip()
    aspects["media type"] = essence
    if essence in {"application/dicom+json", "application/json"}:
        rows = response.json()
        aspects["number"] = len(rows)
        aspects["entities"] = sorted(tuple(_first(row, uid) for uid in UIDS) for row in rows)
        aspects["rows"] = {tuple(_first(row, uid) for uid in UIDS): row for row in rows}
    elif essence == "multipart/related":
        parts = multipart_parts(response)
        aspects["number"] = len(parts)
        kinds = {headers["content-type"].partition(";")[0] for headers, _ in parts}
        aspects["part type"] = sorted(kinds)
        if kinds == {"application/dicom"}:
            read = [dcmread(BytesIO(content)) for _, content in parts]
            aspects["objects"] = sorted((one.SOPInstanceUID, one.PixelData) for one in read)
        elif kinds == {"application/octet-stream"}:
            aspects["octets"] = [content for _, content in parts]
    elif essence == "application/octet-stream":
        aspects["octets"] = [response.content]
    return aspects


def _first(row: Mapping[str, Any], tag: str) -> str:
    return str(next(iter(row.get(tag, {}).get("Value", [])), ""))


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Yield how two answers differ, each difference in the words that explanations use."""
    for aspect in ("status", "media type", "part type", "number", "entities", "objects", "octets"):
        mine, other = ours.get(aspect), theirs.get(aspect)
        if mine != other and not (aspect != "status" and ours["status"] != theirs["status"]):
            shown = f": {mine} and {other}" if aspect in {"status", "media type", "number"} else ""
            yield f"{aspect}{shown}"
    rows, others = ours.get("rows", {}), theirs.get("rows", {})
    for entity in rows.keys() & others.keys():
        mine, other = rows[entity], others[entity]
        for tag in sorted(mine.keys() - other.keys()):
            yield f"we alone tell {tag}"
        for tag in sorted(other.keys() - mine.keys()):
            yield f"they alone tell {tag}"
        for tag in sorted(mine.keys() & other.keys()):
            if mine[tag] != other[tag] and tag not in {"00081190", "7FE00010"}:
                yield f"{tag} differs"


@pytest.fixture(scope="module")
def found(
    shared_http_node: HttpNode, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """Return the differences and the paths that have each."""
    asked = questions()
    client = shared_http_node.client()
    with orthanc(tmp_path_factory.mktemp("orthanc")) as url, httpx.Client(timeout=30) as other:
        for dataset in objects():
            body = multipart_body([part10_file(dataset)])
            for one, root in ((client, shared_http_node.url), (other, url)):
                answer = one.post(
                    f"{root}/dicom-web/studies",
                    content=body,
                    headers={"Content-Type": TYPE, **JSON},
                )
                assert answer.status_code == 200, answer.text
        shared_http_node.ingest()
        noticed: dict[str, list[str]] = defaultdict(list)
        for question in asked:
            headers = {"Accept": question.accept}
            ours = told(client.get(f"/dicom-web/{question.path}", headers=headers))
            theirs = told(other.get(f"{url}/dicom-web/{question.path}", headers=headers))
            for difference in dict.fromkeys(differences(ours, theirs)):
                noticed[difference].append(str(question))
    return dict(noticed)


def test_two_hundred_things_are_asked() -> None:
    asked = questions()

    assert len(asked) == len(set(asked)) >= 200


def test_every_difference_is_explained(found: dict[str, list[str]]) -> None:
    unexplained = [
        f"{difference} in {question}"
        for difference, asked in found.items()
        for question in asked
        if not any(one.covers(difference, question) for one in EXPLAINED)
    ]

    assert unexplained == []


def test_every_explanation_is_needed(found: dict[str, list[str]]) -> None:
    idle = [
        one.sentence
        for one in EXPLAINED
        if not any(one.covers(diff, asked) for diff, some in found.items() for asked in some)
    ]

    assert idle == []


def test_conformance_statement_has_the_same_list() -> None:
    told = " ".join(DOCUMENT.read_text(encoding="utf-8").split())

    assert [one.sentence for one in EXPLAINED if one.sentence not in told] == []
