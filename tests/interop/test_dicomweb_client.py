"""The real `dicomweb-client` does every operation that it has against a real port."""

from collections.abc import Iterator

import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless
from requests import HTTPError, Session

from tests.fixtures.dicom_files import ct_slice, multi_frame
from tests.fixtures.http import HttpNode

pytestmark = pytest.mark.interop

AS_STORED = (("application/dicom", "*"),)
NAMES = ["NGUYỄN^VĂN AN", "TRẦN^THỊ BÌNH", "ĐỖ^QUANG ĐẠI"]


@pytest.fixture(scope="module")
def client(shared_http_node: HttpNode) -> Iterator[DICOMwebClient]:
    with Session() as session:
        session.headers["Authorization"] = f"Bearer {shared_http_node.token()}"
        yield DICOMwebClient(f"{shared_http_node.url}/dicom-web", session=session)


@pytest.fixture(scope="module")
def sent(shared_http_node: HttpNode, client: DICOMwebClient) -> list[Dataset]:
    """Three studies; the first has a series of three slices and a movie."""
    first = ct_slice(PatientName=NAMES[0], PatientID="P0", InstanceNumber=1)
    family = {"StudyInstanceUID": first.StudyInstanceUID, "PatientID": "P0"}
    same_series = {**family, "SeriesInstanceUID": first.SeriesInstanceUID}
    datasets = [
        first,
        ct_slice(PatientName=NAMES[0], InstanceNumber=2, **same_series),
        ct_slice(PatientName=NAMES[0], InstanceNumber=3, **same_series),
        multi_frame(3, PatientName=NAMES[0], SeriesNumber=9, **family),
        ct_slice(PatientName=NAMES[1], PatientID="P1", Modality="MR"),
        ct_slice(PatientName=NAMES[2], PatientID="P2"),
    ]
    for dataset in datasets:
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    datasets[-1].compress(RLELossless, generate_instance_uid=False)
    answer = client.store_instances(datasets)
    assert len(answer.ReferencedSOPSequence) == len(datasets)
    assert "FailedSOPSequence" not in answer
    shared_http_node.ingest()
    return datasets


def uids(dataset: Dataset) -> tuple[str, str, str]:
    return dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID


def without_meta(dataset: Dataset) -> Dataset:
    return Dataset(dataset)


def test_one_study_may_be_stored_at_its_own_path(
    shared_http_node: HttpNode, client: DICOMwebClient, sent: list[Dataset]
) -> None:
    answer = client.store_instances(sent[:1], study_instance_uid=sent[0].StudyInstanceUID)

    [item] = answer.ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == sent[0].SOPInstanceUID
    assert item.RetrieveURL.startswith(shared_http_node.url)


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({}, {"P0", "P1", "P2"}),
        ({"PatientID": "P1"}, {"P1"}),
        ({"PatientName": NAMES[0]}, {"P0"}),
        ({"PatientName": "nguyen*"}, {"P0"}),
        ({"PatientName": "*binh*"}, {"P1"}),
        ({"PatientName": "do*"}, {"P2"}),
        ({"ModalitiesInStudy": "MR"}, {"P1"}),
    ],
)
@pytest.mark.usefixtures("sent")
def test_studies_are_found(
    client: DICOMwebClient, search: dict[str, str], expected: set[str]
) -> None:
    found = client.search_for_studies(search_filters=search)

    assert {study["00100020"]["Value"][0] for study in found} == expected


@pytest.mark.usefixtures("sent")
def test_fuzzy_words_in_any_order(client: DICOMwebClient) -> None:
    [study] = client.search_for_studies(
        fuzzymatching=True, search_filters={"PatientName": "an nguyen"}, fields=["StudyDescription"]
    )

    assert study["00100010"]["Value"] == [{"Alphabetic": NAMES[0]}]
    assert study["00081030"]["Value"] == ["Chụp cắt lớp ngực"]


@pytest.mark.usefixtures("sent")
def test_remaining_results_are_fetched_page_by_page(client: DICOMwebClient) -> None:
    found = client.search_for_instances(limit=2, get_remaining=True)

    assert len({one["00080018"]["Value"][0] for one in found}) == 6


def test_series_and_instances_are_found(client: DICOMwebClient, sent: list[Dataset]) -> None:
    study, series, _ = uids(sent[0])

    assert len(client.search_for_series(study)) == 2
    assert len(client.search_for_series(search_filters={"Modality": "MR"})) == 1
    assert len(client.search_for_instances(study)) == 4
    assert len(client.search_for_instances(study, series)) == 3
    [found] = client.search_for_instances(study, series, search_filters={"InstanceNumber": 2})
    assert found["00080018"]["Value"] == [sent[1].SOPInstanceUID]


def test_instance_comes_back_equal(client: DICOMwebClient, sent: list[Dataset]) -> None:
    for dataset in sent:
        found = client.retrieve_instance(*uids(dataset), media_types=AS_STORED)

        assert without_meta(found) == without_meta(dataset)
        assert found.file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID


def test_instance_comes_back_uncompressed_without_a_transfer_syntax(
    client: DICOMwebClient, sent: list[Dataset]
) -> None:
    found = client.retrieve_instance(*uids(sent[-1]), media_types=("application/dicom",))

    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    np.testing.assert_array_equal(found.pixel_array, sent[-1].pixel_array)
    assert str(found.PatientName) == NAMES[2]


@pytest.mark.parametrize("media_types", [None, AS_STORED])
def test_study_and_series_come_back(
    client: DICOMwebClient, sent: list[Dataset], media_types: tuple[tuple[str, str], ...] | None
) -> None:
    study, series, _ = uids(sent[0])

    whole = client.retrieve_study(study, media_types=media_types)
    part = client.retrieve_series(study, series, media_types=media_types)
    streamed = list(client.iter_study(study, media_types=media_types))
    part_streamed = list(client.iter_series(study, series, media_types=media_types))

    assert [one.SOPInstanceUID for one in whole] == [one.SOPInstanceUID for one in sent[:4]]
    assert [one.SOPInstanceUID for one in part] == [one.SOPInstanceUID for one in sent[:3]]
    assert [without_meta(one) for one in streamed] == [without_meta(one) for one in whole]
    assert len(part_streamed) == 3


def test_metadata_come_back(client: DICOMwebClient, sent: list[Dataset]) -> None:
    study, series, instance = uids(sent[0])

    assert len(client.retrieve_study_metadata(study)) == 4
    assert len(client.retrieve_series_metadata(study, series)) == 3
    found = client.retrieve_instance_metadata(study, series, instance)

    read = Dataset.from_json(found, lambda *_: b"")
    del read.AvailableTransferSyntaxUID
    assert read.PatientName == NAMES[0]
    assert {element.tag for element in read} == {element.tag for element in sent[0]}


def test_frames_come_back(client: DICOMwebClient, sent: list[Dataset]) -> None:
    movie = sent[3]

    for types in (None, ("application/octet-stream",), (("application/octet-stream", "*"),)):
        found = client.retrieve_instance_frames(*uids(movie), [1, 3], media_types=types)
        assert found == [movie.pixel_array[0].tobytes(), movie.pixel_array[2].tobytes()]

    streamed = client.iter_instance_frames(*uids(movie), [2])
    assert list(streamed) == [movie.pixel_array[1].tobytes()]


def test_compressed_frames_come_back_both_ways(client: DICOMwebClient, sent: list[Dataset]) -> None:
    pictures = sent[-1]

    [decoded] = client.retrieve_instance_frames(
        *uids(pictures), [1], media_types=("application/octet-stream",)
    )
    [stored] = client.retrieve_instance_frames(
        *uids(pictures), [1], media_types=(("image/dicom-rle", RLELossless),)
    )

    assert decoded == pictures.pixel_array.tobytes()
    assert stored in pictures.PixelData


def test_bulk_data_come_back(client: DICOMwebClient, sent: list[Dataset]) -> None:
    [found] = client.retrieve_series_metadata(*uids(sent[3])[:2])
    url = found["7FE00010"]["BulkDataURI"]

    assert client.retrieve_bulkdata(url) == [sent[3].PixelData]
    assert list(client.iter_bulkdata(url)) == [sent[3].PixelData]


def test_what_is_not_there_is_an_error(client: DICOMwebClient, sent: list[Dataset]) -> None:
    study, series, instance = uids(sent[0])

    for call, status in (
        (lambda: client.retrieve_study("1.2.3"), 404),
        (lambda: client.retrieve_instance_frames(study, series, instance, [2]), 404),
        (
            lambda: client.retrieve_instance(
                study, series, instance, (("application/dicom", JPEGBaseline8Bit),)
            ),
            406,
        ),
    ):
        with pytest.raises(HTTPError) as caught:
            call()
        assert caught.value.response.status_code == status


def test_broken_object_is_refused_by_name(client: DICOMwebClient) -> None:
    dataset = ct_slice(StudyInstanceUID="")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

    with pytest.raises(HTTPError) as caught:
        client.store_instances([dataset])

    assert caught.value.response.status_code == 409
    [item] = caught.value.response.json()["00081198"]["Value"]
    assert item["00081155"]["Value"] == [dataset.SOPInstanceUID]
