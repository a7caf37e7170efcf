import numpy as np
import pytest
from PIL import Image

from pacs.render import showing
from pacs.render.options import Viewport
from pacs.render.showing import Area, Mark, Plane, Showing, Shutter, Text

WHITE = (255, 255, 255)
RED = (255, 0, 0)


def picture(rows: int = 20, columns: int = 30, level: int = 100) -> Image.Image:
    return Image.fromarray(np.full((rows, columns), level, np.uint8))


def ramp() -> Image.Image:
    """Return a picture in which every pixel is another."""
    return Image.fromarray(np.arange(150, dtype=np.uint8).reshape(10, 15))


def shown(image: Image.Image, viewport: Viewport | None = None, **values: object) -> np.ndarray:
    return np.asarray(showing.show(image, Showing(**values), viewport))


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("flipped", [False, True])
def test_it_is_turned_clockwise_then_flipped(turn, flipped):
    expected = np.rot90(np.asarray(ramp()), -turn // 90)
    if flipped:
        expected = expected[:, ::-1]

    assert np.array_equal(shown(ramp(), rotation=turn, flipped=flipped), expected)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_point_of_the_image_stays_at_its_pixel(turn, flipped):
    image = Image.fromarray(np.zeros((40, 60), np.uint8))
    image.putpixel((47, 31), 200)
    mark = Mark(((47.5, 31.5),), WHITE)

    bare = shown(image, rotation=turn, flipped=flipped, area=Area(10, 20, 60, 40))
    drawn = shown(image, rotation=turn, flipped=flipped, area=Area(10, 20, 60, 40), marks=[mark])

    [[row, column]] = np.argwhere(bare == 200)
    rows, columns = np.nonzero(drawn == 255)
    assert abs(rows.mean() - row) <= 1
    assert abs(columns.mean() - column) <= 1


def test_the_area_is_cut_out_and_black_where_there_is_no_image():
    seen = shown(ramp(), area=Area(-2, 5, 4, 12))

    assert seen.shape == (7, 6)
    assert np.array_equal(seen[:5, 2:], np.asarray(ramp())[5:, :4])
    assert not seen[5:].any()
    assert not seen[:, :2].any()


def test_pixels_that_are_no_squares_become_squares():
    assert shown(picture(), area=Area(0, 0, 30, 20, aspect=2.0)).shape == (40, 30)
    assert shown(picture(), area=Area(0, 0, 30, 20, aspect=0.5)).shape == (20, 60)


def test_a_magnification_makes_it_larger():
    assert shown(picture(), area=Area(0, 0, 30, 20, magnification=2.5)).shape == (50, 75)


def test_a_viewport_is_filled_in_its_proportions():
    seen = shown(picture(), Viewport(100, 90), rotation=90)

    assert seen.shape == (90, 60)


def test_a_region_is_one_of_what_is_displayed():
    area = Area(5, 0, 15, 10)

    seen = shown(ramp(), Viewport(4, 4, (2.0, 3.0, 4.0, 4.0)), area=area)

    assert np.array_equal(seen, np.asarray(ramp())[3:7, 7:11])


@pytest.mark.parametrize(
    "area",
    [Area(-(10**9), -(10**9), 10**9, 10**9), Area(0, 0, 30, 20, magnification=100.0)],
    ids=["far outside", "much larger"],
)
def test_what_asks_for_too_much_is_made_smaller(area):
    seen = shown(picture(), area=area)

    assert max(seen.shape) <= showing.MAX_SIDE
    assert np.any(seen == 100)


def test_what_lies_on_an_edge_of_the_shutter_is_seen():
    seen = shown(picture(), shutter=Shutter((7, 7, 7), rectangle=(4, 2, 20, 11)))

    assert np.all(seen[2:11, 4:20] == 100)
    assert np.count_nonzero(seen == 100) == 9 * 16
    assert np.all(seen[:2] == 7)


def test_every_part_of_a_shutter_hides():
    disc = shown(picture(), shutter=Shutter((0, 0, 0), circle=(15, 10, 5)))
    triangle = shown(picture(), shutter=Shutter((0, 0, 0), polygon=((0, 0), (29, 0), (0, 19))))
    both = Shutter((0, 0, 0), circle=(15, 10, 5), rectangle=(0, 0, 30, 10))

    assert abs(np.count_nonzero(disc) - np.pi * 25) < 8
    assert triangle[0, 0] == 100
    assert triangle[19, 29] == 0
    assert not shown(picture(), shutter=both)[10:].any()


def test_a_bitmap_shutter_hides_its_ones():
    plane = Plane(2, 8, 3, 4, bytes([0b0000_0001, 0b1000_0000]), WHITE)

    seen = shown(picture(), shutter=Shutter((0, 0, 0), plane=plane))

    assert np.argwhere(seen == 0).tolist() == [[3, 4], [4, 11]]


def test_an_overlay_is_turned_with_its_image():
    plane = Plane(2, 8, 3, 4, bytes([0b0000_0001, 0b1000_0000]), WHITE)

    seen = shown(picture(), planes=[plane], rotation=90)

    assert np.argwhere(seen == 255).tolist() == [[4, 16], [11, 15]]


def test_an_overlay_with_too_few_bits_is_nothing():
    assert np.all(shown(picture(), planes=[Plane(9, 9, 0, 0, b"\xff", WHITE)]) == 100)


def test_the_layer_with_the_higher_order_is_on_top():
    low = Mark(((0.0, 10.5), (30.0, 10.5)), (50, 50, 50), order=1)
    high = Mark(((15.5, 0.0), (15.5, 20.0)), (200, 200, 200), order=2)

    seen = shown(picture(), marks=[high, low])

    assert seen[10, 15] == 200


def test_a_coloured_layer_makes_a_coloured_picture():
    seen = shown(picture(), marks=[Mark(((0.0, 5.5), (30.0, 5.5)), RED)])

    assert seen[5, 5].tolist() == [255, 0, 0]
    assert seen[15, 5].tolist() == [100, 100, 100]


def test_a_filled_graphic_still_shows_what_is_below():
    square = ((5.0, 5.0), (25.0, 5.0), (25.0, 15.0), (5.0, 15.0), (5.0, 5.0))

    seen = shown(picture(), marks=[Mark(square, WHITE, filled=True)])

    assert 100 < seen[10, 15] < 255
    assert seen[18, 15] == 100


def test_a_text_stands_upright_in_its_box():
    box = ((10.0, 10.0), (110.0, 40.0))
    text = Text("III", WHITE, box=box)

    seen = shown(picture(200, 200, 0), texts=[text])
    turned = shown(picture(200, 200, 0), texts=[text], rotation=180)

    assert seen[10:40, 10:110].any()
    assert np.count_nonzero(seen) == np.count_nonzero(seen[10:45, 10:110])
    assert np.array_equal(seen[10:40, 10:110], turned[160:190, 90:190])


def test_a_line_leads_from_a_text_to_its_anchor():
    text = Text("x", WHITE, box=((10.0, 10.0), (60.0, 30.0)), anchor=(150.0, 20.0), pointing=True)

    seen = shown(picture(200, 200, 0), texts=[text])

    assert np.all(seen[20, 62:148] == 255)


def test_graphics_of_the_display_do_not_turn():
    mark = Mark(((0.1, 0.5), (0.9, 0.5)), WHITE, in_display=True)

    seen = shown(picture(100, 200, 0), marks=[mark], rotation=90)

    assert seen.shape == (200, 100)
    assert np.all(seen[100, 11:89] == 255)


@pytest.mark.parametrize("far", [1e300, -1e300, 1e12])
def test_graphics_far_outside_do_no_harm(far):
    marks = [Mark(((far, far), (5.0, 5.0), (far, 3.0)), WHITE, filled=True)]
    texts = [Text("far", WHITE, box=((far, far), (far, far)))]

    assert shown(picture(), marks=marks, texts=texts).shape == (20, 30)
