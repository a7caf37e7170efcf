import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from pacs import header
from pacs.render import captions
from pacs.render.captions import Captions
from tests.fixtures.dicom_files import ct_slice, encode


def of(dataset: Dataset, *keywords: str) -> Captions:
    return captions.of(header.scan(encode(dataset), "1.2.840.10008.1.2.1"), keywords, {})


def test_what_is_asked_for_is_written():
    dataset = ct_slice(
        InstitutionName="BV Tỉnh", KVP="120", SliceThickness="5", XRayTubeCurrent=200
    )

    found = of(dataset, "patient", "technique")

    assert found.top_left == ("NGUYỄN VĂN AN", "BN0001", "19600102 M")
    assert found.top_right == ("BV Tỉnh", "20260301", "A-1")
    assert found.bottom_left == ("CT", "120 kV", "200 mA", "5 mm", "Se 2", "Im 7")


def test_nothing_of_the_patient_without_being_asked():
    assert of(ct_slice()) == Captions()
    technique = of(ct_slice(), "technique")
    assert (technique.top_left, technique.top_right) == ((), ())


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("background", [0, 255])
def test_texts_can_be_read_on_every_background(mode, background):
    picture = Image.new("L", (400, 300), background).convert(mode)

    written = captions.write(picture, Captions(("Đặng Ơn",), ("2026",), ("Im 7",)))

    grey = np.asarray(written.convert("L"))
    assert written.mode == mode
    for corner in (grey[:30, :100], grey[:30, -60:], grey[-30:, :60]):
        assert corner.min() < 40
        assert corner.max() > 190
    assert (grey[100:200] == background).all()


def test_every_letter_of_vietnamese_has_a_shape_of_its_own():
    letters = "ăâđêôơưáàảãạấầẩẫậắằẳẵặéèẻẽẹếềểễệíìỉĩịóòỏõọốồổỗộớờởỡợúùủũụứừửữựýỳỷỹỵ"
    font = captions.sans(40)
    unknown = bytes(font.getmask("\U0001f600"))

    shapes = [bytes(font.getmask(one)) for one in (*letters, *letters.upper())]

    assert unknown not in shapes
    assert len(set(shapes)) == len(shapes)


def test_a_picture_without_captions_is_left_alone():
    picture = Image.new("L", (8, 8))

    assert captions.write(picture, Captions()) is picture
