"""?explain=1: what speaks for a class lies where the class is."""
import base64
import io
import subprocess
import sys
import pathlib
import time

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "http"))
import served  # noqa: E402

CARD = {"task": "classify", "decoder": "softmax", "labels": ["red", "green", "blue"],
        "preprocess": {"colors": "rgb", "fit": "stretch", "width": 32, "height": 32, "rescale": 1 / 255}}
rng = np.random.default_rng(5)
W = rng.standard_normal((8, 3)).astype(np.float32)
CONV = rng.standard_normal((8, 3, 4, 4)).astype(np.float32) / 4


def net(*behind, outputs=(("y", ["n", 3]),), constants=()):
    """A convolution of stride 4 and Relu, then nodes (op, inputs, outputs, attributes) that begin at `f` [n, 8, 8, 8]."""
    nodes = [("Conv", ["x", "k"], ["c"], {"strides": [4, 4]}), ("Relu", ["c"], ["f"], {}), *behind]
    tensors = [numpy_helper.from_array(CONV, "k")] + [numpy_helper.from_array(v, n) for n, v in constants]
    return served.model(nodes, [("x", T.FLOAT, ["n", 3, 32, 32])], [(n, T.FLOAT, s) for n, s in outputs], tensors)


POOLED = [("GlobalAveragePool", ["f"], ["p"], {}), ("Flatten", ["p"], ["q"], {})]
BIAS = np.array([0.3, -0.2, 0.1], np.float32)
NETS = {
    "gemm": net(*POOLED, ("Gemm", ["q", "w", "b"], ["y"], {"transB": 1}), constants=[("w", W.T.copy()), ("b", BIAS)]),
    "matmul": net(("ReduceMean", ["f"], ["q"], {"axes": [-2, -1], "keepdims": 0}), ("MatMul", ["q", "w"], ["m"], {}),
                  ("Add", ["m", "b"], ["y"], {}), constants=[("w", W), ("b", BIAS)]),
    "conv": net(("GlobalAveragePool", ["f"], ["p"], {}), ("Conv", ["p", "w"], ["m"], {}), ("Flatten", ["m"], ["y"], {}),
                constants=[("w", W.T.reshape(3, 8, 1, 1).copy())]),
    "maps": net(("Conv", ["f", "w"], ["m"], {}), ("GlobalAveragePool", ["m"], ["p"], {}), ("Flatten", ["p"], ["y"], {}),
                constants=[("w", W.T.reshape(3, 8, 1, 1).copy())]),
}
FLAT = np.zeros((3, 32, 32, 3), np.float32)
for colour in range(3):
    FLAT[colour, :, :, colour] = 3e-3
OTHERS = {"flat": served.model([("Flatten", ["x"], ["q"], {}), ("MatMul", ["q", "w"], ["y"], {})], [("x", T.FLOAT, ["n", 3, 32, 32])],
                               [("y", T.FLOAT, ["n", 3])], [numpy_helper.from_array(FLAT.reshape(-1, 3) * 10, "w")])}


HEADS = [{"name": "warm", "count": 1, "labels": ["red"]}, {"name": "cold", "first": 1, "labels": ["green", "blue"]}]


@pytest.fixture(scope="module")
def server(onnxd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    for name, proto in {**NETS, **OTHERS}.items():
        served.save(folder, name, proto, CARD)
    served.save(folder, "heads", NETS["gemm"], {**{k: v for k, v in CARD.items() if k != "labels"}, "heads": HEADS})
    served.save(folder, "late", net(*POOLED, ("MatMul", ["q", "w"], ["z"], {}), ("MatMul", ["q", "w2"], ["y"], {}), outputs=(("z", ["n", 3]), ("y", ["n", 3])),
                                    constants=[("w", W), ("w2", W[:, ::-1].copy())]), {**{k: v for k, v in CARD.items() if k != "labels"}, "heads": [{"name": "b", "output": "y"}]})
    served.save(folder, "segments", served.identity(T.FLOAT, [1, 3, 32, 32]), {**CARD, "task": "segment", "decoder": "argmax"})
    served.save(folder, "depth", served.identity(T.FLOAT, [1, 3, 32, 32]), {**CARD, "task": "image", "decoder": "picture", "labels": []})
    served.save(folder, "reds", served.red_finder(), served.RED_CARD)
    with served.Server(onnxd, folder) as s:
        yield s


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def ask(server, model, picture, query):
    return server.json("POST", f"/v2/models/{model}/predict?{query}", picture, {"Content-Type": "image/png"})


def explain(server, model, picture, query):
    status, answer = ask(server, model, picture, "explain=1&" + query)
    assert status == 200, answer
    e = answer["explanation"]
    return e, np.array(e["grid"]), np.asarray(Image.open(io.BytesIO(base64.b64decode(e["png"]))))


@pytest.mark.parametrize("model", NETS)
@pytest.mark.parametrize("label", range(3))
def test_the_map_is_what_the_linear_layer_says_at_each_place(server, model, label):
    pixels = np.random.default_rng(label).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    e, _, levels = explain(server, model, png(pixels), f"class={label}")
    assert (e["method"], e["passes"], e["index"], e["label"]) == ("cam", 1, label, CARD["labels"][label])
    x = pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    blocks = x.reshape(3, 8, 4, 8, 4).transpose(1, 3, 0, 2, 4).reshape(64, 48)
    feature = np.maximum(blocks @ CONV.reshape(8, 48).T, 0)
    want = (feature @ W[:, label]).reshape(8, 8)
    at = np.clip((np.arange(256) + 0.5) / 32 - 0.5, 0, 7)  # levels are 256 x 256
    low, share = np.minimum(at.astype(int), 6), at - np.minimum(at.astype(int), 6)
    wide = want[:, low] * (1 - share) + want[:, low + 1] * share
    fine = np.maximum(wide[low] * (1 - share)[:, None] + wide[low + 1] * share[:, None], 0)
    np.testing.assert_allclose(levels, fine / max(fine.max(), 1e-9) * 255, atol=1)


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_covers_find_the_colour_of_the_class(server, method):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[8:24, 4:20, 0], pixels[8:24, 44:60, 2] = 255, 255
    for label, half in ((0, slice(0, 8)), (2, slice(8, 16))):
        e, grid, _ = explain(server, "flat", png(pixels), f"class={label}&method={method}")
        assert e["method"] == method and grid.shape == (8, 16) and grid.max() == 1 and grid.min() >= 0
        assert grid[:, half].sum() > 0.8 * grid.sum()
    e, _, _ = explain(server, "flat", png(pixels), "class=0&method=rise&passes=40")
    assert e["passes"] == 40
    again = [explain(server, "flat", png(pixels), f"class=0&method={method}")[1] for _ in range(2)]
    np.testing.assert_allclose(*again, atol=2e-3)


def test_heads_are_explained_by_their_name(server):
    picture = png(np.random.default_rng(8).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for query, head, index, whole in (("class=0", "warm", 0, 0), ("head=warm", "warm", 0, 0), ("head=cold&class=0", "cold", 0, 1), ("head=cold&class=1", "cold", 1, 2)):
        e, grid, _ = explain(server, "heads", picture, query)
        assert (e["head"], e["index"], e["method"]) == (head, index, "cam") and e["label"] == CARD["labels"][whole]
        assert e["score"] == next(c["score"] for c in ask(server, "heads", picture, "")[1]["heads"][head] if c["index"] == index)
        np.testing.assert_allclose(grid, explain(server, "gemm", picture, f"class={whole}")[1], atol=2e-3)
    e, grid, _ = explain(server, "late", picture, "class=0")  # no exact maps of other outputs than the first
    assert (e["head"], e["method"]) == ("b", "occlusion") and grid.max() == 1
    assert "such head" in ask(server, "heads", picture, "explain=1&head=hot")[1]["error"]


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_each_box_is_explained_by_its_own_pixels(server, method):
    picture = served.coloured_picture()
    found = ask(server, "reds", picture, "")[1]["detections"]
    assert len(found) == 3
    for n, d in enumerate(found):
        e, grid, _ = explain(server, "reds", picture, f"box={n}&method={method}")
        assert (e["label"], e["index"], e["score"], e["method"]) == (d["label"], d["index"], d["score"], method)
        x, y, w, h = (int(v) // 16 for v in d["box"])
        around = grid[max(0, y - 4):y + h + 4, max(0, x - 4):x + w + 4].sum()  # windows are as wide as the box and half of it more
        assert around > (0.9 if method == "occlusion" else 0.3) * grid.sum(), (n, around / grid.sum())
        row, column = np.unravel_index(grid.argmax(), grid.shape)
        assert y - 2 <= row < y + h + 2 and x - 2 <= column < x + w + 2
    blue = [d["label"] for d in found].index("blue")
    e, _, _ = explain(server, "reds", picture, "class=1")
    assert e["score"] == found[blue]["score"] and e["method"] == "occlusion"


def test_areas_are_explained_by_what_they_keep(server):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[..., 1] = 150
    pixels[8:24, 4:20], pixels[8:24, 44:60] = (255, 0, 0), (0, 0, 255)
    for label, half in ((0, slice(0, 8)), (2, slice(8, 16))):
        e, grid, _ = explain(server, "segments", png(pixels), f"class={label}")
        assert (e["index"], e["score"], e["method"]) == (label, 1, "occlusion") and grid.max() == 1
        assert grid[:, half].sum() > 0.9 * grid.sum()
    assert explain(server, "segments", png(pixels), "")[0]["index"] == 1  # the largest


def test_the_time_of_explaining_is_told(server):
    blue = png(np.zeros((32, 32, 3), np.uint8))
    timing = server.ask("POST", "/v2/models/flat/predict?explain=1", blue, {"Content-Type": "image/png"})[1]["server-timing"]
    assert "explain;dur=" in timing and "chain" not in timing
    assert "explain" not in server.ask("POST", "/v2/models/flat/predict", blue, {"Content-Type": "image/png"})[1]["server-timing"]


def test_without_a_class_the_best_is_explained_by_what_is_possible(server):
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[:, :, 2] = 200
    e, _, _ = explain(server, "flat", png(blue), "")
    assert (e["label"], e["method"]) == ("blue", "occlusion")
    assert "explanation" not in ask(server, "flat", png(blue), "explain=0")[1]


@pytest.mark.parametrize("model, query, words", [
    ("flat", "explain=1&method=cam", "occlusion and rise are possible"),
    ("gemm", "explain=1&class=3", "the model has 3 classes"),
    ("gemm", "explain=1&passes=1001", "from 1 to 1000"),
    ("gemm", "explain=maybe", "1 or 0"),
    ("gemm", "explain=1&method=guess", "cam, occlusion, rise"),
    ("segments", "explain=1&class=9", "no pixel"), ("reds", "explain=1&box=7", "no such box"), ("depth", "explain=1", "only classifiers, detectors")])
def test_what_cannot_be_explained_is_refused_with_the_reason(server, model, query, words):
    status, answer = ask(server, model, png(np.zeros((32, 32, 3), np.uint8)), query)
    assert status == 400 and words in answer["error"]


def test_passes_end_at_the_requests_deadline(onnxd, tmp_path):
    """A model of some milliseconds a run cannot make 1000 of them in 300."""
    w = (np.random.default_rng(1).standard_normal((64, 64, 3, 3)) / 24).astype(np.float32)
    nodes = [("Conv", ["f", "w"], ["g0"], {"pads": [1] * 4})] + [("Conv", [f"g{k}", "w"], [f"g{k + 1}"], {"pads": [1] * 4}) for k in range(30)]
    first = np.tile(CONV[:, :, :3, :3], (8, 1, 1, 1))
    nodes = [("Conv", ["x", "k64"], ["f"], {"pads": [1] * 4}), *nodes, *[(op, i, o, a) for op, i, o, a in [("GlobalMaxPool", ["g30"], ["p"], {}),
             ("Flatten", ["p"], ["q"], {}), ("Gemm", ["q", "last"], ["y"], {})]]]
    constants = [numpy_helper.from_array(v, n) for n, v in (("w", w), ("k64", first), ("last", np.tile(W, (8, 1))))]
    served.save(tmp_path, "slow", served.model(nodes, [("x", T.FLOAT, [1, 3, 32, 32])], [("y", T.FLOAT, [1, 3])], constants), CARD)
    with served.Server(onnxd, tmp_path, "--request-timeout", 300) as s:
        begin = time.monotonic()
        status, answer = ask(s, "slow", png(np.zeros((32, 32, 3), np.uint8)), "explain=1&method=rise&passes=1000")
        assert status in (503, 504), answer
        assert time.monotonic() - begin < 3
        assert s.json("GET", "/v2/health/ready")[0] == 200


def test_of_two_objects_side_by_side_the_asked_one_lights_up(onnxd, root, tmp_path):
    shared = root.parent / "shared"
    if not (shared / "models").is_dir() or not (shared / "images").is_dir():
        pytest.skip("../shared with the demonstration models and photographs is not there")
    subprocess.run([sys.executable, str(root / "tools/make_models.py"), "--source", str(shared / "models"), str(tmp_path)], check=True, capture_output=True)
    two = Image.new("RGB", (960, 480))
    for i, name in enumerate(("bus.jpg", "portrait.jpg")):
        two.paste(Image.open(shared / "images" / name).convert("RGB").resize((480, 480)), (480 * i, 0))
    trolleybus, windsor_tie = 874, 906
    with served.Server(onnxd, tmp_path) as s:
        for method in ("cam", "occlusion", "rise"):
            for label, half in ((trolleybus, slice(0, 8)), (windsor_tie, slice(8, 16))):
                e, grid, _ = explain(s, "EfficientNet-Lite0", png(np.asarray(two)), f"class={label}&method={method}&passes=100")
                assert e["method"] == method
                assert grid[:, half].sum() > 0.75 * grid.sum(), (method, label, grid[:, half].sum() / grid.sum())
