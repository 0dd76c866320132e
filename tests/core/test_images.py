"""Pictures as PNG files: Pillow reads ours, and what is no picture is one line for the user."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.images import decode_png, encode_png

PIXELS = np.arange(30, dtype=np.uint8).reshape(5, 6) * 8
PNG = encode_png(PIXELS)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_pillow_reads_what_was_written() -> None:
    with Image.open(io.BytesIO(PNG)) as image:
        assert (image.mode, image.size) == ("L", (6, 5))
        assert (np.asarray(image) == PIXELS).all()


def test_a_picture_keeps_its_pixels() -> None:
    assert (decode_png(PNG, "x", (5, 6)) == PIXELS).all()
    assert (decode_png(saved(Image.fromarray(PIXELS)), "x", (5, 6)) == PIXELS).all()


def test_the_bytes_of_a_file_are_the_same_everywhere() -> None:
    """No compression: its only degree of freedom is the division into blocks."""
    assert zlib.decompress(PNG[41:-16]) == b"".join(b"\0" + row.tobytes() for row in PIXELS)
    assert PNG[41:48] == b"\x78\x01\x01" + struct.pack("<HH", 35, 0xFFFF - 35)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_a_colour_becomes_its_brightness(mode: str) -> None:
    colours = Image.fromarray(PIXELS).convert("RGB")
    image = colours.quantize(256) if mode == "P" else colours.convert(mode)
    assert np.abs(decode_png(saved(image), "x", (5, 6)).astype(int) - PIXELS).max() <= 4


def message(data: bytes, size: tuple[int, int] = (5, 6)) -> str:
    with pytest.raises(UserError) as error:
        decode_png(data, "x.png", size)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "(no bytes)"),
        (b"GIF89a", "(other bytes)"),
        (PNG[:20], "(other bytes)"),
        (PNG[:60], ""),
        (PNG[:45] + bytes(20) + PNG[65:], ""),
        (saved(Image.fromarray(PIXELS), "BMP"), "(other bytes)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 6, 5), ""),
    ],
)
def test_bytes_that_are_no_picture_are_refused_in_one_line(data: bytes, words: str) -> None:
    line = message(data)
    assert line.startswith("x.png: got bytes that are no PNG file (")
    assert words in line
    assert line.endswith("; expected a picture as a PNG file. Save it again, or leave it out.")


def test_every_beginning_of_a_file_is_refused_or_the_picture() -> None:
    refused = 0
    for length in range(len(PNG)):
        try:
            assert (decode_png(PNG[:length], "x", (5, 6)) == PIXELS).all()
        except UserError:
            refused += 1
    assert refused > len(PNG) // 2


def test_a_damaged_byte_is_refused_or_changes_pixels_only() -> None:
    rng = np.random.default_rng(1)
    for place in range(len(PNG)):
        data = bytearray(PNG)
        data[place] ^= int(rng.integers(1, 256))
        with suppress(UserError):
            assert decode_png(bytes(data), "x", (5, 6)).shape == (5, 6)


def test_another_size_is_refused_in_one_line() -> None:
    assert message(PNG, (8, 8)) == (
        "x.png: got a picture of 5 x 6 pixels; expected 8 x 8, height by width. "
        "Scale it, or leave it out."
    )


def test_a_file_that_claims_to_be_huge_is_refused_by_its_size() -> None:
    data = PNG[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + PNG[24:]
    assert "2147483647 x 2147483647 pixels" in message(data)


def test_more_than_eight_bits_are_refused_in_one_line() -> None:
    image = Image.fromarray(PIXELS.astype(np.uint16) * 256)
    assert "got more than 8 bits per pixel (I;16); expected" in message(saved(image))
