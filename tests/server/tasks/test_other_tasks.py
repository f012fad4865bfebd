"""Poses, embeddings, pictures out, segmentation's variants: models with constant outputs, references in numpy."""
import base64
import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "http"))
import served  # noqa: E402
from test_decoders import f32, from_rle, save_model


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


def bell(x, y, sx, sy, turn, shape=(48, 32)):
    """A heat map with its peak at a fraction of a place."""
    v, u = np.mgrid[:shape[0], :shape[1]]
    return np.exp(-(((u - x) / sx) ** 2 + ((v - y) / sy) ** 2 - 2 * turn * (u - x) * (v - y) / sx / sy) / 2 / (1 - turn ** 2))


def smoothed(x, kernel, sigma, mode):
    d = np.arange(kernel) - kernel // 2
    g = np.exp(-d ** 2 / (2 * (sigma or 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8) ** 2))
    padded = np.pad(x, kernel // 2, mode=mode)
    padded = np.apply_along_axis(np.convolve, 0, padded, g / g.sum(), "valid")
    return np.apply_along_axis(np.convolve, 1, padded, g / g.sum(), "valid")


def refined(heat, udp, kernel=11, sigma=0, mode="reflect"):
    """The papers' one Newton step, whole maps at a time."""
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    if not udp and not (1 < x < heat.shape[1] - 2 and 1 < y < heat.shape[0] - 2):
        return np.array([x, y], float)
    level = np.log(np.clip(smoothed(heat, kernel, sigma, mode if udp else "constant"), *((1e-3, 50) if udp else (1e-10, None))))
    level = np.pad(level, 2, mode="edge")
    y, x = y + 2, x + 2
    gradient = np.array([level[y, x + 1] - level[y, x - 1], level[y + 1, x] - level[y - 1, x]]) / 2
    s, f = (1, 1) if udp else (2, 0.25)
    xx = f * (level[y, x + s] - 2 * level[y, x] + level[y, x - s])
    yy = f * (level[y + s, x] - 2 * level[y, x] + level[y - s, x])
    if udp:
        xy = (level[y + 1, x + 1] - level[y, x + 1] - level[y + 1, x] + 2 * level[y, x] - level[y, x - 1] - level[y - 1, x] + level[y - 1, x - 1]) / 2
    else:
        xy = (level[y + 1, x + 1] - level[y - 1, x + 1] - level[y + 1, x - 1] + level[y - 1, x - 1]) / 4
    return np.array([x - 2, y - 2]) - np.linalg.solve([[xx, xy], [xy, yy]], gradient)


@pytest.mark.parametrize("decoder, parameters", [("heatmap-dark", {}), ("heatmap-dark", {"kernel": 17, "sigma": 2.5}), ("heatmap-udp", {}),
                                                 ("heatmap-udp", {"sigma": 0.8, "edge_twice": 1, "align_corners": 1})])
def test_peaks_between_places(onnxd, tmp_path, rng, decoder, parameters):
    peaks = [(12.3, 20.8), (5.55, 30.2), (25.75, 9.4), (0.3, 20.2), (30.8, 46.7), (1.4, 1.6)]
    heat = np.stack([bell(x, y, *rng.uniform(1.8, 3, 2), rng.uniform(-0.3, 0.3)) + rng.uniform(0, 0.02, (48, 32)) for x, y in peaks])
    got = predict(onnxd, tmp_path, {"heat": f32(heat[None])}, task="pose", decoder=decoder, parameters=parameters, size=(320, 480))["keypoints"]
    udp = decoder == "heatmap-udp"
    mode = "symmetric" if "edge_twice" in parameters else "reflect"
    corner = parameters.get("align_corners", 0)
    for k, g in enumerate(got):
        want = refined(heat[k], udp, parameters.get("kernel", 11), parameters.get("sigma", 0), mode)
        to = np.array([63, 63]) / [31, 47] if corner else np.array([64, 64]) / [32, 48]
        assert np.allclose(g["point"], want * to * np.array([5, 7.5]), atol=0.03), (k, peaks[k])
        if k < 3:
            assert np.abs(want - peaks[k]).max() < 0.1 and abs(g["score"] - heat[k].max()) < 1e-5


@pytest.mark.parametrize("parameters", [{"kernel": 4}, {"kernel": 99}, {"sigma": -1}])
def test_kernels_that_cannot_be_are_refused(onnxd, tmp_path, parameters):
    save_model(tmp_path, {"heat": np.zeros((1, 2, 8, 8), np.float32)})
    (tmp_path / "model.json").write_text(json.dumps({"task": "pose", "decoder": "heatmap-udp", "parameters": parameters}))
    done = subprocess.run([onnxd, "inspect", tmp_path / "model.onnx", "--card"], capture_output=True, text=True)
    assert done.returncode == 1 and "'kernel'" in done.stderr


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


def floats(said):
    flat = f32(said["data"]) if "data" in said else np.frombuffer(base64.b64decode(said["base64"]), "<f4")
    assert said["datatype"] == "FP32"
    return flat.reshape(said["shape"])


@pytest.mark.parametrize("form", ["floats", "base64"])
def test_pictures_and_vectors_come_as_numbers(onnxd, tmp_path, rng, form):
    def ask(x, **card):
        return predict(onnxd, tmp_path, {"out": x}, "--format", form, **card)

    x = f32(rng.normal(size=(1, 3, 20, 30)))
    got = ask(x, task="image", decoder="picture", parameters={"scale": 9})["image"]  # of the PNG's levels
    assert got["size"] == [20, 30] and "png" not in got and np.array_equal(floats(got), x[0].transpose(1, 2, 0))
    swapped = ask(x, task="image", decoder="picture", preprocess={"fit": "stretch", "colors": "bgr"})["image"]
    assert np.array_equal(floats(swapped), x[0, ::-1].transpose(1, 2, 0))
    gray = ask(x[:, :1], task="image", decoder="picture")["image"]
    assert gray["shape"] == [20, 30] and np.array_equal(floats(gray), x[0, 0])
    boxed = {"fit": "letterbox", "centered": True, "enlarge": True}
    side = f32(rng.normal(size=(1, 3, 64, 64)))
    inside = ask(side, task="image", decoder="picture", preprocess=boxed, size=(100, 50))["image"]  # without the padding
    assert np.array_equal(floats(inside), side[0, :, 16:48].transpose(1, 2, 0))
    deep = f32(rng.uniform(1000, 1000.5, (1, 8, 16)))
    got = ask(deep, task="image", decoder="depth", size=(160, 120))["image"]
    large = np.asarray(Image.fromarray(deep[0]).resize((160, 120), Image.BILINEAR))
    assert got["shape"] == [120, 160] and np.abs(floats(got) - large).max() < 1e-3 and abs(got["least"] - deep.min()) < 1e-3
    vector = f32(rng.normal(size=(1, 8)))
    got = ask(vector, task="embed", parameters={"normalize": 0})["embedding"]
    assert np.array_equal(floats(got) if form == "base64" else f32(got), vector[0])


def test_a_server_gives_a_picture_in_each_form(onnxd, tmp_path, rng):
    """Negatives: /predict as PNG and numbers, /infer as binary tensors."""
    one = onnx.numpy_helper.from_array(f32(1), "one")
    served.save(tmp_path, "negative", served.model([("Sub", ["one", "x"], ["y"], {})], [("x", served.T.FLOAT, ["n", 3, 24, 32])], [("y", served.T.FLOAT, ["n", 3, 24, 32])], [one]),
                {"task": "image", "decoder": "picture", "preprocess": {"fit": "stretch", "rescale": 1 / 255}})
    pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    with served.Server(onnxd, tmp_path) as s:
        def ask(query, body=out.getvalue(), kind="image/png"):
            status, said = s.json("POST", f"/v2/models/negative/predict{query}", body, {"Content-Type": kind})
            assert status == 200, said
            return said
        assert np.array_equal(decoded(ask("")["image"]["png"]), 255 - pixels) and np.array_equal(decoded(ask("?format=png")["image"]["png"]), 255 - pixels)
        for form in ("floats", "base64"):
            assert np.abs(floats(ask(f"?format={form}")["image"]) - (1 - pixels / 255)).max() < 1e-6
        both = ask("", {"images": [base64.b64encode(out.getvalue()).decode()] * 2, "parameters": {"format": "base64"}}, "application/json")["results"]
        assert np.array_equal(floats(both[0]["image"]), floats(both[1]["image"]))
        head = json.dumps({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(out.getvalue()) + 4}}],
                           "parameters": {"binary_data_output": True}}).encode()
        status, headers, body = s.ask("POST", "/v2/models/negative/infer", head + len(out.getvalue()).to_bytes(4, "little") + out.getvalue(),
                                      {"Inference-Header-Content-Length": str(len(head))})
        raw = np.frombuffer(body[int(headers["inference-header-content-length"]):], "<f4").reshape(3, 24, 32)
        assert status == 200 and np.abs(raw.transpose(1, 2, 0) - (1 - pixels / 255)).max() < 1e-6


@pytest.mark.parametrize("form, card, words", [("png", {"task": "embed"}, "floats and base64"), ("floats", {"task": "classify"}, "pictures or vectors"),
                                               ("tiff", {"task": "embed"}, "png, floats, base64")])
def test_forms_that_cannot_be_are_refused(onnxd, tmp_path, rng, form, card, words):
    save_model(tmp_path, {"out": f32(rng.normal(size=(1, 8)))})
    (tmp_path / "model.json").write_text(json.dumps({"preprocess": {"fit": "stretch"}, **card}))
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    done = subprocess.run([onnxd, "predict", tmp_path / "model.onnx", tmp_path / "picture.png", "--format", form], capture_output=True, text=True)
    assert done.returncode and words in done.stderr


def test_lines_of_text_tell_of_pictures_and_vectors(onnxd, tmp_path, rng):
    for outputs, card, words in (({"out": f32(rng.normal(size=(1, 8)))}, {"task": "embed"}, "a vector of 8 numbers"),
                                 ({"out": f32(rng.normal(size=(1, 3, 20, 30)))}, {"task": "image", "decoder": "picture"}, "a picture of 30 x 20")):
        save_model(tmp_path, outputs)
        (tmp_path / "model.json").write_text(json.dumps({"preprocess": {"fit": "stretch"}, **card}))
        Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
        done = subprocess.run([onnxd, "predict", tmp_path / "model.onnx", tmp_path / "picture.png"], capture_output=True, text=True)
        assert done.returncode == 0 and words in done.stdout and len(done.stdout.splitlines()) == 2, done.stdout


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


def enlarged(maps, width, height):
    return np.stack([np.asarray(Image.fromarray(f32(m)).resize((width, height), Image.BILINEAR)) for m in maps])


def queries(rng, n=14):
    """Logits of four classes and nothing, and of smooth masks that hold about half of the picture."""
    classes = rng.normal(size=(n, 5)) * 3
    masks = enlarged(rng.normal(size=(n, 4, 4)) * 4, 16, 16)
    return classes, masks, np.exp(classes) / np.exp(classes).sum(-1, keepdims=True)


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("enlarge", [None, [96, 96]])
def test_instances_of_queries_are_pairs_of_query_and_class(onnxd, tmp_path, rng, enlarge):
    classes, masks, p = queries(rng)
    card = {"parameters": {"enlarge": enlarge}} if enlarge else {}
    outputs = {"c": f32(classes[None]), "m": f32(masks[None])}
    got = predict(onnxd, tmp_path, outputs, "--score-threshold", "0.2", task="segment", decoder="maskformer-instance", size=(160, 120), **card)
    got = got["segmentation"]["segments"]
    large = enlarged(masks, 96, 96) if enlarge else masks
    want = []
    for at in np.argsort(-p[:, :-1].ravel())[:len(p)]:
        q, c = divmod(at, 4)
        on = large[q] > 0
        score = p[q, c] * (1 / (1 + np.exp(-large[q][on]))).mean()
        if score >= 0.2:
            rows, columns = np.arange(120) * on.shape[0] // 120, np.arange(160) * on.shape[1] // 160
            want.append((score, c, on[rows][:, columns]))
    want.sort(key=lambda w: -w[0])
    assert len(got) == len(want) > 5
    for i, (g, (score, c, on)) in enumerate(zip(got, want)):
        assert g["id"] == i + 1 and g["index"] == c and abs(g["score"] - score) < 1e-3
        assert g["area"] == from_rle(g["mask"]).sum() and overlap(from_rle(g["mask"]), on) > 0.98
    png = predict(onnxd, tmp_path, outputs, "--score-threshold", "0.2", "--mask", "png", task="segment", decoder="maskformer-instance",
                  size=(160, 120), **card)["segmentation"]["png"]
    top = np.zeros((120, 160), int)
    for i, (_, _, on) in reversed(list(enumerate(want))):
        top[on] = i + 1
    assert (decoded(png) == top).mean() > 0.98


@pytest.mark.parametrize("fuse", [[], [0, 2]])
def test_panoptic_maps_give_each_pixel_to_one_query(onnxd, tmp_path, rng, fuse):
    classes, masks, p = queries(rng)
    outputs = {"c": f32(classes[None]), "m": f32(masks[None])}
    keys = {"task": "segment", "decoder": "maskformer-panoptic", "size": (160, 120),
            "parameters": {"label_ids_to_fuse": fuse, "overlap_mask_area_threshold": 0.3, "mask_threshold": 0.4}}
    got = predict(onnxd, tmp_path, outputs, "--score-threshold", "0.35", **keys)["segmentation"]["segments"]
    kept = [q for q in range(len(p)) if p[q].argmax() < 4 and p[q].max() > 0.35]
    weighed = enlarged(1 / (1 + np.exp(-masks[kept])), 160, 120) * p[kept].max(-1)[:, None, None]
    owner, want = weighed.argmax(0), []
    for k, q in enumerate(kept):
        own, label = owner == k, p[q].argmax()
        if not own.any() or own.sum() / max((weighed[k] >= 0.4).sum(), 1) <= 0.3:
            continue
        same = [w for w in want if w[0] == label and label in fuse]
        if same:
            same[0][1] |= own
            same[0][2] = max(same[0][2], p[q].max())
        else:
            want.append([label, own.copy(), p[q].max()])
    want.sort(key=lambda w: -w[1].sum())
    assert len(got) == len(want) >= 3
    for g in got:
        best = max(want, key=lambda w: overlap(from_rle(g["mask"]), w[1]))
        assert overlap(from_rle(g["mask"]), best[1]) > 0.98 and g["index"] == best[0] and abs(g["score"] - best[2]) < 1e-3
    areas = [g["area"] for g in got]
    assert areas == sorted(areas, reverse=True) and [g["id"] for g in got] == list(range(1, len(got) + 1))
    png = decoded(predict(onnxd, tmp_path, outputs, "--score-threshold", "0.35", "--mask", "png", **keys)["segmentation"]["png"])
    assert all((png == g["id"]).sum() == g["area"] for g in got)
    if fuse:
        assert len({g["index"] for g in got if g["index"] in fuse}) == len([g for g in got if g["index"] in fuse])


def test_nothing_found_is_an_empty_list(onnxd, tmp_path, rng):
    classes, masks, _ = queries(rng)
    classes[:, 4] += 50
    for decoder in ("maskformer-instance", "maskformer-panoptic"):
        got = predict(onnxd, tmp_path, {"c": f32(classes[None]), "m": f32(masks[None])}, task="segment", decoder=decoder)
        assert got["segmentation"] == {"size": [128, 128], "segments": []}


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def test_heads_are_lists_by_name(onnxd, tmp_path, rng):
    age, attributes = rng.normal(size=(1, 4)), rng.normal(size=(1, 7))
    heads = [{"name": "age", "output": "a", "labels": ["child", "youth", "adult", "old"]},
             {"name": "hair", "output": "b", "first": 1, "count": 3, "labels": ["black", "fair", "red"]},
             {"name": "worn", "output": "b", "first": 4, "decoder": "sigmoid"}]
    got = predict(onnxd, tmp_path, {"a": f32(age), "b": f32(attributes)}, task="classify", heads=heads)
    assert "classes" not in got and list(got["heads"]) == ["age", "hair", "worn"]
    want = {"age": softmax(age[0]), "hair": softmax(attributes[0, 1:4]), "worn": 1 / (1 + np.exp(-attributes[0, 4:]))}
    for head in heads:
        scores, said = want[head["name"]], got["heads"][head["name"]]
        assert [c["index"] for c in said] == list(np.argsort(-scores)[:5])
        assert all(abs(c["score"] - scores[c["index"]]) < 1e-5 for c in said)
        assert all(c["label"] == (head["labels"][c["index"]] if "labels" in head else None) for c in said)
    card = json.loads(subprocess.run([onnxd, "inspect", tmp_path / "model.onnx", "--card"], capture_output=True, text=True, check=True).stdout)
    (tmp_path / "model.json").write_text(json.dumps(card))
    again = subprocess.run([onnxd, "predict", tmp_path / "model.onnx", tmp_path / "picture.png", "--json"], capture_output=True, text=True)
    assert json.loads(again.stdout) == got


@pytest.mark.parametrize("heads, said", [
    ([{"name": "a", "output": "c"}], "'output'"), ([{"output": "a"}], "'name'"), ([{"name": "a"}, {"name": "a"}], "twice"),
    ([{"name": "a", "output": "a", "first": 2, "count": 3}], "3 classes from 2 on of 4"), ([], "'heads'"),
    ([{"name": "a", "labels": ["one"]}], "'labels' are 1"), ([{"name": "a", "decoder": "argmax"}], "argmax")])
def test_heads_that_are_not_there_are_refused(onnxd, tmp_path, rng, heads, said):
    save_model(tmp_path, {"a": f32(rng.normal(size=(1, 4)))})
    (tmp_path / "model.json").write_text(json.dumps({"task": "classify", "heads": heads, "preprocess": {"fit": "stretch"}}))
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    done = subprocess.run([onnxd, "predict", tmp_path / "model.onnx", tmp_path / "picture.png"], capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr, done.stderr


def save_with_second(folder, kind, shape):
    """The sum of a second input's numbers, as many classes as it has rows."""
    import onnx
    from onnx import TensorProto, helper
    nodes = [helper.make_node("Cast", ["more"], ["f"], to=TensorProto.FLOAT), helper.make_node("ReduceSum", ["f", "axes"], ["out"], keepdims=0)]
    graph = helper.make_graph(nodes, "sums", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 8, 8]),
                                              helper.make_tensor_value_info("more", kind, shape)],
                              [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3])], [onnx.numpy_helper.from_array(np.array([2]), "axes")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")


@pytest.mark.parametrize("kind, shape", [(1, [1, 3, 2]), (7, ["n", 3, "k"]), (6, [1, 3, "k"])])
def test_constants_fill_inputs_beside_the_picture(onnxd, tmp_path, kind, shape):
    save_with_second(tmp_path, kind, shape)
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    card = {"task": "classify", "decoder": "probabilities", "constants": {"more": [1, 2, 30, 40, 5, 6]}, "preprocess": {"fit": "stretch"}}
    (tmp_path / "model.json").write_text(json.dumps(card))
    for _ in range(2):
        done = subprocess.run([onnxd, "predict", tmp_path / "model.onnx", tmp_path / "picture.png", "--json"], capture_output=True, text=True)
        assert [(c["index"], c["score"]) for c in json.loads(done.stdout)["classes"]] == [(1, 70), (2, 11), (0, 3)], done.stderr
        shown = subprocess.run([onnxd, "inspect", tmp_path / "model.onnx", "--card"], capture_output=True, text=True, check=True).stdout
        (tmp_path / "model.json").write_text(shown)  # and it can be saved


@pytest.mark.parametrize("constants, said", [({"more": [1, 2, 3, 4]}, "4 numbers"), ({"less": [1]}, "no input 'less'"), ({"pixels": [1]}, "takes the picture"),
                                             ({"more": []}, "0 numbers"), ({"more": [1e300] * 6}, "1e+300"), ({"more": "six"}, "a number or an array"),
                                             ({}, "nothing gives it")])
def test_constants_that_do_not_fit_are_refused(onnxd, tmp_path, constants, said):
    save_with_second(tmp_path, 7, [1, 3, "k"])
    (tmp_path / "model.json").write_text(json.dumps({"task": "classify", "constants": constants, "preprocess": {"fit": "stretch"}}))
    done = subprocess.run([onnxd, "inspect", tmp_path / "model.onnx", "--card"], capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr, done.stderr
