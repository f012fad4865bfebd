"""Chains of models in a card: what a detector finds goes through others, as if it were cut out and sent by hand."""
import io
import json
import math
import subprocess
import sys
import pathlib

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "http"))
import served  # noqa: E402

COLOURS = served.model([("GlobalAveragePool", ["pixels"], ["m"], {}), ("Flatten", ["m"], ["scores"], {})],
                       [("pixels", T.FLOAT, ["n", 3, 32, 32])], [("scores", T.FLOAT, ["n", 3])])
VECTOR = served.model([("AveragePool", ["pixels"], ["m"], {"kernel_shape": [8, 8], "strides": [8, 8]}), ("Flatten", ["m"], ["v"], {})],
                      [("pixels", T.FLOAT, ["n", 3, 32, 32])], [("v", T.FLOAT, ["n", 48])])
VECTOR_CARD = {"task": "embed", "preprocess": {"fit": "stretch", "width": 32, "height": 32, "rescale": 1 / 255}}
GRAY = served.model([("GlobalAveragePool", ["pixels"], ["m"], {}), ("Flatten", ["m"], ["v"], {})],
                    [("pixels", T.FLOAT, ["n", 1, 16, 16])], [("v", T.FLOAT, ["n", 1])])
GRAY_CARD = {"task": "embed", "parameters": {"normalize": 0}, "preprocess": {"colors": "gray", "fit": "stretch", "width": 16, "height": 16}}


def constant_boxes(rows, per_box):
    """A detector that finds the same boxes in every picture of 64 x 64."""
    y = numpy_helper.from_array(np.array(rows, np.float32).T[None], "rows")
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    graph = helper.make_graph([helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=0), helper.make_node("Mul", ["m", "zero"], ["z"]),
                               helper.make_node("Add", ["rows", "z"], ["y"])], "g", [helper.make_tensor_value_info("x", T.FLOAT, [1, 3, 64, 64])],
                              [helper.make_tensor_value_info("y", T.FLOAT, [1, per_box, len(rows)])], [y, zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


ANGLE = 0.5
TURNED = constant_boxes([[32, 30, 24, 10, 0.9, ANGLE]] + [[0, 0, 1, 1, 0, 0]] * 15, 6)
TURNED_CARD = {**served.RED_CARD, "decoder": "yolov8-obb", "labels": ["thing"], "then": [{"model": "vector", "margin": 0.25}]}


def reds(*then):
    return {**served.RED_CARD, "then": list(then)}


@pytest.fixture(scope="module")
def server(onnxd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    finder = served.red_finder()
    served.save(folder, "colours", COLOURS, served.COLOURS_CARD)
    served.save(folder, "vector", VECTOR, VECTOR_CARD)
    served.save(folder, "gray", GRAY, GRAY_CARD)
    served.save(folder, "tensors", served.scaled(2.0))
    served.save(folder, "both", finder, reds({"model": "colours", "margin": 0.3}, {"model": "vector", "of": ["blue"]}, {"model": "gray"}))
    served.save(folder, "nested", finder, reds({"model": "both", "margin": 1.5, "of": ["red"]}))
    served.save(folder, "turned", TURNED, TURNED_CARD)
    served.save(folder, "missing", finder, reds({"model": "nobody"}))
    served.save(folder, "blind", finder, reds({"model": "tensors"}))
    for a, b in (("round1", "round2"), ("round2", "round1"), ("deep1", "deep2"), ("deep2", "deep3"), ("deep3", "deep4"), ("deep4", "colours")):
        served.save(folder, a, finder, reds({"model": b}))
    with served.Server(onnxd, folder) as s:
        s.folder = folder
        yield s


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def ask(server, model, picture):
    status, answer = server.json("POST", f"/v2/models/{model}/predict", picture, {"Content-Type": "image/png"})
    return status, {k: v for k, v in answer.items() if not k.startswith("model_")}


def scene(seed=3):
    """Red and blue cells with noise, so that no two crops are alike."""
    x = np.asarray(Image.open(io.BytesIO(served.coloured_picture()))).astype(int)
    return np.clip(x + np.random.default_rng(seed).integers(0, 40, x.shape), 0, 255).astype(np.uint8)


def cut(pixels, box, margin):
    x, y, w, h = box
    x1, y1, x2, y2 = x - margin * w, y - margin * h, x + w + margin * w, y + h + margin * h
    return pixels[max(0, math.floor(y1)):math.ceil(y2), max(0, math.floor(x1)):math.ceil(x2)]


def test_a_chain_gives_what_the_calls_made_apart_give(server):
    pixels = scene()
    status, answer = ask(server, "both", png(pixels))
    assert status == 200 and len(answer["detections"]) == 3
    for d in answer["detections"]:
        wanted = {"colours": 0.3, "gray": 0} | ({"vector": 0} if d["label"] == "blue" else {})
        assert set(d["then"]) == set(wanted)
        for model, margin in wanted.items():
            assert d["then"][model] == ask(server, model, png(cut(pixels, d["box"], margin)))[1], (d["label"], model)
        assert d["then"]["colours"]["classes"][0]["label"] in ("red", "blue")


@pytest.mark.parametrize("model", ["both", "nested", "turned"])
def test_the_command_line_gives_the_servers_answer(server, onnxd, tmp_path, model):
    (tmp_path / "scene.png").write_bytes(png(scene(5)))
    for asked in (server.folder / model, server.folder / model / "model.onnx"):
        done = subprocess.run([onnxd, "predict", asked, tmp_path / "scene.png", "--json"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == ask(server, model, png(scene(5)))[1]
    assert any("then" in d for d in json.loads(done.stdout)["detections"])


@pytest.mark.parametrize("model, said", [("missing", "no model 'nobody'"), ("blind", "'tensors'"), ("round1", "more than 4"), ("deep1", "more than 4")])
def test_chains_that_cannot_be_are_refused_on_the_command_line(server, onnxd, tmp_path, model, said):
    (tmp_path / "scene.png").write_bytes(png(scene(5)))
    done = subprocess.run([onnxd, "predict", server.folder / model, tmp_path / "scene.png"], capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr, done.stderr


def test_the_time_of_the_models_behind_is_told(server):
    timing = server.ask("POST", "/v2/models/both/predict", png(scene()), {"Content-Type": "image/png"})[1]["server-timing"]
    assert "chain;dur=" in timing and "explain" not in timing


def test_a_chain_behind_a_chain_is_cut_from_the_part(server):
    pixels = scene(4)
    _, answer = ask(server, "nested", png(pixels))
    assert [d["label"] for d in answer["detections"] if "then" in d] == ["red", "red"]
    for d in answer["detections"]:
        if d["label"] == "red":
            assert d["then"]["both"] == ask(server, "both", png(cut(pixels, d["box"], 1.5)))[1]


def test_turned_boxes_are_set_upright(server):
    pixels = np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((16, 12)).resize((128, 96), Image.BICUBIC))  # smooth
    _, answer = ask(server, "turned", png(pixels))
    d, = answer["detections"]
    c = np.array(d["corners"]).reshape(4, 2)
    u, v = c[1] - c[0], c[3] - c[0]
    origin, u, v = c[0] - 0.25 * (u + v), 1.5 * u, 1.5 * v
    w, h = math.ceil(np.hypot(*u)), math.ceil(np.hypot(*v))
    k, i = np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    x, y = (origin[a] + k * u[a] + i * v[a] - 0.5 for a in (0, 1))
    x, y = np.clip(x, 0, 127), np.clip(y, 0, 95)
    x0, y0 = np.minimum(x.astype(int), 126), np.minimum(y.astype(int), 94)
    tx, ty = (x - x0)[..., None], (y - y0)[..., None]
    p = pixels.astype(float)
    upright = (p[y0, x0] * (1 - tx) + p[y0, x0 + 1] * tx) * (1 - ty) + (p[y0 + 1, x0] * (1 - tx) + p[y0 + 1, x0 + 1] * tx) * ty
    apart = ask(server, "vector", png((upright + 0.5).astype(np.uint8)))[1]["embedding"]
    np.testing.assert_allclose(d["then"]["vector"]["embedding"], apart, atol=2e-3)
    assert d["then"]["vector"]["embedding"] != ask(server, "vector", png(pixels))[1]["embedding"]


def test_nothing_found_asks_nobody(server):
    assert ask(server, "both", png(np.zeros((64, 64, 3), np.uint8)))[1] == {"detections": []}


def test_several_pictures_have_a_chain_each(server):
    body = {"images": [__import__("base64").b64encode(png(scene(i))).decode() for i in (5, 6)]}
    status, answer = server.json("POST", "/v2/models/both/predict", body, {"Content-Type": "application/json"})
    assert status == 200
    assert answer["results"] == [ask(server, "both", png(scene(i)))[1] for i in (5, 6)]


@pytest.mark.parametrize("model, words", [("missing", "nobody"), ("round1", "goes round"), ("deep1", "4 are possible"), ("blind", "takes no pictures")])
def test_broken_chains_are_refused_with_the_reason(server, model, words):
    status, answer = ask(server, model, png(scene()))
    assert status == 500 and words in answer["error"] and model in answer["error"]
    assert ask(server, "both", png(scene()))[0] == 200


@pytest.mark.parametrize("change, words", [
    ({"then": [{"margin": 1}]}, "name of a model"), ({"then": []}, "1 to 16"), ({"then": [{"model": "a", "of": ["green"]}]}, "green"),
    ({"then": [{"model": "a"}, {"model": "a"}]}, "twice"), ({"then": [{"model": "a", "margin": -1}]}, "margin"),
    ({"then": [{"model": "a"}], "task": "embed", "decoder": None, "labels": None}, "for task detect")])
def test_impossible_cards_are_refused_at_load(onnxd, tmp_path, change, words):
    card = {k: v for k, v in {**served.RED_CARD, **change}.items() if v is not None}
    served.save(tmp_path, "m", served.red_finder(), card)
    with served.Server(onnxd, tmp_path, ready=False) as s:
        s.wait("/v2")
        for _ in range(200):
            index = s.json("POST", "/v2/repository/index")[1]
            if index and index[0].get("reason"):
                break
            __import__("time").sleep(0.02)
        assert words in index[0]["reason"]


def test_the_card_is_told_with_its_chain(server):
    assert json.loads(server.ask("GET", "/v2/models/both/card")[2])["then"] == [
        {"model": "colours", "margin": 0.3}, {"model": "vector", "margin": 0, "of": ["blue"]}, {"model": "gray", "margin": 0}]
