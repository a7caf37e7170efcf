import numpy as np
import pytest
from pydicom import Dataset

from pacs import frames, header
from pacs.render import groups, looks
from pacs.render.groups import Looks
from pacs.render.options import Window
from storage.base.errors import Malformed
from tests.fixtures.dicom_files import encode, multi_frame

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


def voi(**values: object) -> Dataset:
    return holding("FrameVOILUTSequence", **values)


def rescale(slope: float, intercept: float) -> Dataset:
    return holding(
        "PixelValueTransformationSequence",
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        RescaleType="US",
    )


def holding(sequence: str, **values: object) -> Dataset:
    item, group = Dataset(), Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    setattr(group, sequence, [item])
    return group


def both(*parts: Dataset) -> Dataset:
    group = Dataset()
    for part in parts:
        group.update(part)
    return group


def looks_of(
    of_frames: list[Dataset], shared: Dataset | None = None, syntax: str = EXPLICIT
) -> Looks:
    dataset = multi_frame(max(1, len(of_frames)))
    if of_frames:
        dataset.PerFrameFunctionalGroupsSequence = of_frames
    if shared is not None:
        dataset.SharedFunctionalGroupsSequence = [shared]
    content = encode(dataset, syntax)
    found = header.scan(content, syntax)
    start = content[: header.pixel_data_at(content, syntax)]
    return groups.looks_of(found, start, looks.look_of(found, frames.image_pixel(found)))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_each_frame_has_its_window_and_its_rescale(syntax):
    found = looks_of(
        [
            both(voi(WindowCenter=40, WindowWidth=400), rescale(1, -1024)),
            both(voi(WindowCenter=300, WindowWidth=1500), rescale(2, 0)),
        ],
        syntax=syntax,
    )

    assert found.of_frame(1).window == Window(40, 400)
    assert (found.of_frame(1).slope, found.of_frame(1).intercept) == (1, -1024)
    assert found.of_frame(2).window == Window(300, 1500)
    assert (found.of_frame(2).slope, found.of_frame(2).intercept) == (2, 0)


def test_what_all_frames_share_stands_where_a_frame_says_nothing():
    shared = both(voi(WindowCenter=10, WindowWidth=20), rescale(3, 5))

    found = looks_of([Dataset(), voi(WindowCenter=11, WindowWidth=22)], shared)

    assert found.of_frame(1).window == Window(10, 20)
    assert found.of_frame(2).window == Window(11, 22)
    assert {look.slope for look in found.distinct} == {3}


def test_frames_that_look_alike_have_one_look():
    found = looks_of([voi(WindowCenter=10, WindowWidth=20) for _ in range(5)])

    assert len(found.distinct) == 1
    assert found.places == ()
    assert found.of_frame(5).window == Window(10, 20)


def test_without_groups_by_frame_the_object_is_seen_as_a_whole():
    found = looks_of([], voi(WindowCenter=10, WindowWidth=20))

    assert found.distinct[0].window == Window(10, 20)


@pytest.mark.parametrize("entries", [16, 4096])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_a_frame_may_have_a_lookup_table(vr, entries):
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [entries, 3, 12])
    values = np.arange(entries, dtype="<u2")
    lut.add_new("LUTData", vr, values.tolist() if vr == "US" else values.tobytes())

    found = looks_of([voi(VOILUTSequence=[lut]), voi(WindowCenter=1, WindowWidth=2)])

    table = found.of_frame(1).voi
    assert (table.first, table.bits, table.entries) == (3, 12, tuple(range(entries)))
    assert found.of_frame(2).voi is None


def test_a_table_that_is_too_short_is_malformed():
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [16, 0, 12])
    lut.add_new("LUTData", "US", [1, 2, 3])

    with pytest.raises(Malformed, match="16 entries with 3"):
        looks_of([voi(VOILUTSequence=[lut])])


def test_a_window_function_of_a_frame_is_kept():
    found = looks_of([voi(WindowCenter=1, WindowWidth=2, VOILUTFunction="SIGMOID")])

    assert found.of_frame(1).window == Window(1, 2, "SIGMOID")
