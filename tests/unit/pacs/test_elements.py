import struct
import time
import tracemalloc
import zlib

import pytest

from pacs import contexts, elements
from pacs.elements import Kind, Scanner
from storage.base.errors import Malformed
from tests.fixtures import dicom_files

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
IMPLICIT = contexts.IMPLICIT_VR_LITTLE_ENDIAN
BIG = contexts.EXPLICIT_VR_BIG_ENDIAN
DEFLATED = contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
JPEG = contexts.JPEG_BASELINE
ITEM = b"\xfe\xff\x00\xe0"
ITEM_END = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
UNDEFINED = b"\xff\xff\xff\xff"


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Encode in Explicit VR Little Endian."""
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return start + struct.pack("<HI", 0, len(value)) + value
    return start + struct.pack("<H", len(value)) + value


def sequence(tag: int, *items: bytes, vr: bytes = b"SQ", undefined: bool = True) -> bytes:
    start = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, 0)
    if undefined:
        content = b"".join(ITEM + UNDEFINED + item + ITEM_END for item in items)
        return start + UNDEFINED + content + SEQUENCE_END
    content = b"".join(ITEM + struct.pack("<I", len(item)) + item for item in items)
    return start + struct.pack("<I", len(content)) + content


def nested(depth: int, *, undefined: bool) -> bytes:
    content = element(0x00080100, b"SH", b"X ")
    if undefined:
        start = struct.pack("<HH2sH", 0x0040, 0xA730, b"SQ", 0) + UNDEFINED + ITEM + UNDEFINED
        return start * depth + content + (ITEM_END + SEQUENCE_END) * depth
    for _ in range(depth):
        content = sequence(0x0040A730, content, undefined=False)
    return content


def scan(content: bytes, transfer_syntax: str = EXPLICIT) -> Scanner:
    scanner = Scanner(transfer_syntax)
    scanner.read(content)
    return scanner


def stream(content: bytes, transfer_syntax: str = EXPLICIT, size: int = 7) -> Scanner:
    scanner = Scanner(transfer_syntax)
    for chunk in dicom_files.chunks(content, size):
        scanner.feed(chunk)
    scanner.finish()
    return scanner


WHOLE = (
    element(0x00080005, b"CS", b"ISO_IR 192")
    + sequence(0x00081140, element(0x00081150, b"UI", b"1.2.3\0"), b"")
    + sequence(0x00400275, element(0x00400009, b"SH", b"S1"), undefined=False)
    + element(0x00090010, b"LO", b"ACME")
    + sequence(0x00091001, b"\x08\x00\x50\x00\x02\x00\x00\x00A1", vr=b"UN")
    + element(0x00091002, b"OB", bytes(30))
    + element(0x00280010, b"US", b"\x10\x00")
)
FRAGMENTS = (
    b"\xe0\x7f\x10\x00OB\x00\x00"
    + UNDEFINED
    + ITEM
    + struct.pack("<II", 4, 0)
    + ITEM
    + struct.pack("<I", 6)
    + b"abcdef"
    + ITEM
    + struct.pack("<I", 2)
    + b"gh"
    + SEQUENCE_END
)
PADDED = element(0xFFFCFFFC, b"OB", bytes(12))


def test_top_level_elements_are_found_with_their_places():
    found = scan(WHOLE).elements

    assert sorted(found) == [
        0x00080005, 0x00081140, 0x00090010, 0x00091001, 0x00091002, 0x00280010, 0x00400275,
    ]  # fmt: skip
    vr, start, length = found[0x00280010]
    assert (vr, WHOLE[start : start + length]) == (b"US", b"\x10\x00")
    _, start, length = found[0x00081140]
    assert WHOLE[start + length :].startswith(SEQUENCE_END)


def test_the_trace_tells_every_element_of_every_level_in_order():
    events = []
    scanner = Scanner(EXPLICIT, events)
    scanner.read(WHOLE)

    told = [(event[0].name, f"{event[1]:08X}") for event in events]

    assert told == [
        ("VALUE", "00080005"),
        ("SEQUENCE", "00081140"),
        ("ITEM", "00081140"),
        ("VALUE", "00081150"),
        ("ITEM_END", "00081140"),
        ("ITEM", "00081140"),
        ("ITEM_END", "00081140"),
        ("SEQUENCE_END", "00081140"),
        ("SEQUENCE", "00400275"),
        ("ITEM", "00400275"),
        ("VALUE", "00400009"),
        ("ITEM_END", "00400275"),
        ("SEQUENCE_END", "00400275"),
        ("VALUE", "00090010"),
        ("SEQUENCE", "00091001"),
        ("ITEM", "00091001"),
        ("VALUE", "00080050"),
        ("ITEM_END", "00091001"),
        ("SEQUENCE_END", "00091001"),
        ("VALUE", "00091002"),
        ("VALUE", "00280010"),
    ]


def test_encapsulated_pixel_data_is_walked_to_its_delimiter():
    content = WHOLE + FRAGMENTS + PADDED

    scanner = scan(content, JPEG)

    pixels = scanner.pixel_data
    assert pixels is not None
    assert pixels.encapsulated
    assert pixels.element_offset == len(WHOLE)
    assert pixels.offset_table == bytes(4)
    assert [content[at : at + size] for at, size in pixels.fragments or []] == [b"abcdef", b"gh"]
    assert content[pixels.offset + pixels.length :].startswith(SEQUENCE_END)
    assert 0xFFFCFFFC in scanner.elements


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 1000])
def test_a_stream_in_any_pieces_reads_like_the_whole(size):
    content = WHOLE + FRAGMENTS + PADDED

    whole, streamed = scan(content, JPEG), stream(content, JPEG, size)

    assert streamed.elements == whole.elements
    assert streamed.pixel_data == whole.pixel_data
    assert streamed.size == len(content)


@pytest.mark.parametrize("content", [WHOLE, WHOLE + FRAGMENTS + PADDED, WHOLE + PADDED])
@pytest.mark.parametrize("read", [scan, stream], ids=["whole", "streamed"])
def test_truncation_at_every_offset_is_malformed_or_between_elements(content, read):
    boundaries = {0}
    end = 0
    for piece in (WHOLE, FRAGMENTS, PADDED):
        if content[end:].startswith(piece):
            events = []
            Scanner(JPEG, events).read(content[: end + len(piece)])
            boundaries |= _ends(events)
            end += len(piece)
            boundaries.add(end)

    survived = set()
    for length in range(len(content)):
        try:
            read(content[:length], JPEG)
        except Malformed:
            continue
        survived.add(length)

    assert survived == boundaries - {len(content)}


@pytest.mark.parametrize("size", [1, 16, 5000])
def test_a_stream_that_ends_in_a_value_names_its_element(size):
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 4000) + bytes(4000)

    with pytest.raises(Malformed, match=r"\(7FE0,0010\) at byte .*: the dataset is cut off"):
        stream((WHOLE + pixels)[:-1], EXPLICIT, size)


def _ends(events: list[elements.Event]) -> set[int]:
    """Where a top-level element ends."""
    depth, ends = 0, set()
    for kind, _, _, start, length, _ in events:
        if kind in (Kind.SEQUENCE, Kind.FRAGMENTS):
            depth += 1
        elif kind in (Kind.SEQUENCE_END, Kind.FRAGMENTS_END):
            depth -= 1
            if depth == 0:
                ends.add(start)
        elif kind is Kind.VALUE and depth == 0:
            ends.add(start + length)
    return ends


@pytest.mark.parametrize("undefined", [True, False])
def test_32_sequences_deep_is_read(undefined):
    scan(nested(32, undefined=undefined))


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("depth", [33, 60, 1_000, 20_000])
def test_deeper_nesting_is_refused_at_once(depth, undefined):
    if not undefined and depth > 1_000:
        depth = 2_000  # each level copies the inner ones here, not there
    bomb = nested(depth, undefined=undefined)

    start = time.process_time()
    with pytest.raises(Malformed, match=r"\(0040,A730\) at byte \d+: .*deeper than 32"):
        scan(bomb)

    assert time.process_time() - start < 1


BOMBS = {
    "300 k elements": element(0x00091001, b"SH", b"") * 300_000,
    "300 k nested elements": sequence(0x00081140, element(0x00091001, b"SH", b"") * 300_000),
    "500 k items": sequence(0x00081140, *[b""] * 500_000, undefined=False),
    "500 k sequences": sequence(0x00081140, b"", undefined=False) * 500_000,
    "2 M fragments": b"\xe0\x7f\x10\x00OB\x00\x00" + UNDEFINED + (ITEM + bytes(4)) * 2_000_000,
    "a huge value": b"\x08\x00\x05\x00UN\x00\x00\xfe\xff\xff\xff" + bytes(100),
    "a huge text": b"\x08\x00\x05\x00UT\x00\x00\x00\x00\x00\x70" + bytes(100),
    "a huge item": b"\x08\x00\x40\x11SQ\x00\x00" + UNDEFINED + ITEM + b"\xfe\xff\xff\x7f",
    "an undefined text": b"\x08\x00\x05\x00UT\x00\x00" + UNDEFINED,
    "an item at the top": element(0x00080005, b"CS", b"") + ITEM + UNDEFINED,
    "a delimiter at the top": element(0x00080005, b"CS", b"") + ITEM_END,
    "an item longer than its sequence": (
        b"\x08\x00\x40\x11SQ\x00\x00\x08\x00\x00\x00" + ITEM + b"\x08\x00\x00\x00" + bytes(8)
    ),
    "an element longer than its item": (
        b"\x08\x00\x40\x11SQ\x00\x00\x10\x00\x00\x00"
        + ITEM
        + b"\x08\x00\x00\x00"
        + b"\x08\x00\x05\x00CS\x08\x00"
        + bytes(8)
    ),
    "an element where an item belongs": (
        b"\x08\x00\x40\x11SQ\x00\x00" + UNDEFINED + element(0x00080005, b"CS", b"") + bytes(8)
    ),
    "fragments of undefined length": (
        b"\xe0\x7f\x10\x00OB\x00\x00" + UNDEFINED + ITEM + UNDEFINED + bytes(8)
    ),
    "bytes behind the padding": element(0x00080005, b"CS", b"") + bytes(1000) + b"x" + bytes(99),
    "text": b"This is not a dataset, it is a letter of somebody.",
}


@pytest.mark.parametrize("read", [scan, lambda c: stream(c, size=65536)], ids=["whole", "streamed"])
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_absurd_datasets_are_refused_in_little_time_and_memory(bomb, read):
    start = time.process_time()
    with pytest.raises(Malformed):
        read(bomb)
    taken = time.process_time() - start

    assert taken < 1


def test_refusing_a_bomb_costs_little_memory():
    bombs = [BOMBS["300 k elements"], BOMBS["500 k items"], nested(20_000, undefined=True)]
    tracemalloc.start()

    for bomb in bombs:
        with pytest.raises(Malformed):
            scan(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 20 << 20


def test_a_stream_of_pixels_is_not_kept():
    header = element(0x00280010, b"US", b"\x10\x00")
    pixels = b"\xe0\x7f\x10\x00OW\x00\x00" + struct.pack("<I", 256 << 20)
    scanner = Scanner(EXPLICIT)
    chunk = bytes(1 << 20)
    tracemalloc.start()

    scanner.feed(header + pixels)
    for _ in range(256):
        scanner.feed(chunk)
    scanner.feed(PADDED)
    scanner.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 << 20
    assert scanner.size == len(header + pixels + PADDED) + (256 << 20)
    assert 0xFFFCFFFC in scanner.elements


def test_a_stream_of_small_fragments_is_not_kept():
    fragment = ITEM + struct.pack("<I", 10) + bytes(10)
    scanner = Scanner(JPEG)
    tracemalloc.start()

    scanner.feed(WHOLE + b"\xe0\x7f\x10\x00OB\x00\x00" + UNDEFINED + ITEM + bytes(4))
    for _ in range(5_000):
        scanner.feed(fragment * 3 + fragment[:5])
        scanner.feed(fragment[5:])
    scanner.feed(SEQUENCE_END)
    scanner.finish()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert scanner.pixel_data is not None
    assert len(scanner.pixel_data.fragments or []) == 20_000
    assert current < 6 << 20  # the places of the fragments, not their bytes


@pytest.mark.parametrize("vr", [b"UT", b"UC"])
def test_more_text_than_a_header_may_have_is_refused_while_it_streams(vr):
    start = b"\x08\x00\x05\x00" + vr + b"\x00\x00" + struct.pack("<I", 1 << 30)
    scanner = Scanner(EXPLICIT)
    scanner.feed(start)

    fed = 0
    with pytest.raises(Malformed, match="besides binary"):  # noqa: PT012 - fails while it arrives
        while fed < 200:
            scanner.feed(bytes(1 << 20))
            fed += 1

    assert fed < 80


def _deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_a_deflated_dataset_reads_like_the_inflated_one(size):
    content = WHOLE + element(0x7FE00010, b"OW", bytes(1000))

    streamed = stream(_deflate(content), DEFLATED, size)

    assert streamed.elements == scan(content).elements
    assert scan(_deflate(content), DEFLATED).elements == streamed.elements
    assert streamed.size == len(content)


def test_a_mask_that_deflates_a_thousandfold_is_taken():
    content = WHOLE + element(0x7FE00010, b"OB", bytes(8 << 20))

    assert scan(_deflate(content), DEFLATED).pixel_data is not None


def test_a_deflate_bomb_is_refused_at_its_cap():
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = b"\xe0\x7f\x10\x00OW\x00\x00" + struct.pack("<I", 0xFFFFFFF0)
    zeros = bytes(1 << 20)
    bomb = packer.compress(WHOLE + start) + b"".join(packer.compress(zeros) for _ in range(300))
    tracemalloc.start()
    began = time.process_time()

    with pytest.raises(Malformed, match="inflates to more than"):
        scan(bomb, DEFLATED)
    taken = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < 2
    assert peak < 16 << 20


@pytest.mark.parametrize("content", [b"", b"\xff" * 50, _deflate(WHOLE)[:-5]])
def test_a_broken_deflate_stream_is_malformed(content):
    with pytest.raises(Malformed, match="deflated"):
        scan(content, DEFLATED)


@pytest.mark.parametrize(
    "transfer_syntax", [IMPLICIT, EXPLICIT, BIG], ids=["implicit", "explicit", "big endian"]
)
def test_a_private_transfer_syntax_is_told_by_the_data(transfer_syntax):
    content = dicom_files.encode(dicom_files.ct_slice(), transfer_syntax)

    assert scan(content, "1.2.840.113619.5.2").elements == scan(content, transfer_syntax).elements


def test_an_unknown_vr_has_the_length_of_future_vrs_or_of_careless_writers():
    future = b"\x09\x00\x01\x10ZZ\x00\x00" + struct.pack("<I", 4) + b"abcd"
    careless = b"\x09\x00\x02\x10XX\x04\x00abcd"

    found = scan(future + careless).elements

    assert found[0x00091001] == (b"ZZ", 12, 4)
    assert found[0x00091002] == (b"XX", 24, 4)


def test_zeros_behind_the_last_element_are_padding():
    scanner = scan(WHOLE + bytes(513))

    assert scanner.elements == scan(WHOLE).elements
    assert stream(WHOLE + bytes(513)).elements == scanner.elements


def test_limits_are_those_written_down():
    assert (elements.MAX_DEPTH, elements.MAX_ELEMENTS, elements.MAX_ITEMS) == (32, 100_000, 50_000)
