import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.render import films, transport
from storage.base.errors import Malformed, NotSupported
from tests.fixtures import programs
from tests.fixtures.films import transport_stream

SPS, PPS = bytes((0x67, 100, 0, 31, 0xAC)), bytes((0x68, 0xEE))
KEY, OTHER = b"\x65" + b"k" * 700, b"\x41" + b"o" * 90
DELIMITER = b"\x09\xf0"
FILM = transport_stream(
    [
        (9000, 0, [DELIMITER, SPS, PPS, KEY]),
        (18000, 3600, [DELIMITER, OTHER]),
        (12600, 7200, [DELIMITER, OTHER]),
    ]
)


def inside(content: bytes, *kinds: bytes) -> bytes:
    return films._inside(content, *kinds)  # noqa: SLF001 - the reader of boxes


def table(made: bytes, kind: bytes) -> bytes:
    return inside(made, b"moov", b"trak", b"mdia", b"minf", b"stbl", kind)


def numbers(box: bytes) -> list[int]:
    return [int.from_bytes(box[at : at + 4]) for at in range(4, len(box), 4)]


def test_samples_keep_their_units_and_their_times():
    made = transport.to_mp4(FILM, 640, 480)

    units = [DELIMITER, SPS, PPS, KEY, DELIMITER, OTHER, DELIMITER, OTHER]
    assert inside(made, b"mdat") == b"".join(len(one).to_bytes(4) + one for one in units)
    assert numbers(table(made, b"stts")) == [1, 3, 3600]
    assert numbers(table(made, b"ctts")) == [3, 1, 9000, 1, 14400, 1, 5400]
    assert numbers(table(made, b"stss")) == [1, 1]
    configuration = table(made, b"stsd")[8:][8 + 78 :]
    assert configuration[8:] == (
        b"\1\x64\0\x1f\xff\xe1\0\5" + SPS + b"\1\0\2" + PPS + b"\xfd\xf8\xf8\0"
    )


def test_what_comes_before_the_first_key_is_left_out():
    begun = transport_stream([(0, 0, [OTHER]), (3600, 3600, [SPS, PPS, KEY])])

    made = transport.to_mp4(begun, 640, 480)

    assert numbers(table(made, b"stsz"))[1] == 1


def test_a_clock_that_begins_again_goes_on():
    end = (1 << 33) - 1800
    wrapped = transport_stream([(end, end, [SPS, PPS, KEY]), (1800, 1800, [OTHER])])

    made = transport.to_mp4(wrapped, 640, 480)

    assert numbers(table(made, b"stts")) == [1, 2, 3600]


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", NotSupported),
        (b"G" * 188, NotSupported),
        (b"\0" * 376, Malformed),
        (transport_stream([(0, 0, [SPS, PPS, KEY])], kind=2), NotSupported),
        (transport_stream([(0, 0, [SPS, PPS, KEY])], program=False), NotSupported),
        (transport_stream([(0, 0, [OTHER])]), Malformed),
        (transport_stream([(0, 0, [KEY])]), Malformed),
        (transport_stream([(0, 0, [DELIMITER, SPS, PPS, KEY, DELIMITER, KEY])]), NotSupported),
        (transport_stream([(9, 9, [SPS, PPS, KEY]), (5, 5, [OTHER])]), Malformed),
    ],
    ids=[
        "nothing",
        "one packet",
        "no packets",
        "MPEG-2",
        "no program",
        "no key picture",
        "no parameters",
        "two pictures in one",
        "backwards",
    ],
)
def test_what_cannot_be_is_told(stream, error):
    with pytest.raises(error):
        transport.to_mp4(stream, 640, 480)


@given(st.integers(0, len(FILM) - 1), st.integers(0, 255), st.integers(0, len(FILM)))
def test_a_hostile_stream_is_an_error_of_ours_at_most(at, value, end):
    hostile = bytearray(FILM)
    hostile[at] = value

    with contextlib.suppress(Malformed, NotSupported):
        transport.to_mp4(bytes(hostile[:end]), 640, 480)


@pytest.mark.interop
@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_a_player_shows_the_same_pictures(tmp_path: Path, encoder: str) -> None:
    if not programs.find("ffmpeg"):
        pytest.skip("FFmpeg is not installed: no player was tried")
    stream, made = tmp_path / "film.ts", tmp_path / "film.mp4"
    ffmpeg = [programs.need("ffmpeg"), "-v", "error", "-y"]
    source = "testsrc=duration=1:size=160x120:rate=25"
    sound = ["-f", "lavfi", "-i", "sine=duration=1"]
    coding = ["-pix_fmt", "yuv420p", "-c:v", encoder, "-bf", "2", "-c:a", "aac"]
    command = [*ffmpeg, "-f", "lavfi", "-i", source, *sound, *coding, str(stream)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)

    made.write_bytes(transport.to_mp4(stream.read_bytes(), 160, 120))

    def pictures(path: Path) -> list[str]:
        shown = subprocess.run(
            [*ffmpeg, "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"],
            check=True,
            timeout=60,
            capture_output=True,
            text=True,
        )
        assert not shown.stderr
        return [line.rpartition(",")[2] for line in shown.stdout.splitlines() if line[0] != "#"]

    assert len(pictures(made)) == 25
    assert pictures(made) == pictures(stream)
