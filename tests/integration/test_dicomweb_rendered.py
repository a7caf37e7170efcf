"""Rendered pictures, thumbnails and ZIP files over a real port."""

import io
import zipfile
from copy import deepcopy

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)
from reportlab.pdfgen.canvas import Canvas

from storage.access.tokens import Role
from tests.fixtures.dicom_files import ct_slice, encode, multi_frame, set_pixels
from tests.fixtures.dicom_papers import ecg, structured_report
from tests.fixtures.http import HttpNode, multipart_parts

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"


@pytest.fixture(scope="module")
def ct() -> Dataset:
    return ct_slice(WindowCenter=100, WindowWidth=200)


@pytest.fixture(scope="module")
def movie() -> Dataset:
    return multi_frame(3, WindowCenter=96, WindowWidth=192)


@pytest.fixture(scope="module")
def pdf() -> Dataset:
    document = ct_slice(SOPClassUID=EncapsulatedPDFStorage)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        del document[keyword]
    document.EncapsulatedDocument = b"%PDF-1.4"
    return document


@pytest.fixture(scope="module")
def client(shared_http_node: HttpNode, ct: Dataset, movie: Dataset, pdf: Dataset) -> httpx.Client:
    shared_http_node.put(ct, movie, pdf)
    return shared_http_node.client()


def study(dataset: Dataset) -> str:
    return f"/dicom-web/studies/{dataset.StudyInstanceUID}"


def series(dataset: Dataset) -> str:
    return f"{study(dataset)}/series/{dataset.SeriesInstanceUID}"


def instance(dataset: Dataset) -> str:
    return f"{series(dataset)}/instances/{dataset.SOPInstanceUID}"


def opened(response: httpx.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content))


@pytest.mark.parametrize("place", [study, series, instance, lambda ct: f"{instance(ct)}/frames/1"])
def test_every_level_is_rendered(client, ct, place):
    answer = client.get(f"{place(ct)}/rendered")

    assert answer.headers["content-type"] == "image/jpeg"
    assert opened(answer).size == (ct.Columns, ct.Rows)


@pytest.mark.parametrize("place", [study, series, instance, lambda ct: f"{instance(ct)}/frames/1"])
def test_every_level_has_a_thumbnail(client, ct, place):
    assert opened(client.get(f"{place(ct)}/thumbnail")).size == (128, 128)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/png", "PNG"),
        ("image/webp", "WEBP"),
        ("image/gif", "GIF"),
        ("image/jpeg", "JPEG"),
        ("*/*", "JPEG"),
        ("image/*", "JPEG"),
        ("text/html, image/png;q=0.5, image/webp;q=0.4", "PNG"),
    ],
)
def test_the_client_chooses_the_format(client, ct, accept, kind):
    answer = client.get(f"{instance(ct)}/rendered", headers={"Accept": accept})

    assert opened(answer).format == kind


def test_the_query_chooses_before_the_header(client, ct):
    answer = client.get(
        f"{instance(ct)}/rendered", params={"accept": "image/png"}, headers={"Accept": "image/webp"}
    )

    assert opened(answer).format == "PNG"


def test_window_viewport_and_quality_are_obeyed(client, ct):
    asked = {"accept": "image/png", "window": "10,1,linear", "viewport": "8,8"}
    shown = np.asarray(opened(client.get(f"{instance(ct)}/rendered", params=asked)))
    sizes = [
        len(client.get(f"{instance(ct)}/rendered", params={"quality": quality}).content)
        for quality in ("10", "95")
    ]

    assert shown.shape == (8, 8)
    assert (shown[-1] == 255).all()
    assert sizes[0] < sizes[1]


def test_each_frame_is_its_own_picture(client, movie):
    pictures = [
        client.get(f"{instance(movie)}/frames/{number}/rendered").content for number in (1, 2, 3)
    ]

    assert len(set(pictures)) == 3
    assert client.get(f"{instance(movie)}/rendered").content == pictures[0]


def test_a_compressed_object_is_decoded(client, shared_http_node):
    plain, dataset = ct_slice(), ct_slice()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.compress(RLELossless, generate_instance_uid=False)
    shared_http_node.put(plain)
    shared_http_node.put_encoded(dataset, encode(dataset, RLELossless), RLELossless)

    shown = [
        opened(client.get(f"{instance(one)}/rendered", params={"accept": "image/png"})).tobytes()
        for one in (dataset, plain)
    ]

    assert shown[0] == shown[1]


def test_every_frame_is_a_part_of_its_own(client, movie):
    accept = {"Accept": 'multipart/related; type="image/png"'}
    alone = [
        client.get(f"{instance(movie)}/frames/{number}/rendered", params={"accept": "image/png"})
        for number in (1, 2, 3)
    ]

    for place in (study, series, instance):
        parts = multipart_parts(client.get(f"{place(movie)}/rendered", headers=accept))

        assert [body for _, body in parts] == [one.content for one in alone]
        places = [headers["content-location"] for headers, _ in parts]
        assert [client.get(one, params={"accept": "image/png"}).content for one in places] == [
            one.content for one in alone
        ]
        assert {headers["content-type"] for headers, _ in parts} == {"image/png"}


def test_some_frames_are_rendered_in_their_order(client, movie):
    url = f"{instance(movie)}/frames/3,1/rendered"
    png = {"accept": "image/png"}
    third = client.get(f"{instance(movie)}/frames/3/rendered", params=png).content

    parts = multipart_parts(
        client.get(url, headers={"Accept": 'multipart/related; type="image/png"'})
    )

    assert len(parts) == 2
    assert parts[0][1] == third


def test_images_are_in_the_parts_of_a_study_and_documents_are_not(client, shared_http_node, pdf):
    first = ct_slice()
    document = deepcopy(pdf)
    document.StudyInstanceUID = first.StudyInstanceUID
    document.SOPInstanceUID, document.SeriesInstanceUID = generate_uid(), generate_uid()
    shared_http_node.put(first, document)
    accept = {"Accept": 'multipart/related; type="image/jpeg"'}

    [(headers, _)] = multipart_parts(client.get(f"{study(first)}/rendered", headers=accept))

    assert first.SOPInstanceUID in headers["content-location"]


@pytest.mark.parametrize("media_type", ["image/gif", "video/mp4"])
def test_many_frames_are_a_film(client, movie, media_type):
    answer = client.get(f"{instance(movie)}/rendered", headers={"Accept": media_type})

    assert answer.headers["content-type"] == media_type
    if media_type == "image/gif":
        film = opened(answer)
        assert (film.n_frames, film.info["duration"], film.size) == (3, 100, (8, 8))
    else:
        assert answer.content[4:12] == b"ftypisom"


def test_a_film_lasts_as_long_as_the_object_says(client, shared_http_node):
    film = multi_frame(4, FrameTime="250")
    vector = multi_frame(3, FrameTimeVector=["0", "40", "80"])
    shared_http_node.put(film, vector)

    steady = opened(client.get(f"{instance(film)}/frames/1,3/rendered?accept=image/gif"))
    shown = opened(client.get(f"{instance(vector)}/rendered?accept=image/gif"))

    assert (steady.n_frames, steady.info["duration"]) == (2, 250)
    durations = []
    for number in range(3):
        shown.seek(number)
        durations.append(shown.info["duration"])
    assert durations == [40, 80, 80]


def test_each_frame_of_an_enhanced_object_has_its_own_window(client, shared_http_node):
    movie = multi_frame(2)
    set_pixels(movie, np.full((2, 8, 8), 100, "<u2"))
    groups = []
    for center in (100.5, 300):
        voi, rescale, group = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 101
        rescale.RescaleSlope, rescale.RescaleIntercept = 1, 0
        rescale.RescaleType = "US"
        group.FrameVOILUTSequence, group.PixelValueTransformationSequence = [voi], [rescale]
        groups.append(group)
    movie.PerFrameFunctionalGroupsSequence = groups
    movie.NumberOfFrames = 2
    shared_http_node.put(movie)

    greys = [
        opened(client.get(f"{instance(movie)}/frames/{number}/rendered?accept=image/png"))
        for number in (1, 2)
    ]

    assert [grey.getpixel((0, 0)) for grey in greys] == [128, 0]


def test_the_representative_frame_stands_for_all(client, shared_http_node):
    movie = multi_frame(3, RepresentativeFrameNumber=3)
    shared_http_node.put(movie)
    png = {"accept": "image/png"}

    shown = client.get(f"{instance(movie)}/rendered", params=png).content

    assert shown == client.get(f"{instance(movie)}/frames/3/rendered", params=png).content


def test_what_has_not_changed_is_not_sent_again(client, ct):
    etag = client.get(f"{instance(ct)}/rendered").headers["etag"]
    held = {"If-None-Match": etag}

    assert client.get(f"{instance(ct)}/rendered", headers=held).status_code == 304
    other = client.get(f"{instance(ct)}/rendered", headers=held, params={"quality": "20"})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("path", "parameters", "accept", "status"),
    [
        ("/frames/2/rendered", {}, "*/*", 404),
        ("/frames/0/rendered", {}, "*/*", 404),
        ("/frames/1,1/rendered", {}, "image/jpeg", 406),
        ("/frames/1,2/rendered", {}, "*/*", 404),
        ("/frames/1;1/rendered", {}, "*/*", 400),
        ("/frames/x/thumbnail", {}, "*/*", 400),
        ("/rendered", {"window": "1"}, "*/*", 400),
        ("/rendered", {"viewport": "0,0"}, "*/*", 400),
        ("/rendered", {"viewport": "8,8,5000,0,8,8"}, "*/*", 400),
        ("/rendered", {"quality": "many"}, "*/*", 400),
        ("/rendered", {}, "video/mp4", 406),
        ("/rendered", {}, "multipart/related; type=video/mp4", 406),
    ],
)
def test_what_cannot_be_has_its_status(client, ct, path, parameters, accept, status):
    answer = client.get(instance(ct) + path, params=parameters, headers={"Accept": accept})

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_encapsulated_document_is_given_as_it_is(client, pdf):
    for place in (study, series, instance):
        answer = client.get(f"{place(pdf)}/rendered", headers={"Accept": BROWSER})

        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["content-disposition"] == "inline"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert answer.content == b"%PDF-1.4"


def test_a_document_is_no_picture(client, pdf):
    for path, accept in (("thumbnail", "*/*"), ("rendered", "image/jpeg")):
        assert client.get(f"{instance(pdf)}/{path}", headers={"Accept": accept}).status_code == 406
    assert client.get(f"{instance(pdf)}/frames/1/rendered").status_code == 404


def test_a_report_and_a_pdf_have_their_first_page_as_thumbnail(client, shared_http_node):
    content = io.BytesIO()
    canvas = Canvas(content, pagesize=(200, 400))
    canvas.rect(0, 200, 200, 200, stroke=0, fill=1)
    canvas.save()
    paper = ct_slice(SOPClassUID=EncapsulatedPDFStorage)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        del paper[keyword]
    paper.EncapsulatedDocument = content.getvalue() + b"\0" * (content.tell() % 2)
    report = structured_report()
    shared_http_node.put(paper, report)

    of_pdf = opened(client.get(f"{instance(paper)}/thumbnail?accept=image/png"))
    of_report = opened(client.get(f"{study(report)}/thumbnail?accept=image/png&viewport=600,900"))

    assert of_pdf.size == (64, 128)
    assert max(of_pdf.getpixel((30, 30))) < 10
    assert min(of_pdf.getpixel((30, 100))) > 245
    assert of_report.height > 800
    assert np.asarray(of_report).min() < 60
    assert client.get(f"{instance(report)}/rendered?accept=image/png").status_code == 406


def test_a_report_is_read_in_the_language_of_the_reader(client, shared_http_node):
    report = structured_report(TextValue="Không thấy <script>alert(1)</script>")
    shared_http_node.put(report)
    url = f"{instance(report)}/rendered"

    vietnamese = client.get(url, headers={"Accept": BROWSER})
    english = client.get(url, headers={"Accept": BROWSER, "Accept-Language": "fr, en;q=0.5"})
    plain = client.get(url, headers={"Accept": "text/plain"})

    assert vietnamese.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in vietnamese.headers["content-security-policy"]
    assert "<dt>Người bệnh</dt><dd>NGUYỄN VĂN AN</dd>" in vietnamese.text
    assert "<dt>Patient</dt>" in english.text
    assert "<script>" not in vietnamese.text
    assert vietnamese.headers["etag"] != english.headers["etag"]
    model = client.get(url, headers={"Accept": "text/xml"})
    assert model.headers["content-type"] == "text/xml"
    assert 'keyword="ContentSequence"' in model.text
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert "Findings: Không thấy <script>" in plain.text


def test_a_waveform_is_a_picture_on_paper(client, shared_http_node):
    recorded = ecg()
    shared_http_node.put(recorded)

    shown = opened(client.get(f"{instance(recorded)}/rendered?accept=image/png"))
    small = opened(client.get(f"{series(recorded)}/thumbnail"))

    assert shown.size == (1040, 556)
    assert small.size == (128, 68)


def test_a_study_shows_its_images_before_its_reports(client, shared_http_node):
    first = ct_slice(SeriesNumber=9)
    report = structured_report(StudyInstanceUID=first.StudyInstanceUID, SeriesNumber=1)
    shared_http_node.put(report, first)

    anything = client.get(f"{study(first)}/rendered")
    text = client.get(f"{study(first)}/rendered", headers={"Accept": "text/html"})

    assert anything.headers["content-type"] == "image/jpeg"
    assert text.headers["content-type"].startswith("text/html")
    assert client.get(f"{study(first)}/thumbnail").status_code == 200


def test_a_study_is_one_zip_of_its_files(client, shared_http_node):
    first = ct_slice()
    same = {"StudyInstanceUID": first.StudyInstanceUID}
    second = ct_slice(**same, SeriesInstanceUID=first.SeriesInstanceUID, InstanceNumber=9)
    other = ct_slice(**same, SeriesNumber=99)
    shared_http_node.put(first, second, other)

    answer = client.get(f"{study(first)}/archive")
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    files = [dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]

    assert answer.headers["content-type"] == "application/zip"
    assert archive.testzip() is None
    assert sorted(archive.namelist()) == [
        "DICOM/S00001/I000001",
        "DICOM/S00001/I000002",
        "DICOM/S00002/I000001",
    ]
    assert sorted(encode(one, ExplicitVRLittleEndian) for one in files) == sorted(
        encode(one, ExplicitVRLittleEndian) for one in (first, second, other)
    )


def test_a_series_is_one_zip_and_what_is_not_there_is_none(client, ct):
    answer = client.get(f"{series(ct)}/archive")

    assert len(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == 1
    assert client.get("/dicom-web/studies/1.2.3/archive").status_code == 404


def test_pictures_and_zip_files_ask_who_calls(shared_http_node, ct):
    stranger = shared_http_node.client("")
    station = shared_http_node.client(shared_http_node.token(Role.STATION, "S1"))

    for path in ("rendered", "thumbnail", "archive"):
        assert stranger.get(f"{study(ct)}/{path}").status_code == 401
        assert station.get(f"{study(ct)}/{path}").status_code == 403
