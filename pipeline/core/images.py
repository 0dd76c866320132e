"""Grey pictures as the bytes of PNG files.

Shapes: Y rows and X columns of pixels. A pixel is a byte: 0 is black, 255 white."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError, refuse

Pixels = NDArray[np.uint8]

LARGEST_SIDE = 1024  # pixels
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIZE = slice(16, 24)  # of the header, which begins the file
_GREY_8_BIT = bytes([8, 0, 0, 0, 0])  # depth, colour type, and the only methods there are
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}  # Pillow's, of 8 bits at most
# Pillow has no type for a damaged file.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error)


def encode_png(pixels_YX: Pixels) -> bytes:
    """Encode a grey picture without compression, so that no version of zlib changes its bytes."""
    height, width = pixels_YX.shape
    # Each line begins with the number of its filter: 0 is none.
    lines = np.zeros((height, width + 1), np.uint8)
    lines[:, 1:] = pixels_YX
    header = struct.pack(">II", width, height) + _GREY_8_BIT
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 0)), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks)


def decode_png(data: bytes, where: str, size: tuple[int, int]) -> Pixels:
    """Decode a PNG file as a grey picture YX of `size`; colours become their brightness.

    UserError, naming `where`, for bytes that are no PNG file, and for a picture of another size.
    """
    # The size first: a few bytes can claim to be a huge picture.
    if not data.startswith(_SIGNATURE) or len(data) < _SIZE.stop:
        raise _broken(where, "other bytes" if data else "no bytes")
    width, height = struct.unpack(">II", data[_SIZE])
    if (height, width) != size:
        raise refuse(
            where,
            f"a picture of {height} x {width} pixels",
            f"{size[0]} x {size[1]}, height by width",
            "Scale it, or leave it out.",
        )

    # Takes a tenth of a second to import, and only corpora of pictures need it.
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode in _MODES:
                return np.array(image.convert("L"), np.uint8)
            got = f"more than 8 bits per pixel ({image.mode})"
    except _DAMAGED as error:
        raise _broken(where, str(error).partition(" <_io")[0] or type(error).__name__) from None
    raise refuse(where, got, "a picture of 8 bits per pixel and channel", "Convert it.")


def check_size(config: Any) -> None:
    """Refuse an `image_height` or `image_width` out of range; for `Config.__post_init__`."""
    for key in ("image_height", "image_width"):
        side = getattr(config, key)
        if not 1 <= side <= LARGEST_SIDE:
            raise refuse(key, side, f"from 1 to {LARGEST_SIDE} pixels")


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def _broken(where: str, reason: str) -> UserError:
    return refuse(
        where,
        f"bytes that are no PNG file ({reason[:80]})",
        "a picture as a PNG file",
        "Save it again, or leave it out.",
    )
