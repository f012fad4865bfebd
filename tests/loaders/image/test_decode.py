"""What becomes of the pixels of JPEG and PNG files of every kind, against Pillow."""
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from test_resize import model, seen  # noqa: F401 (a fixture)


def smooth(width=61, height=47, channels=3):
    y, x = np.mgrid[:height, :width]
    planes = [128 + 120 * np.sin(x / (7 + 3 * c) + y / (11 + c)) for c in range(channels)]
    return np.stack(planes, -1).astype(np.uint8)


def encoded(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def pillows(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"), np.float32)


# ---- JPEG

@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode, subsampling", [("L", None), ("RGB", "4:4:4"), ("RGB", "4:2:2"), ("RGB", "4:2:0"), ("CMYK", None)])
def test_jpegs_are_pillows_within_one_level(onnxd, model, mode, subsampling, progressive):  # noqa: F811
    levels = smooth(channels={"L": 1, "RGB": 3, "CMYK": 4}[mode])
    options = {"subsampling": subsampling} if subsampling else {}
    data = encoded(Image.fromarray(levels.squeeze(), mode), "JPEG", quality=92, progressive=progressive, **options)
    assert np.abs(seen(onnxd, model, data, fit="none") - pillows(data)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["RGB", "L"])
def test_exif_turns_every_pixel_as_pillow_does(onnxd, model, orientation, kind):  # noqa: F811
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(smooth()).convert(kind), "JPEG", quality=92, exif=exif)
    got, want = seen(onnxd, model, data, fit="none"), pillows(data)
    assert got.shape == want.shape == ((47, 61, 3) if orientation < 5 else (61, 47, 3))
    assert np.abs(got - want).max() <= 1


def test_a_jpeg_that_is_shrunk_while_decoding_is_still_close_to_pillow(onnxd, model):  # noqa: F811
    picture = Image.fromarray(smooth(160, 120)).resize((1600, 1200), Image.BICUBIC)
    data = encoded(picture, "JPEG", quality=95, subsampling="4:4:4")
    want = np.asarray(Image.open(io.BytesIO(data)).resize((200, 150), Image.BILINEAR), np.float32)
    got = seen(onnxd, model, data, fit="stretch", width=200, height=150, filter="bilinear", antialias=True)
    assert np.abs(got - want).mean() < 1 and np.abs(got - want).max() <= 6


# ---- PNG

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(rows, bits):
    """Filter bytes and samples of `rows` (height x samples), most significant bit first."""
    out = b""
    for row in rows:
        if bits == 16:
            out += b"\0" + row.astype(">u2").tobytes()
        else:
            wide = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits:]
            out += b"\0" + np.packbits(wide.ravel()).tobytes()
    return out


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, bits, colour, interlaced=False, palette=None, alpha=None):
    """`samples`: height x width x channels, below 2^bits."""
    height, width, _ = samples.shape
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in passes]
    body = b"".join(packed(p.reshape(p.shape[0], -1), bits) for p in parts if p.size)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + (chunk(b"PLTE", palette.astype(np.uint8).tobytes()) if palette is not None else b"") +
            (chunk(b"tRNS", alpha) if alpha is not None else b"") + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b""))


GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
KINDS = [(GRAY, b) for b in (1, 2, 4, 8, 16)] + [(c, b) for c in (RGB, GRAY_ALPHA, RGB_ALPHA) for b in (8, 16)] + [(PALETTE, b) for b in (1, 2, 4, 8)]


def to_8_bits(x, bits):
    """The nearest of 256 levels; of 16 bits, what libpng's and Pillow's both come to within one level."""
    return np.floor(x.astype(float) * 255 / (2**bits - 1) + 0.5)


def over(levels, alpha, background):
    return levels * alpha + np.asarray(background, float) * (1 - alpha)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("colour, bits", KINDS)
@pytest.mark.parametrize("background", [None, [200, 100, 50]])
def test_pngs_of_every_colour_type_and_depth(onnxd, model, colour, bits, interlaced, background):  # noqa: F811
    rng = np.random.default_rng(colour * 100 + bits)
    samples = rng.integers(0, 2**bits, (19, 23, CHANNELS[colour]))
    palette, transparent = None, None
    if colour == PALETTE:
        palette = rng.integers(0, 256, (2**bits, 3))
        transparent = rng.integers(0, 256, 2**bits).astype(np.uint8)
        levels, alpha = palette[samples[..., 0]], transparent[samples[..., 0]][..., None] / 255
    else:
        shown = to_8_bits(samples[..., :3 if colour in (RGB, RGB_ALPHA) else 1], bits)
        levels = np.broadcast_to(shown, (19, 23, 3))
        alpha = samples[..., -1:] / (2**bits - 1) if colour in (GRAY_ALPHA, RGB_ALPHA) else 1
    data = png(samples, bits, colour, interlaced, palette, transparent.tobytes() if transparent is not None else None)
    card = {"background": background} if background else {}
    got = seen(onnxd, model, data, fit="none", **card)
    # with alpha of 16 bits three numbers are rounded one by one
    assert np.abs(got - over(levels, alpha, background or [0, 0, 0])).max() <= (1.5 if bits == 16 else 1)


def test_a_colour_that_png_calls_transparent_shows_the_background(onnxd, model):  # noqa: F811
    samples = np.random.default_rng(3).integers(0, 2, (9, 9, 1)) * [10, 20, 30]
    data = png(samples, 8, RGB, alpha=struct.pack(">HHH", 10, 20, 30))
    got = seen(onnxd, model, data, fit="none", background=[7, 8, 9])
    assert (got == np.where(samples == [10, 20, 30], [7, 8, 9], samples)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA"])
def test_pngs_that_pillow_writes_look_as_pillow_reads_them(onnxd, model, mode):  # noqa: F811
    picture = Image.fromarray(smooth()).convert(mode)
    want = np.asarray(picture.convert("RGB"), np.float32)
    assert np.abs(seen(onnxd, model, encoded(picture, "PNG"), fit="none") - want).max() <= 1
