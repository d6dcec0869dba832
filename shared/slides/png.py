"""PNGs, decoded whole by libpng: damage is found, and costs no memory."""

import struct

import imagecodecs
import numpy as np

from shared.imaging.normalisation import Samples

PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")  # length of its body, its name; a checksum of 4 bytes follows the body
_IHDR = struct.Struct(">II2B")  # width, height, bits per sample, kind of colour
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by the kind of colour, without the transparency of a chunk of its own


def decode_png(content: bytes) -> Samples:
    """Samples (H, W) of grey or (H, W, 2 … 4) with alpha, RGB or RGBA, uint8 or uint16.

    Palettes become colours, 1, 2 and 4 bits are spread over 0 … 255. What the header announces is taken as memory: let
    it be checked before.

    Raises:
        ValueError, imagecodecs.PngError: damaged or cut off.
    """
    shape, dtype = _find_shape(content)
    samples: Samples = np.empty(shape, dtype)
    try:
        imagecodecs.png_decode(content, out=samples)
    except imagecodecs.PngError:
        # libpng jumps out of the decoder past where it would let go of the array: it would stay for ever.
        samples.resize(0, refcheck=False)
        raise
    except ValueError as error:  # the shape is another: its transparency was passed over
        raise ValueError("its transparency is damaged") from error
    return samples


def _find_shape(content: bytes) -> tuple[tuple[int, ...], type[np.uint8] | type[np.uint16]]:
    """What the chunks announce; all of them are there if this returns. libpng reads on beyond the end of some cuts."""
    place, names = len(PNG), list[bytes]()
    while names[-1:] != [b"IEND"]:
        if place + _CHUNK.size > len(content):
            raise ValueError("its end is missing")
        length, name = _CHUNK.unpack_from(content, place)
        names.append(name)
        place += _CHUNK.size + length + 4
    if place > len(content) or names[0] != b"IHDR":
        raise ValueError("its header or its end is missing")
    width, height, bits, colour = _IHDR.unpack_from(content, len(PNG) + _CHUNK.size)
    pixels_from = names.index(b"IDAT") if b"IDAT" in names else 0
    channels = _CHANNELS.get(colour, 1) + (colour in (0, 2, 3) and b"tRNS" in names[:pixels_from])
    return (height, width, channels) if channels > 1 else (height, width), np.uint16 if bits == 16 else np.uint8
