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


def finder(more, extra, outputs=()):
    """served.red_finder with `extra` more rows a cell, which `more` makes as `e` [1, extra, 64]."""
    proto = served.red_finder()
    nodes = [n for n in proto.graph.node if n.op_type != "Concat"]
    constants = list(proto.graph.initializer) + [numpy_helper.from_array(np.array(v), n) for n, v in more[1].items()]
    nodes += [helper.make_node(op, i, o, **a) for op, i, o, a in more[0]] + [helper.make_node("Concat", ["boxes", "s", "e"], ["y"], axis=1)]
    out = [helper.make_tensor_value_info(n, T.FLOAT, s) for n, s in (("y", [1, 6 + extra, 64]), *outputs)]
    return helper.make_model(helper.make_graph(nodes, "g", list(proto.graph.input), out, constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def red_masks():
    """Prototypes are red and blue, 16 x 16; each cell takes the one of its better score."""
    pick = np.zeros((2, 3, 1, 1), np.float32)
    pick[0, 0], pick[1, 2] = 1, 1
    return finder(([("AveragePool", ["x"], ["p4"], {"kernel_shape": [4, 4], "strides": [4, 4]}), ("Conv", ["p4", "pick2"], ["p4c"], {}),
                    ("Sub", ["p4c", "quarter"], ["protos"], {}), ("Relu", ["s"], ["e"], {})], {"pick2": pick, "quarter": np.float32(0.25)}), 2, [("protos", [1, 2, 16, 16])])


def red_points():
    """Two points of a cell: its centre, and that with twice the way down as green lies two rows below."""
    green = np.zeros((4, 3, 5, 1), np.float32)
    green[3, 1, 4] = 20
    return finder(([("AveragePool", ["x"], ["p8"], {"kernel_shape": [8, 8], "strides": [8, 8]}), ("Conv", ["p8", "green"], ["g"], {"pads": [2, 0, 2, 0]}),
                    ("Reshape", ["g", "four"], ["g4"], {}), ("Add", ["g4", "centres"], ["e"], {})],
                   {"green": green, "four": [1, 4, 64], "centres": numpy_helper.to_array(next(i for i in served.red_finder().graph.initializer if i.name == "boxes"))[:, [0, 1, 0, 1]]}), 4)


def colour_queries():
    """Queries of red, of blue and of the ground: a mask is where the colour is, its class is there when enough of it is."""
    masks, logits = np.zeros((3, 3, 1, 1), np.float32), np.zeros((2, 12), np.float32)
    masks[0, 0], masks[1, 2], masks[2, [0, 2]] = 20, 20, -20
    logits[0, 0] = logits[1, 5] = 100  # red, blue, ground, nothing; three times
    bias = np.array([[[0, -50, -50, 4], [-50, 0, -50, 4], [-50, -50, 4, 0]]], np.float32)
    nodes = [("Conv", ["x", "masks"], ["m0"], {}), ("Add", ["m0", "from"], ["m"], {}), ("GlobalAveragePool", ["x"], ["a"], {}), ("Gather", ["a", "which"], ["b"], {"axis": 1}),
             ("Reshape", ["b", "two"], ["b2"], {}), ("MatMul", ["b2", "logits"], ["l0"], {}), ("Reshape", ["l0", "shape"], ["l1"], {}), ("Add", ["l1", "bias"], ["c"], {})]
    constants = {"masks": masks, "from": np.array([-10, -10, 8], np.float32).reshape(3, 1, 1), "which": np.array([0, 2]), "two": np.array([1, 2]), "logits": logits,
                 "shape": np.array([1, 3, 4]), "bias": bias}
    return served.model(nodes, [("x", T.FLOAT, [1, 3, 32, 32])], [("c", T.FLOAT, [1, 3, 4]), ("m", T.FLOAT, [1, 3, 32, 32])],
                        [numpy_helper.from_array(v, n) for n, v in constants.items()])


@pytest.fixture(scope="module")
def server(onnxd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    for name, proto in {**NETS, **OTHERS}.items():
        served.save(folder, name, proto, CARD)
    served.save(folder, "heads", NETS["gemm"], {**{k: v for k, v in CARD.items() if k != "labels"}, "heads": HEADS})
    served.save(folder, "late", net(*POOLED, ("MatMul", ["q", "w"], ["z"], {}), ("MatMul", ["q", "w2"], ["y"], {}), outputs=(("z", ["n", 3]), ("y", ["n", 3])),
                                    constants=[("w", W), ("w2", W[:, ::-1].copy())]), {**{k: v for k, v in CARD.items() if k != "labels"}, "heads": [{"name": "b", "output": "y"}]})
    served.save(folder, "segments", served.identity(T.FLOAT, [1, 3, 32, 32]), {**CARD, "task": "segment", "decoder": "argmax"})
    served.save(folder, "depth", served.identity(T.FLOAT, [1, 3, 32, 32]), {"task": "image", "decoder": "picture", "preprocess": CARD["preprocess"]})
    served.save(folder, "masks", red_masks(), {**served.RED_CARD, "decoder": "yolov8-seg"})
    served.save(folder, "points", red_points(), {**served.RED_CARD, "decoder": "yolov8-pose", "parameters": {"keypoints": [2, 2]}})
    for kind in ("instance", "panoptic"):
        served.save(folder, kind, colour_queries(), {**CARD, "task": "segment", "decoder": f"maskformer-{kind}", "score_threshold": 0.5, "labels": ["red", "blue", "ground"]})
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


def test_masks_and_points_of_an_instance_are_explained(server):
    """Two red things and a blue one; a mask is where the colour is, a point moves with the green that lies in its cell's right half."""
    picture = served.coloured_picture()
    for model in ("masks", "points"):
        found = ask(server, model, picture, "")[1]["detections"]
        assert len(found) == 3 and all("mask" in d or "keypoints" in d for d in found)
        for n, d in enumerate(found):
            e, grid, _ = explain(server, model, picture, f"box={n}")
            assert (e["label"], e["index"], e["score"], e["method"]) == (d["label"], d["index"], d["score"], "occlusion")
            x, y, w, h = (int(v) // 16 for v in d["box"])
            around = grid[max(0, y - 4):y + h + 4, max(0, x - 4):x + w + 4].sum()
            assert around > 0.9 * grid.sum(), (model, n)
    assert "no such box" in ask(server, "masks", picture, "explain=1&box=3")[1]["error"]
    assert "keypoints" in ask(server, "masks", picture, "explain=1&point=0")[1]["error"]
    assert "there are 2" in ask(server, "points", picture, "explain=1&point=2")[1]["error"]


def test_a_point_is_explained_by_what_moves_it(server):
    x = np.zeros((64, 64, 3), np.uint8)
    x[16:24, 16:24, 0], x[16:24, 48:56, 0] = 255, 255
    x[36:44, 16:24, 1], x[36:44, 48:56, 1] = 255, 255  # two rows below: the second point goes there, and away when it is covered
    picture = png(x)
    found = ask(server, "points", picture, "")[1]["detections"]
    assert len(found) == 2
    for n, d in enumerate(found):
        half = slice(0, 8) if d["box"][0] < 32 else slice(8, 16)
        maps = [explain(server, "points", picture, f"box={n}&point={p}&passes=256")[1] for p in (0, 1)]
        for grid in maps:
            assert grid[:, half].sum() > 0.95 * grid.sum()
        low = [grid[8:].sum() / grid.sum() for grid in maps]
        assert low[0] < 0.05 and low[1] > 0.3, low


@pytest.mark.parametrize("kind", ["instance", "panoptic"])
def test_segments_are_explained_by_their_masks(server, kind):
    x = np.zeros((32, 64, 3), np.uint8)
    x[8:24, 6:18], x[8:24, 46:58] = (255, 0, 0), (0, 0, 255)
    found = ask(server, kind, png(x), "")[1]["segmentation"]["segments"]
    assert sorted(s["label"] for s in found) == ["blue", "ground", "red"]
    for n, s in enumerate(found):
        if s["label"] == "ground":
            continue
        e, grid, _ = explain(server, kind, png(x), f"box={n}")
        assert (e["label"], e["index"], e["method"]) == (s["label"], s["index"], "occlusion") and abs(e["score"] - s["score"]) < 1e-6
        assert grid[:, slice(0, 8) if s["label"] == "red" else slice(8, 16)].sum() > 0.9 * grid.sum()
        assert explain(server, kind, png(x), f"class={s['index']}")[0]["index"] == s["index"]
    assert "no such segment" in ask(server, kind, png(x), "explain=1&box=3")[1]["error"]


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
    ("segments", "explain=1&class=9", "no pixel"), ("gemm", "explain=1&point=-1", "from 0"), ("reds", "explain=1&box=7", "no such box"), ("depth", "explain=1", "only classifiers, detectors")])
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


def test_of_two_found_things_the_asked_one_lights_up(onnxd, root, tmp_path):
    shared = root.parent / "shared"
    if not (shared / "models").is_dir() or not (shared / "images").is_dir():
        pytest.skip("../shared with the demonstration models and photographs is not there")
    subprocess.run([sys.executable, str(root / "tools/make_models.py"), "--source", str(shared / "models"), str(tmp_path)], check=True, capture_output=True)
    two = Image.new("RGB", (960, 480), (120, 120, 120))
    two.paste(Image.open(shared / "images" / "bus.jpg").convert("RGB").resize((480, 480)), (0, 0))
    two.paste(Image.open(shared / "images" / "portrait.jpg").convert("RGB").resize((360, 480)), (540, 0))
    with served.Server(onnxd, tmp_path) as s:
        found = ask(s, "FastestDet", png(np.asarray(two)), "")[1]["detections"]
        bus = next(n for n, d in enumerate(found) if d["label"] == "bus")
        person = next(n for n, d in enumerate(found) if d["label"] == "person" and d["box"][0] > 480)
        for n, half in ((bus, slice(0, 8)), (person, slice(8, 16))):
            for method in ("occlusion", "rise"):
                e, grid, _ = explain(s, "FastestDet", png(np.asarray(two)), f"box={n}&method={method}&passes={100 if method == 'occlusion' else 300}")
                assert e["label"] == found[n]["label"]
                assert grid[:, half].sum() > 0.7 * grid.sum(), (method, e["label"], grid[:, half].sum() / grid.sum())
