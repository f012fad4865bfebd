"""WebP where pictures are taken, and TIFF and JPEG 2000 where ImageDecoder takes them, against Pillow."""
import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "engine"))
from oracle import make_model, verify  # noqa: E402
from test_resize import model  # noqa: E402, F401


def picture(width=53, height=37, mode="RGB"):
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    levels = np.stack([x, y, 255 - x, 40 + y / 2], -1).astype(np.uint8)
    return Image.fromarray(levels[..., :len(mode)] if len(mode) > 1 else levels[..., 0], mode)


def encoded(image, **how):
    out = io.BytesIO()
    image.save(out, **how)
    return out.getvalue()


def predict(onnxd, model, data, *more):
    path = model.parent / "picture.webp"
    path.write_bytes(data)
    (model.parent / "card.json").write_text(json.dumps({"task": "classify", "preprocess": {"fit": "none"}}))
    return subprocess.run([onnxd, "predict", model, path, "--card", model.parent / "card.json", "--save-input", model.parent / "input.npy", *more],
                          capture_output=True, text=True)


def seen(onnxd, model, data):
    done = predict(onnxd, model, data)
    assert done.returncode == 0, done.stderr
    return np.load(model.parent / "input.npy")[0].transpose(1, 2, 0)


@pytest.mark.parametrize("how", [dict(lossless=True), dict(quality=80), dict(quality=5, method=6)])
def test_webp_is_read_as_pillow_reads_it(onnxd, model, how):  # noqa: F811
    data = encoded(picture(), format="WEBP", **how)
    want = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)
    assert np.abs(seen(onnxd, model, data) - want).max() <= 1


def test_transparent_webp_lies_on_black(onnxd, model):  # noqa: F811
    image = picture(mode="RGBA")
    want = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB"), np.float32)
    assert np.abs(seen(onnxd, model, encoded(image, format="WEBP", lossless=True, exact=True)) - want).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_webp_is_turned_as_its_exif_says(onnxd, model, orientation):  # noqa: F811
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(), format="WEBP", lossless=True, exif=exif.tobytes())
    want = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"), np.float32)
    assert np.abs(seen(onnxd, model, data) - want).max() <= 1


def test_broken_webp_is_refused(onnxd, model):  # noqa: F811
    whole = encoded(picture(), format="WEBP")
    for n in (12, 15, 20, 30, len(whole) // 2):
        done = predict(onnxd, model, whole[:n])
        assert done.returncode == 1 and "WebP" in done.stderr, (n, done.stderr)
    moving = encoded(picture(), format="WEBP", save_all=True, append_images=[picture(mode="RGB").rotate(90, expand=False)])
    assert "animation" in predict(onnxd, model, moving).stderr


# ---- ImageDecoder ----------------------------------------------------------------------------


def decoded(onnxd, tmp_path, data, want, atol=1):
    node = helper.make_node("ImageDecoder", ["x"], ["y"], pixel_format="RGB")
    feeds = {"x": np.frombuffer(data, np.uint8)}
    cast = helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT)
    verify(onnxd, tmp_path, make_model([node, cast], feeds, [("z", TensorProto.FLOAT)], opset=20), feeds, [np.asarray(want, np.float32)], rtol=0, atol=atol)


@pytest.mark.parametrize("how", [{}, dict(compression="tiff_lzw"), dict(compression="tiff_adobe_deflate"), dict(compression="packbits")])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_tiff(onnxd, tmp_path, mode, how):
    image = picture() if mode == "RGB" else picture().convert(mode)
    decoded(onnxd, tmp_path, encoded(image, format="TIFF", **how), image.convert("RGB"))


@pytest.mark.parametrize("how", [{}, dict(no_jp2=True), dict(tile_size=(16, 16)), dict(irreversible=True, quality_mode="dB", quality_layers=[45])])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_2000(onnxd, tmp_path, mode, how):
    data = encoded(picture().convert(mode), format="JPEG2000", **how)
    decoded(onnxd, tmp_path, data, Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("name,how", [("WEBP", {}), ("TIFF", {}), ("TIFF", dict(compression="tiff_lzw")), ("JPEG2000", {}), ("JPEG2000", dict(no_jp2=True))])
def test_what_is_cut_short_gives_nothing_or_a_picture_but_no_crash(onnxd, tmp_path, name, how):
    whole = encoded(picture(), format=name, **how)
    node = helper.make_node("ImageDecoder", ["x"], ["y"], pixel_format="RGB")
    info = {"x": helper.make_tensor_value_info("x", TensorProto.UINT8, [None])}
    onnx.save(make_model([node], {"x": np.zeros(1, np.uint8)}, [("y", TensorProto.UINT8)], opset=20, infos=info), tmp_path / "m.onnx")
    for n in np.linspace(1, len(whole) - 1, 12).astype(int):
        np.save(tmp_path / "x.npy", np.frombuffer(whole[:n], np.uint8))
        done = subprocess.run([onnxd, "run", tmp_path / "m.onnx", "--input", f"x={tmp_path / 'x.npy'}", "--output-dir", tmp_path / "out"], capture_output=True)
        assert done.returncode in (0, 1)
