"""Poses, embeddings, pictures out, segmentation's variants: models with constant outputs, references in numpy."""
import base64
import io
import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from test_decoders import f32, save_model


def predict(onnxd, folder, outputs, *flags, size=(128, 128), **card):
    save_model(folder, outputs)
    Image.new("RGB", size).save(folder / "picture.png")
    (folder / "model.json").write_text(json.dumps({"preprocess": {"fit": "stretch"}, **card}))
    done = subprocess.run([onnxd, "predict", folder / "model.onnx", folder / "picture.png", "--json", *flags],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def test_heatmaps_become_points(onnxd, tmp_path, rng):
    heat = rng.uniform(0, 1, (1, 4, 16, 16))
    got = predict(onnxd, tmp_path, {"heat": f32(heat)}, task="pose", labels=["nose", "eye", "ear", "toe"])["keypoints"]
    for k, g in enumerate(got):
        y, x = np.unravel_index(heat[0, k].argmax(), (16, 16))
        dx = 0.25 * np.sign(heat[0, k, y, x + 1] - heat[0, k, y, x - 1]) if 0 < x < 15 else 0
        dy = 0.25 * np.sign(heat[0, k, y + 1, x] - heat[0, k, y - 1, x]) if 0 < y < 15 else 0
        assert np.allclose(g["point"], [(x + dx) * 8, (y + dy) * 8]) and abs(g["score"] - heat[0, k].max()) < 1e-5
    assert got[0]["label"] == "nose"


def test_simcc_bins_become_points(onnxd, tmp_path, rng):
    x, y = rng.uniform(0, 1, (1, 5, 128)), rng.uniform(0, 1, (1, 5, 128))
    got = predict(onnxd, tmp_path, {"simcc_x": f32(x), "simcc_y": f32(y)}, task="pose", decoder="simcc")["keypoints"]
    for k, g in enumerate(got):
        assert np.allclose(g["point"], [x[0, k].argmax(), y[0, k].argmax()])  # half a pixel each, twice as large
        assert abs(g["score"] - min(x[0, k].max(), y[0, k].max())) < 1e-5


@pytest.mark.parametrize("shape", [(1, 8), (1, 3, 8), (1, 8, 1, 1)])
def test_embeddings_have_length_one(onnxd, tmp_path, rng, shape):
    x = f32(rng.normal(size=shape))
    first = x[0, 0] if len(shape) == 3 else x.ravel()
    got = predict(onnxd, tmp_path, {"out": x}, task="embed")["embedding"]
    assert np.allclose(got, first / np.linalg.norm(first), atol=1e-6)
    got = predict(onnxd, tmp_path, {"out": x}, task="embed", parameters={"normalize": 0})["embedding"]
    assert np.array_equal(f32(got), first)  # the shortest decimals read back as the same floats


def test_pictures_come_out_at_their_own_size(onnxd, tmp_path, rng):
    x = rng.uniform(-0.2, 1.2, (1, 3, 20, 30))
    got = predict(onnxd, tmp_path, {"out": f32(x)}, task="image", decoder="picture")["image"]
    assert got["size"] == [20, 30]
    assert np.abs(decoded(got["png"]) - np.clip(x[0].transpose(1, 2, 0) * 255, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("shape", [(1, 8, 16), (1, 1, 8, 16)])
def test_depth_is_gray_at_the_pictures_size(onnxd, tmp_path, rng, shape):
    x = rng.uniform(2, 9, (8, 16))
    got = predict(onnxd, tmp_path, {"out": f32(x.reshape(shape))}, task="image", decoder="depth", size=(160, 120))["image"]
    assert got["size"] == [120, 160] and abs(got["least"] - x.min()) < 1e-5 and abs(got["most"] - x.max()) < 1e-5
    large = np.asarray(Image.fromarray(f32(x)).resize((160, 120), Image.BILINEAR))
    assert np.abs(decoded(got["png"]) - (large - x.min()) / (x.max() - x.min()) * 255).max() < 1


def test_logits_at_a_stride_are_resized_before_the_best_is_taken(onnxd, tmp_path, rng):
    x = rng.normal(size=(1, 5, 16, 16))
    got = predict(onnxd, tmp_path, {"out": f32(x)}, "--mask", "png", task="segment", size=(150, 100))["segmentation"]
    large = np.stack([np.asarray(Image.fromarray(f32(c)).resize((150, 100), Image.BILINEAR)) for c in x[0]])
    assert (decoded(got["png"]) == large.argmax(0)).mean() > 0.999
    assert sum(c["area"] for c in got["classes"]) == 150 * 100


@pytest.mark.parametrize("decoder, limit", [("sigmoid", 0.0), ("probabilities", 0.5)])
def test_one_channel_is_compared_with_the_threshold(onnxd, tmp_path, rng, decoder, limit):
    x = rng.normal(size=(1, 1, 16, 16))
    got = predict(onnxd, tmp_path, {"out": f32(x)}, "--mask", "png", task="segment", decoder=decoder, labels=["thing"])["segmentation"]
    want = np.asarray(Image.fromarray(f32(x[0, 0])).resize((128, 128), Image.BILINEAR)) > limit
    assert (decoded(got["png"]) == want).mean() > 0.999
    assert {c["label"] for c in got["classes"]} == {"thing", None}


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32])
def test_maps_of_labels_are_taken_as_they_are(onnxd, tmp_path, rng, kind):
    x = rng.integers(0, 7, (1, 32, 32)).astype(kind)
    got = predict(onnxd, tmp_path, {"out": x}, "--mask", "png", task="segment", decoder="labels")["segmentation"]
    assert np.array_equal(decoded(got["png"]), x[0].repeat(4, 0).repeat(4, 1))


def test_maskformer_sums_its_queries(onnxd, tmp_path, rng):
    classes, masks = rng.normal(size=(1, 12, 5)) * 3, rng.normal(size=(1, 12, 16, 16)) * 3
    got = predict(onnxd, tmp_path, {"c": f32(classes), "m": f32(masks)}, "--mask", "png", task="segment", decoder="maskformer")["segmentation"]
    p = np.exp(classes[0]) / np.exp(classes[0]).sum(-1, keepdims=True)
    maps = np.einsum("qc,qhw->chw", p[:, :-1], 1 / (1 + np.exp(-masks[0])))
    large = np.stack([np.asarray(Image.fromarray(f32(c)).resize((128, 128), Image.BILINEAR)) for c in maps])
    assert (decoded(got["png"]) == large.argmax(0)).mean() > 0.998
