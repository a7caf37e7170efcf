"""Presentation states applied to rendered pictures over a real port."""

import io

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from tests.fixtures.dicom_files import ct_slice, multi_frame, set_pixels
from tests.fixtures.http import HttpNode, multipart_parts
from tests.fixtures.presentation_states import (
    annotation,
    area,
    graphic,
    item,
    layer,
    presentation_state,
    pseudo_colours,
    reference,
)

PNG = {"Accept": "image/png"}
PARTS = {"Accept": 'multipart/related; type="image/png"'}


@pytest.fixture(scope="module")
def image() -> Dataset:
    made = ct_slice(WindowCenter=40, WindowWidth=10)
    set_pixels(made, np.arange(600, dtype="<u2").reshape(20, 30) * 100)
    return made


@pytest.fixture(scope="module")
def film(image: Dataset) -> Dataset:
    return multi_frame(
        4, StudyInstanceUID=image.StudyInstanceUID, SeriesInstanceUID=image.SeriesInstanceUID
    )


@pytest.fixture(scope="module")
def state(image: Dataset, film: Dataset) -> Dataset:
    """What is turned and marked, of an image and of two frames of a film."""
    made = presentation_state(
        image,
        film,
        ImageRotation=90,
        ImageHorizontalFlip="N",
        SoftcopyVOILUTSequence=[item(WindowCenter=30000, WindowWidth=60000)],
        GraphicLayerSequence=[layer()],
        GraphicAnnotationSequence=[
            annotation(
                graphic("POLYLINE", 0, 5.5, 30, 5.5), ReferencedImageSequence=[reference(image)]
            )
        ],
        DisplayedAreaSelectionSequence=[
            area(image, ReferencedImageSequence=[reference(image)]),
            area(film, ReferencedImageSequence=[reference(film)]),
        ],
    )
    images = made.ReferencedSeriesSequence[0].ReferencedImageSequence
    images[1].ReferencedFrameNumber = [2, 4]
    return made


@pytest.fixture(scope="module")
def stranger() -> Dataset:
    """An image of another patient."""
    return ct_slice(PatientID="BN0002", PatientName="TRẦN^BÌNH")


@pytest.fixture(scope="module")
def client(
    shared_http_node: HttpNode, image: Dataset, film: Dataset, state: Dataset, stranger: Dataset
) -> httpx.Client:
    of_stranger = presentation_state(stranger)
    of_stranger.ReferencedSeriesSequence = state.ReferencedSeriesSequence
    shared_http_node.put(image, film, state, stranger, of_stranger)
    stranger.state = of_stranger
    return shared_http_node.client()


def path(dataset: Dataset) -> str:
    return (
        f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}"
    )


def named(state: Dataset) -> dict[str, str]:
    return {
        "presentationseriesuid": state.SeriesInstanceUID,
        "presentationuid": state.SOPInstanceUID,
    }


def seen(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


def test_an_image_is_seen_by_the_state_that_is_named(client, image, state):
    plain = seen(client.get(f"{path(image)}/rendered", headers=PNG))
    made = seen(client.get(f"{path(image)}/rendered", params=named(state), headers=PNG))

    cells = np.frombuffer(image.PixelData, "<u2").reshape(20, 30)
    levels = np.clip((cells - 29999.5) / 59999 + 0.5, 0, 1) * 255
    expected = np.rot90(np.rint(levels), -1)
    assert plain.shape == (20, 30)
    assert made.shape == (30, 20)
    assert np.all(made[:, 14] == 255)
    apart = np.abs(made.astype(int) - expected)
    apart[:, 13:16] = 0
    assert apart.max() <= 1


def test_a_pseudo_color_state_colours_the_levels(client, shared_http_node):
    image = ct_slice(WindowCenter=40, WindowWidth=10)
    cells = np.arange(600, dtype="<u2").reshape(20, 30)
    set_pixels(image, cells)
    steps = [(0, 0, 0x8000), (0xFFFF, 0, 0), (0, 0xFFFF, 0), (0xFFFF, 0xFFFF, 0xFFFF)]
    window = item(WindowCenter=300, WindowWidth=600, VOILUTFunction="LINEAR_EXACT")
    state = presentation_state(image, **pseudo_colours(*steps), SoftcopyVOILUTSequence=[window])
    shared_http_node.put(image, state)

    made = seen(client.get(f"{path(image)}/rendered", params=named(state), headers=PNG))

    palette = np.asarray(steps) * 255 // 65535
    expected = palette[np.rint(cells / 600 * 3).astype(int)]
    apart = np.any(made != expected, axis=-1)
    assert made.shape == (20, 30, 3)
    assert apart.sum() <= 3  # where a level lies between two entries


def test_a_state_is_rendered_as_its_images(client, image, state):
    alone = seen(client.get(f"{path(state)}/rendered", headers=PNG))
    several = multipart_parts(client.get(f"{path(state)}/rendered", headers=PARTS))

    assert alone.shape == (30, 20)
    assert [head["content-location"].rpartition("/instances/")[2] for head, _ in several] == [
        f"{image.SOPInstanceUID}/frames/1/rendered",
        *(f"{uid}/frames/{n}/rendered" for uid, n in _of_film(state)),
    ]


def _of_film(state: Dataset) -> list[tuple[str, int]]:
    film = state.ReferencedSeriesSequence[0].ReferencedImageSequence[1]
    return [(film.ReferencedSOPInstanceUID, number) for number in (2, 4)]


def test_a_film_has_the_frames_that_are_referred_to(client, film, state):
    answer = client.get(
        f"{path(film)}/rendered", params=named(state), headers={"Accept": "image/gif"}
    )

    assert answer.status_code == 200, answer.text
    assert Image.open(io.BytesIO(answer.content)).n_frames == 2


def test_thumbnails_are_seen_by_it_too(client, image, state):
    made = client.get(f"{path(image)}/thumbnail", params=named(state), headers=PNG)

    assert seen(made).shape == (128, 85)


def test_wado_uri_takes_it_by_its_own_names(client, image, state):
    asked = {
        "requestType": "WADO",
        "studyUID": image.StudyInstanceUID,
        "seriesUID": image.SeriesInstanceUID,
        "objectUID": image.SOPInstanceUID,
        "contentType": "image/png",
        "presentationSeriesUID": state.SeriesInstanceUID,
        "presentationUID": state.SOPInstanceUID,
    }
    whole = seen(client.get("/wado", params=asked))
    lower = seen(client.get("/wado", params=asked | {"region": "0,0.5,1,1", "rows": "15"}))

    assert whole.shape == (30, 20)
    assert np.array_equal(lower, whole[15:])


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"presentationseriesuid": ""}, 400),
        ({"presentationuid": "../x"}, 400),
        ({"presentationuid": "1.2.3"}, 404),
        ({"window": "40,400,linear"}, 400),
    ],
    ids=["without its series", "no UID", "unknown", "with a window"],
)
def test_what_cannot_be_is_refused(client, image, state, values, status):
    answer = client.get(f"{path(image)}/rendered", params=named(state) | values, headers=PNG)

    assert answer.status_code == status, answer.text


def test_a_frame_that_is_not_referred_to_is_refused(client, film, state):
    answers = [
        client.get(f"{path(film)}/frames/{n}/rendered", params=named(state), headers=PNG)
        for n in (1, 2)
    ]

    assert [answer.status_code for answer in answers] == [400, 200]


def test_an_image_is_no_presentation_state(client, image, film):
    answer = client.get(f"{path(image)}/rendered", params=named(film), headers=PNG)

    assert answer.status_code == 400


def test_what_is_of_another_patient_is_never_shown(client, image, state, stranger):
    foreign = client.get(f"{path(stranger)}/rendered", params=named(state), headers=PNG)
    claimed = client.get(f"{path(image)}/rendered", params=named(stranger.state), headers=PNG)
    own = client.get(f"{path(stranger)}/rendered", params=named(stranger.state), headers=PNG)
    alone = client.get(f"{path(stranger.state)}/rendered", headers=PNG)

    assert [one.status_code for one in (foreign, claimed, own, alone)] == [404, 404, 400, 406]


def test_another_state_is_another_representation(client, image, state):
    first = client.get(f"{path(image)}/rendered", headers=PNG)
    second = client.get(f"{path(image)}/rendered", params=named(state), headers=PNG)
    again = client.get(
        f"{path(image)}/rendered",
        params=named(state),
        headers=PNG | {"If-None-Match": second.headers["etag"]},
    )

    assert first.headers["etag"] != second.headers["etag"]
    assert again.status_code == 304
