import msgspec
import numpy as np
import pytest
from pydicom import DataElement, Dataset
from pydicom.uid import (
    ColorSoftcopyPresentationStateStorage,
    PseudoColorSoftcopyPresentationStateStorage,
    generate_uid,
)

from pacs import contexts, header
from pacs.frames import ImagePixel
from pacs.header import Header
from pacs.render import presentations
from pacs.render.looks import Look
from pacs.render.options import Window
from pacs.render.presentations import Presentation
from storage.base.errors import Malformed, NotSupported
from tests.fixtures.dicom_files import ct_slice, encode
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

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
IMAGE = ct_slice()
UID = IMAGE.SOPInstanceUID
BASE = Look(
    ImagePixel(16, 16, 1, 16, 12, 0, 0, "MONOCHROME1", 1),
    high_bit=11,
    slope=9.0,
    window=Window(1, 2),
    inverse=True,
)


def read(*others: Dataset, **values: object) -> Presentation:
    return presentations.read(encode(presentation_state(IMAGE, *others, **values)), EXPLICIT)


def test_what_the_image_says_of_grey_levels_does_not_hold():
    look = read().look(BASE, UID, 1)

    assert (look.slope, look.intercept, look.inverse) == (1.0, 0.0, False)
    assert look.window == Window(2047.5, 4095, "LINEAR_EXACT")


def test_each_image_has_the_window_that_is_said_of_it():
    other = ct_slice()
    windows = [
        item(WindowCenter=1, WindowWidth=10, ReferencedImageSequence=[reference(IMAGE, 2)]),
        item(WindowCenter=2, WindowWidth=20, ReferencedImageSequence=[reference(other)]),
    ]

    found = read(other, SoftcopyVOILUTSequence=windows)

    assert found.look(BASE, UID, 2).window == Window(1, 10)
    assert found.look(BASE, other.SOPInstanceUID, 7).window == Window(2, 20)
    assert found.look(BASE, UID, 1).window == Window(2047.5, 4095, "LINEAR_EXACT")


def test_it_refers_to_the_frames_that_it_names():
    state = presentation_state(IMAGE)
    state.ReferencedSeriesSequence[0].ReferencedImageSequence = [reference(IMAGE, 2, 3)]

    found = presentations.read(encode(state), EXPLICIT)

    assert [found.refers_to(UID, number) for number in (1, 2, 3)] == [False, True, True]
    assert not found.refers_to(generate_uid(), 2)


def test_the_corners_of_an_area_are_those_of_the_turned_picture():
    turned = area(
        IMAGE, DisplayedAreaTopLeftHandCorner=[3, 12], DisplayedAreaBottomRightHandCorner=[8, 5]
    )

    found = read(DisplayedAreaSelectionSequence=[turned], ImageRotation=270)

    seen = found.showing(UID, 1, {})
    assert seen.rotation == 270
    assert (seen.area.left, seen.area.top, seen.area.right, seen.area.bottom) == (2, 4, 8, 12)


def test_graphics_have_the_order_and_the_colour_of_their_layer():
    blue = layer(order=4, GraphicLayerRecommendedDisplayCIELabValue=[19379, 50449, 4104])
    mark = graphic("POLYLINE", 1, 2, 3, 4)

    found = read(GraphicLayerSequence=[blue], GraphicAnnotationSequence=[annotation(mark)])

    [drawn] = found.showing(UID, 1, {}).marks
    assert drawn.points == ((1.0, 2.0), (3.0, 4.0))
    assert drawn.order == 4
    assert drawn.ink[2] > 200
    assert max(drawn.ink[:2]) < 80


def test_white_and_black_are_white_and_black():
    ends = [
        layer("LAYER", GraphicLayerRecommendedDisplayCIELabValue=[65535, 32896, 32896]),
        layer("BLACK", GraphicLayerRecommendedDisplayCIELabValue=[0, 32896, 32896]),
    ]
    marks = [annotation(graphic("POINT", 1, 1)), annotation(graphic("POINT", 2, 2))]
    marks[1].GraphicLayer = "BLACK"

    found = read(GraphicLayerSequence=ends, GraphicAnnotationSequence=marks)

    white, black = (mark.ink for mark in found.showing(UID, 1, {}).marks)
    assert min(white) >= 253
    assert max(black) <= 2


def test_annotations_of_other_images_are_not_shown():
    other = ct_slice()
    marked = annotation(graphic("POINT", 1, 1), ReferencedImageSequence=[reference(other)])

    found = read(other, GraphicAnnotationSequence=[marked])

    assert not found.showing(UID, 1, {}).marks
    assert len(found.showing(other.SOPInstanceUID, 1, {}).marks) == 1


@pytest.mark.parametrize(
    ("kind", "data", "through"),
    [
        ("CIRCLE", (10, 10, 14, 10), [(14, 10), (10, 14), (6, 10), (10, 6)]),
        ("ELLIPSE", (0, 5, 20, 5, 10, 2, 10, 8), [(0, 5), (20, 5), (10, 2), (10, 8)]),
        ("INTERPOLATED", (0, 0, 5, 9, 10, 0, 0, 0), [(0, 0), (5, 9), (10, 0)]),
    ],
    ids=["circle", "ellipse", "interpolated"],
)
def test_curves_go_through_their_points(kind, data, through):
    marked = annotation(graphic(kind, *data))

    [mark] = read(GraphicAnnotationSequence=[marked]).showing(UID, 1, {}).marks

    for point in through:
        assert min(np.hypot(x - point[0], y - point[1]) for x, y in mark.points) < 1e-6


def test_only_overlays_that_have_a_layer_are_shown():
    plane = {"OverlayRows": 2, "OverlayColumns": 4, "OverlayOrigin": [3, 5], "OverlayType": "G"}
    state = presentation_state(IMAGE, GraphicLayerSequence=[layer(order=3, grey=32768)])
    state.add_new(0x60021001, "CS", "LAYER")
    in_image = ct_slice()
    for group in (0x6000, 0x6002):
        for element, vr, value in (
            (0x0010, "US", plane["OverlayRows"]),
            (0x0011, "US", plane["OverlayColumns"]),
            (0x0050, "SS", plane["OverlayOrigin"]),
            (0x3000, "OW", b"\xa5\x00"),
        ):
            in_image.add_new(group << 16 | element, vr, value)

    found = presentations.read(encode(state), EXPLICIT)
    planes = presentations.overlays(_header(in_image))

    [shown] = found.showing(UID, 1, planes).planes
    assert (shown.top, shown.left, shown.order, shown.ink) == (2, 4, 3, (128, 128, 128))
    assert shown.bits == b"\xa5"


def _header(dataset: Dataset) -> Header:
    return header.scan(encode(dataset), EXPLICIT)


def test_a_colour_state_leaves_the_levels_alone():
    found = read(SOPClassUID=ColorSoftcopyPresentationStateStorage)

    assert found.look(BASE, UID, 1) == BASE


def test_a_pseudo_color_state_has_a_palette_behind_its_window():
    coloured = pseudo_colours((0, 0, 0), (0xFFFF, 0, 0), (0xFFFF, 0xFFFF, 0))

    look = read(
        **coloured,
        PresentationLUTShape="INVERSE",
        SoftcopyVOILUTSequence=[item(WindowCenter=1, WindowWidth=10)],
    ).look(BASE, UID, 1)

    assert look.tint is not None
    assert [one.entries for one in look.tint] == [(0, 65535, 65535), (0, 0, 65535), (0, 0, 0)]
    assert (look.window, look.inverse, look.presentation) == (Window(1, 10), False, None)


def test_a_pseudo_color_state_without_a_palette_is_broken():
    with pytest.raises(Malformed):
        read(SOPClassUID=PseudoColorSoftcopyPresentationStateStorage)


@pytest.mark.parametrize(
    "values",
    [
        {"ImageRotation": 45},
        {"GraphicAnnotationSequence": [annotation(graphic("CIRCLE", 1, 1))]},
        {"GraphicAnnotationSequence": [annotation(graphic("ELLIPSE", 1, 1, 2, 2))]},
        {"GraphicAnnotationSequence": [annotation(texts=(item(UnformattedTextValue="x"),))]},
        {"DisplayedAreaSelectionSequence": [item(PresentationSizeMode="TRUE SIZE")]},
        {"SoftcopyVOILUTSequence": [item(VOILUTSequence=[item(LUTDescriptor=[256, 0, 8])])]},
    ],
    ids=["an eighth of a turn", "circle", "ellipse", "text", "area", "table"],
)
def test_what_is_broken_is_told(values):
    with pytest.raises(Malformed):
        read(**values)


def test_fewer_points_than_are_told_of_are_no_graphic():
    short = graphic("POLYLINE", 1, 1, 2, 2)
    short.NumberOfGraphicPoints = 3

    with pytest.raises(Malformed, match=r"\(0070,0022\)"):
        read(GraphicAnnotationSequence=[annotation(short)])


def test_other_kinds_of_states_and_graphics_are_refused():
    with pytest.raises(NotSupported):
        read(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.4")
    with pytest.raises(NotSupported):
        read(GraphicAnnotationSequence=[annotation(graphic("STAR", 1, 1))])


def test_numbers_beyond_all_bounds_are_brought_to_the_picture():
    state = presentation_state(IMAGE, ShutterShape="RECTANGULAR", GraphicLayerSequence=[layer()])
    edge = [-1e300, 1e300]
    shown_area = state.DisplayedAreaSelectionSequence[0]
    for keyword, value in (
        ("DisplayedAreaTopLeftHandCorner", [edge[0], edge[0]]),
        ("DisplayedAreaBottomRightHandCorner", [edge[1], edge[1]]),
    ):
        shown_area[keyword] = DataElement(keyword, "FD", value)
    for name in ("LeftVertical", "UpperHorizontal", "RightVertical", "LowerHorizontal"):
        keyword = f"Shutter{name}Edge"
        state[keyword] = DataElement(keyword, "FD", 1e300)

    found = presentations.read(encode(state), EXPLICIT).showing(UID, 1, {})

    assert len(msgspec.json.encode(found)) < 1000


def test_there_is_an_end_to_planes():
    image = ct_slice()
    for element, vr, value in (
        (0x0010, "US", 1),
        (0x0011, "US", 1),
        (0x0015, "IS", 4_000_000),
        (0x3000, "OW", bytes(500_000)),
    ):
        image.add_new(0x60000000 | element, vr, value)

    assert len(presentations.overlays(_header(image))[0x6000]) == presentations.MAX_PLANES


def test_there_is_an_end_to_graphics():
    many = [graphic("POINT", 1, 1) for _ in range(presentations.MAX_OBJECTS + 1)]

    with pytest.raises(NotSupported):
        read(GraphicAnnotationSequence=[annotation(*many)])
