"""What the model gets: `onnxd predict --save-input` against Pillow, and against OpenCV's formulas in numpy."""
import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS,
           "box": Image.BOX}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that takes pictures of any size."""
    nodes = [helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]), helper.make_node("Flatten", ["mean"], ["scores"])]
    graph = helper.make_graph(nodes, "any", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, "h", "w"])],
                              [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])])
    path = tmp_path_factory.mktemp("resize") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def seen(onnxd, model, picture, background=0, **preprocess):
    """The levels that the model gets for a picture, or a file's bytes, as height x width x 3."""
    folder = model.parent
    if isinstance(picture, bytes):
        (folder / "picture.png").write_bytes(picture)
    else:
        picture.save(folder / "picture.png")
    (folder / "card.json").write_text(json.dumps({"task": "classify", "background": background, "preprocess": preprocess}))
    done = subprocess.run([onnxd, "predict", model, folder / "picture.png", "--card", folder / "card.json", "--save-input",
                           folder / "input.npy"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "input.npy")[0].transpose(1, 2, 0)


def pictures(count):
    rng = np.random.default_rng(5)
    for i in range(count):
        h, w, oh, ow = (int(n) for n in rng.integers(1, 200, 4))
        levels = rng.integers(0, 256, (h, w, 3)) if i % 3 else rng.integers(0, 2, (h, w, 3)) * 255
        yield Image.fromarray(levels.astype(np.uint8)), ow, oh


@pytest.mark.parametrize("name", FILTERS)
def test_resizing_is_pillows_within_one_level(onnxd, model, name):
    for picture, ow, oh in pictures(12):
        got = seen(onnxd, model, picture, fit="stretch", width=ow, height=oh, filter=name, antialias=True)
        # across, then down: the order that Pillow always had until version 12
        want = picture.resize((ow, picture.height), FILTERS[name]).resize((ow, oh), FILTERS[name])
        assert np.abs(got - np.asarray(want, np.float32)).max() <= 1


def plain_weights(name, n, out):
    """OpenCV's weights, a row for each output: half-pixel centres, nothing widened, edges repeated."""
    weights, scale = np.zeros((out, n)), n / out
    for i in range(out):
        if name == "nearest":
            weights[i, min(int(i * (1 / (out / n))), n - 1)] = 1
        elif name == "box":  # INTER_AREA
            for j in range(n):
                weights[i, j] = max(0, min((i + 1) * scale, j + 1) - max(i * scale, j))
        else:
            centre = (i + 0.5) * scale - 0.5
            reach = {"bilinear": 1, "bicubic": 2, "lanczos": 4}[name]
            for j in range(int(np.floor(centre)) - reach + 1, int(np.floor(centre)) + reach + 1):
                x, a = abs(j - centre), -0.75
                if name == "bilinear":
                    k = max(0, 1 - x)
                elif name == "bicubic":
                    k = ((a + 2) * x - (a + 3)) * x * x + 1 if x < 1 else (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0
                else:
                    k = np.sinc(x) * np.sinc(x / 4)
                weights[i, min(max(j, 0), n - 1)] += k
        weights[i] /= weights[i].sum()
    return weights


@pytest.mark.parametrize("name", FILTERS)
def test_resizing_without_antialias_is_opencvs_within_one_level(onnxd, model, name):
    for picture, ow, oh in pictures(8):
        got = seen(onnxd, model, picture, fit="stretch", width=ow, height=oh, filter=name, antialias=False)
        x = np.asarray(picture, np.float64)
        want = np.einsum("yh,hwc,xw->yxc", plain_weights(name, x.shape[0], oh), x, plain_weights(name, x.shape[1], ow))
        assert np.abs(got - np.clip(np.floor(want + 0.5), 0, 255)).max() <= 1


def opencv_bilinear(x, ow, oh):
    """OpenCV's own steps for 8 bits: weights of 11 bits, 7 bits of fraction between the directions, products cut."""
    def pairs(n, out):
        at = ((np.arange(out) + 0.5) * (1 / (out / n)) - 0.5).astype(np.float32)
        first = np.floor(at).astype(int)
        return first, at - first.astype(np.float32)
    (x0, fx), (y0, fy) = pairs(x.shape[1], ow), pairs(x.shape[0], oh)
    fx = np.where((x0 < 0) | (x0 >= x.shape[1] - 1), np.float32(0), fx)
    left, right = x[:, np.clip(x0, 0, x.shape[1] - 1)].astype(int), x[:, np.clip(x0 + 1, 0, x.shape[1] - 1)].astype(int)
    rows = left * np.rint((1 - fx) * 2048).astype(int)[:, None] + right * np.rint(fx * 2048).astype(int)[:, None] >> 4
    up, down = rows[np.clip(y0, 0, x.shape[0] - 1)], rows[np.clip(y0 + 1, 0, x.shape[0] - 1)]
    a, b = np.rint((1 - fy) * 2048).astype(int)[:, None, None], np.rint(fy * 2048).astype(int)[:, None, None]
    return (a * up >> 16) + (b * down >> 16) + 2 >> 2


def test_bilinear_without_antialias_is_opencvs_bit_for_bit(onnxd, model):
    for picture, ow, oh in pictures(12):
        got = seen(onnxd, model, picture, fit="stretch", width=ow, height=oh, filter="bilinear", antialias=False)
        assert (got == opencv_bilinear(np.asarray(picture), ow, oh)).all()


def test_crops_are_torchvisions(onnxd, model):
    for picture, _, _ in pictures(6):
        w, h = picture.size
        size = (64, int(64 * h / w)) if w <= h else (int(64 * w / h), 64)
        left, top = round((size[0] - 56) / 2), round((size[1] - 56) / 2)
        want = picture.resize((size[0], h), Image.BILINEAR).resize(size, Image.BILINEAR).crop((left, top, left + 56, top + 56))
        got = seen(onnxd, model, picture, fit="crop", shorter=64, width=56, height=56)
        assert np.abs(got - np.asarray(want, np.float32)).max() <= 1


def test_letterboxes_are_padded_around(onnxd, model):
    picture = Image.fromarray(np.full((50, 100, 3), 200, np.uint8))
    got = seen(onnxd, model, picture, fit="letterbox", width=64, height=64, centered=True, enlarge=True, pad=[1, 2, 3])
    assert (got[16:48] == 200).all() and (got[:16] == [1, 2, 3]).all() and (got[48:] == [1, 2, 3]).all()


def test_transparent_pixels_show_the_background(onnxd, model):
    picture = Image.new("RGBA", (8, 8), (250, 100, 50, 0))
    assert (seen(onnxd, model, picture, fit="none") == 0).all()
