"""Several crops of a picture: five or ten inputs, their mean, one answer. The reference cuts where torchvision's FiveCrop and
TenCrop do and sends the crops as tensors."""
import base64
import concurrent.futures
import io
import json
import pathlib
import sys
import time

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import numpy_helper
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "http"))
import served  # noqa: E402

SIDE, SHORTER = 32, 39  # margins of odd and of even extents
LABELS = [f"c{i}" for i in range(6)]
CARD = {"task": "classify", "decoder": "softmax", "labels": LABELS, "top_k": 6, "crops": 10,
        "preprocess": {"colors": "rgb", "fit": "crop", "width": SIDE, "height": SIDE, "shorter": SHORTER, "rescale": 1 / 255, "mean": 0.5, "std": 0.1}}
WEIGHTS = (np.random.default_rng(3).standard_normal((3 * SIDE * SIDE, 6)) / 40).astype(np.float32)
HEADS = [{"name": "first", "output": "y", "count": 2, "labels": ["a", "b"]}, {"name": "rest", "output": "y", "first": 2, "decoder": "sigmoid"}]


def flat(shape, nodes=(), last="y", out=6):
    w = numpy_helper.from_array(WEIGHTS, "w")
    rows = numpy_helper.from_array(np.array([-1 if shape[0] != 1 else 1, WEIGHTS.shape[0]]), "rows")
    graph = [*nodes, ("Reshape", [nodes[-1][2][0] if nodes else "x", "rows"], ["q"], {}), ("MatMul", ["q", "w"], [last], {})]
    return served.model(graph, [("x", T.FLOAT, shape)], [(last, T.FLOAT, [shape[0] if len(shape) == 4 else 1, out])], [w, rows])


def coupled():
    """Declares a batch, but each row depends on the others: rows may not be put together."""
    w, rows = numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.array([-1, WEIGHTS.shape[0]]), "rows")
    nodes = [("Reshape", ["x", "rows"], ["q"], {}), ("MatMul", ["q", "w"], ["z"], {}), ("ReduceSum", ["z"], ["y"], {"keepdims": 1, "axes": [0]})]
    return served.helper.make_model(served.helper.make_graph(
        [served.helper.make_node(op, i, o, **a) for op, i, o, a in nodes], "g", [served.helper.make_tensor_value_info("x", T.FLOAT, ["n", 3, SIDE, SIDE])],
        [served.helper.make_tensor_value_info("y", T.FLOAT, [1, 6])], [w, rows]), opset_imports=[served.helper.make_opsetid("", 11)], ir_version=8)


@pytest.fixture(scope="module")
def server(onnxd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    free, one = ["n", 3, SIDE, SIDE], [1, 3, SIDE, SIDE]
    longer = {k: v for k, v in CARD["preprocess"].items() if k != "shorter"}
    served.save(folder, "free", flat(free), CARD)
    served.save(folder, "fixed", flat(one), CARD)
    served.save(folder, "fours", flat(free), {**CARD, "batching": {"max_batch_size": 4}})
    served.save(folder, "coupled", coupled(), CARD)
    served.save(folder, "bare", flat([3, SIDE, SIDE]), CARD)  # of three extents
    served.save(folder, "last", flat(["n", SIDE, SIDE, 3], [("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]})]), {**CARD, "layout": "nhwc"})
    served.save(folder, "heads", flat(free), {k: v for k, v in {**CARD, "heads": HEADS}.items() if k != "labels"})
    served.save(folder, "single", flat(free), {k: v for k, v in CARD.items() if k != "crops"})
    served.save(folder, "stretch", flat(free), {**{k: v for k, v in CARD.items() if k != "crops"}, "preprocess": {**longer, "fit": "stretch"}})
    served.save(folder, "embed", flat(free), {"task": "embed", "preprocess": CARD["preprocess"]})
    served.save(folder, "longer", flat(free), {**CARD, "preprocess": {**longer, "longer": SIDE}})
    served.save(folder, "finder", served.red_finder(), {**served.RED_CARD, "then": [{"model": "free", "margin": 1}]})
    with served.Server(onnxd, folder) as s:
        yield s


def noise(seed=0, size=(61, 45)):
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.BICUBIC)


def png(picture):
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def cut(picture):
    """The ten crops [10, 3, SIDE, SIDE]."""
    w, h = picture.size
    size = (SHORTER, int(SHORTER * h / w)) if w <= h else (int(SHORTER * w / h), SHORTER)
    x = np.asarray(picture.resize(size, Image.BILINEAR), np.float32)
    crops = []
    for view in (x, x[:, ::-1]):
        dy, dx = x.shape[0] - SIDE, x.shape[1] - SIDE
        for top, left in ((0, 0), (0, dx), (dy, 0), (dy, dx), (round(dy / 2), round(dx / 2))):
            crops.append(view[top:top + SIDE, left:left + SIDE])
    return ((np.stack(crops) / 255 - 0.5) / 0.1).transpose(0, 3, 1, 2).astype(np.float32)


def logits(server, crops):
    status, answer = server.json("POST", "/v2/models/free/infer", served.infer_json("x", "FP32", crops.shape, crops.ravel().tolist()))
    assert status == 200, answer
    return np.array(answer["outputs"][0]["data"]).reshape(-1, 6)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def ask(server, model, picture, query=""):
    return server.json("POST", f"/v2/models/{model}/predict?{query}", png(picture), {"Content-Type": "image/png"})


def scores(server, model, picture, query=""):
    status, answer = ask(server, model, picture, query)
    assert status == 200, answer
    return {c["index"]: c["score"] for c in answer["classes"]}


def counted(server, model):
    return server.json("GET", f"/v2/models/{model}/stats")[1]["model_stats"][0]


@pytest.mark.parametrize("model", ["free", "fixed", "fours", "coupled", "bare", "last"])
def test_the_answer_is_the_mean_of_the_crops(server, model):
    for seed, size in ((1, (61, 45)), (2, (45, 62)), (3, (50, 50))):
        picture = noise(seed, size)
        x = logits(server, cut(picture))
        assert np.ptp(softmax(x).max(1)) > 0.1, "crops that are all alike show nothing"
        for query, want in (("", softmax(x).mean(0)), ("crops=5", softmax(x[:5]).mean(0)), ("crops=1", softmax(x[4])),
                            ("crop_mean=outputs", softmax(x.mean(0))), ("crops=5&crop_mean=outputs", softmax(x[:5].mean(0))),
                            ("crops=10&crop_mean=scores", softmax(x).mean(0))):
            got = scores(server, model, picture, query)
            assert np.abs(np.array([got[i] for i in range(6)]) - want).max() < 2e-3, (model, query)
            assert list(got) == sorted(got, key=lambda i: -got[i])


def test_heads_are_means_too(server):
    picture = noise(4)
    x = logits(server, cut(picture))
    answer = ask(server, "heads", picture)[1]["heads"]
    first, rest = softmax(x[:, :2]).mean(0), (1 / (1 + np.exp(-x[:, 2:]))).mean(0)
    for got, want, labels in ((answer["first"], first, ["a", "b"]), (answer["rest"], rest, [None] * 4)):
        assert all(abs(c["score"] - want[c["index"]]) < 2e-3 and c["label"] == labels[c["index"]] for c in got) and len(got) == len(want)


def test_several_pictures_have_an_answer_each(server):
    pictures = [noise(s) for s in range(5, 9)]
    body = {"images": [base64.b64encode(png(p)).decode() for p in pictures], "parameters": {"crops": 5}}
    status, answer = server.json("POST", "/v2/models/free/predict", body, {"Content-Type": "application/json"})
    assert status == 200 and len(answer["results"]) == 4
    for p, r in zip(pictures, answer["results"]):
        want = softmax(logits(server, cut(p)[:5])).mean(0)
        assert all(abs(c["score"] - want[c["index"]]) < 2e-3 for c in r["classes"])


@pytest.mark.parametrize("model, runs", [("free", 1), ("fours", 3), ("fixed", 10), ("coupled", 10)])
def test_rows_and_runs_are_counted(server, model, runs):
    before = counted(server, model)
    scores(server, model, noise(10), "crops=10")
    after = counted(server, model)
    assert after["inference_count"] - before["inference_count"] == 10
    assert after["execution_count"] - before["execution_count"] == runs


def test_crops_of_what_a_detector_found_are_those_of_the_cut(server):
    picture = Image.open(io.BytesIO(served.coloured_picture())).convert("RGB")
    picture.paste(noise(11, (200, 100)), (20, 20))
    found = ask(server, "finder", picture, "score_threshold=0.01")[1]["detections"]
    assert len(found) > 2
    for d in found[:4]:
        x, y, w, h = d["box"]
        part = picture.crop((max(0, int(np.floor(x - w))), max(0, int(np.floor(y - h))), min(256, int(np.ceil(x + 2 * w))), min(256, int(np.ceil(y + 2 * h)))))
        alone = ask(server, "free", part)[1]["classes"]
        assert [c["index"] for c in d["then"]["free"]["classes"]] == [c["index"] for c in alone]
        assert all(abs(a["score"] - b["score"]) < 1e-6 for a, b in zip(alone, d["then"]["free"]["classes"]))


def test_what_is_explained_is_the_centre_crop_and_the_answers_class(server):
    picture = noise(12)
    for method in ("occlusion", "rise"):
        status, whole = ask(server, "free", picture, f"explain=1&method={method}&passes=36")
        e, best = whole["explanation"], whole["classes"][0]
        assert (e["index"], e["label"]) == (best["index"], best["label"]) and abs(e["score"] - best["score"]) < 1e-6
        alone = ask(server, "single", picture, f"explain=1&method={method}&passes=36&class={e['index']}")[1]["explanation"]
        np.testing.assert_allclose(e["grid"], alone["grid"], atol=2e-3)


def test_an_encoded_picture_among_tensors_is_its_centre(server):
    body = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(png(noise(13))) + 4}}]}
    head = json.dumps(body).encode()
    data = head + len(png(noise(13))).to_bytes(4, "little") + png(noise(13))
    status, _, answer = server.ask("POST", "/v2/models/free/infer", data, {"Inference-Header-Content-Length": str(len(head))})
    assert status == 200, answer
    np.testing.assert_allclose(json.loads(answer)["outputs"][0]["data"], logits(server, cut(noise(13))[4:5])[0], atol=2e-2)


@pytest.mark.parametrize("model, query, words", [
    ("free", "crops=3", "1, 5, 10"), ("free", "crop_mean=median", "scores, outputs"), ("stretch", "crops=5", "'fit' is crop"),
    ("embed", "crops=5", "for classifiers"), ("longer", "", "larger than the resized picture")])
def test_crops_that_cannot_be_are_refused(server, model, query, words):
    status, answer = ask(server, model, noise(14), query)
    assert status == 400 and words in answer["error"], answer


def test_deadlines_and_departures_hold_between_runs(onnxd, tmp_path):
    """A model of tens of milliseconds with a batch of one: ten runs are not made when the time is over or nobody waits."""
    w = numpy_helper.from_array(np.eye(192, dtype=np.float32), "w")
    rows = numpy_helper.from_array(np.array([1, 16, 192]), "rows")
    nodes = [("Reshape", ["x", "rows"], ["h0"], {})] + [("MatMul", [f"h{k}", "w"], [f"h{k + 1}"], {}) for k in range(2500)]
    nodes += [("ReduceMean", ["h2500"], ["y"], {"axes": [1], "keepdims": 0})]
    served.save(tmp_path, "slow", served.model(nodes, [("x", T.FLOAT, [1, 3, SIDE, SIDE])], [("y", T.FLOAT, [1, 192])], [w, rows]),
                {k: v for k, v in CARD.items() if k != "labels"})
    with served.Server(onnxd, tmp_path) as s:
        begin = time.monotonic()
        assert ask(s, "slow", noise(15))[0] == 200
        ten = time.monotonic() - begin
        runs = counted(s, "slow")["execution_count"]
        body = png(noise(15))
        with s.connect() as wire:  # goes away after the first of ten runs or so
            wire.send(served.post("/v2/models/slow/predict", body, content_type="image/png"))
            time.sleep(ten / 8)
        time.sleep(ten * 1.5)
        assert counted(s, "slow")["execution_count"] - runs < 10
    with served.Server(onnxd, tmp_path, "--request-timeout", max(1, int(ten * 400))) as s:
        status, answer = ask(s, "slow", noise(15))
        assert status in (503, 504), answer
        assert counted(s, "slow")["execution_count"] < 10


def test_many_at_a_time_each_get_their_own(server):
    asked = [(seed, crops) for seed in range(20, 26) for crops in (1, 5, 10)]
    want = {(s, c): scores(server, "free", noise(s), f"crops={c}") for s, c in asked}
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for key, got in pool.map(lambda k: (k, scores(server, "free", noise(k[0]), f"crops={k[1]}")), asked * 4):
            assert all(abs(got[i] - want[key][i]) < 1e-5 for i in got)
