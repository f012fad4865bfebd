"""The demonstration models: `onnxd predict` against ONNX Runtime, Pillow and numpy, written from the models' papers.

Scores within 0.02, boxes IoU >= 0.95, mask IoU >= 0.97; `make models` must be able to make them."""
import base64
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ort = pytest.importorskip("onnxruntime")
SHARED = "shared"


@pytest.fixture(scope="module")
def shared(root):
    folder = root.parent / SHARED
    if not (folder / "models").is_dir():
        pytest.skip(f"{folder}/models is not there: no trained models")
    return folder


@pytest.fixture(scope="module")
def demo(root, shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run([sys.executable, root / "tools" / "make_models.py", "--source", shared / "models", folder], check=True)
    return folder


def predict(onnxd, demo, name, image, *flags):
    done = subprocess.run([onnxd, "predict", demo / name / "model.onnx", image, "--json", *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pixels(path, width, height, bgr=False, how=Image.BILINEAR):
    picture = Image.open(path).convert("RGB")
    x = np.asarray(picture.resize((width, height), how), np.float32)
    return picture.size, x[..., ::-1] if bgr else x


def run(model, x):
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32)}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed)))


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def nms(boxes, limit):
    kept = []
    for box in sorted(boxes, key=lambda b: -b[1]):
        if all(k[0] != box[0] or iou(k[2], box[2]) <= limit for k in kept):
            kept.append(box)
    return kept


def same_boxes(got, want):
    """`want`: (class, score, corners), best first."""
    assert len(got) == len(want)
    for g, (label, score, corners) in zip(got, want):
        x, y, w, h = g["box"]
        assert g["index"] == label
        assert abs(g["score"] - score) < 0.02
        assert iou((x, y, x + w, y + h), corners) >= 0.95


@pytest.mark.parametrize("image", ["bus", "people"])
def test_fastestdet_finds_what_the_reference_finds(onnxd, demo, shared, image):
    path = shared / "images" / f"{image}.jpg"
    size, x = pixels(path, 352, 352, bgr=True)
    out = run(shared / "models" / "FastestDet.onnx", x / 255)["758"][0]
    boxes = []
    for gy in range(22):
        for gx in range(22):
            p = out[:, gy, gx]
            label = int(np.argmax(p[5:]))
            score = p[0] ** 0.6 * p[5 + label] ** 0.4
            if score > 0.65:
                cx, cy = (gx + np.tanh(p[1])) / 22, (gy + np.tanh(p[2])) / 22
                w, h = 1 / (1 + np.exp(-p[3])), 1 / (1 + np.exp(-p[4]))
                corners = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, 1) * (size * 2)
                boxes.append((label, score, corners))
    got = predict(onnxd, demo, "FastestDet", path)["detections"]
    same_boxes(got, nms(boxes, 0.45))
    assert got[0]["label"] == {"bus": "bus", "people": "person"}[image]


def test_rfb_320_finds_five_faces(onnxd, demo, shared):
    path = shared / "images" / "faces.jpg"
    size, x = pixels(path, 320, 240)
    out = run(shared / "models" / "RFB-320.onnx", (x - 127) / 128)
    boxes = [(0, s, np.clip(b, 0, 1) * (size * 2)) for s, b in zip(out["scores"][0, :, 1], out["boxes"][0]) if s > 0.7]
    got = predict(onnxd, demo, "RFB-320", path)["detections"]
    same_boxes(got, nms(boxes, 0.3))
    assert len(got) == 5 and got[0]["label"] == "face"


def from_rle(mask):
    """COCO's compressed run lengths into a picture of booleans."""
    counts, text, at = [], mask["counts"].encode(), 0
    while at < len(text):
        x, shift = 0, 0
        while True:
            c = text[at] - 48
            at += 1
            x |= (c & 31) << shift
            shift += 5
            if not c & 32:
                if c & 16:
                    x -= 1 << shift
                break
        counts.append(x + counts[-2] if len(counts) > 2 else x)
    height, width = mask["size"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    assert len(flat) == width * height
    return flat.reshape(width, height).T


def fill(polygons, width, height):
    """Rings along pixel edges, by the even-odd rule: each vertical edge turns what lies to its right."""
    turned = np.zeros((height, width + 1), bool)
    for ring in polygons:
        points = list(zip(ring[::2], ring[1::2]))
        for (x, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
            assert x == x1 or y0 == y1
            turned[min(y0, y1):max(y0, y1), x] ^= True
    return np.logical_xor.accumulate(turned, axis=1)[:, :width]


def test_sinet_separates_the_person(onnxd, demo, shared):
    path = shared / "images" / "portrait.jpg"
    (width, height), x = pixels(path, 320, 320, bgr=True)
    x = (x - [102.890434, 111.25247, 126.91212]) / np.array([62.93292, 62.82138, 66.355705])
    person = run(shared / "models" / "SINet.onnx", x)["Softmax/1"][0, 1]
    want = np.asarray(Image.fromarray(person).resize((width, height), Image.BILINEAR)) > 0.5
    said = predict(onnxd, demo, "SINet", path)["segmentation"]
    assert said["size"] == [height, width]
    part = next(c for c in said["classes"] if c["label"] == "person")
    got = from_rle(part["mask"])
    assert (got & want).sum() / (got | want).sum() >= 0.97
    assert part["area"] == got.sum() and abs(part["share"] - 0.353) < 0.01

    polygons = predict(onnxd, demo, "SINet", path, "--mask", "polygon")["segmentation"]["classes"]
    assert (fill(next(c for c in polygons if c["index"] == 1)["polygons"], width, height) == got).all()
    png = predict(onnxd, demo, "SINet", path, "--mask", "png")["segmentation"]["png"]
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) == got).all()
    bare = predict(onnxd, demo, "SINet", path, "--mask", "none")["segmentation"]["classes"]
    assert all(set(c) == {"label", "index", "area", "share"} for c in bare)


@pytest.mark.parametrize("image", ["bus", "people", "faces", "portrait"])
def test_efficientnet_names_what_the_reference_names(onnxd, demo, shared, image):
    if not (demo / "EfficientNet-Lite0").is_dir():
        pytest.skip("the weights' package is not installed")
    path = shared / "images" / f"{image}.jpg"
    picture = Image.open(path).convert("RGB")
    w, h = picture.size
    size = (256, 256 * h // w) if w <= h else (256 * w // h, 256)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    x = np.asarray(picture.resize(size, Image.BICUBIC).crop((left, top, left + 224, top + 224)), np.float32)
    logits = run(demo / "EfficientNet-Lite0" / "model.onnx", (x - 127) / 128)["logits"][0]
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    got = predict(onnxd, demo, "EfficientNet-Lite0", path, "--top-k", "3")["classes"]
    assert [c["index"] for c in got] == np.argsort(-scores)[:3].tolist()
    assert all(abs(c["score"] - scores[c["index"]]) < 0.02 for c in got)
    if image == "bus":
        assert got[0]["label"] == "trolleybus"


def test_answers_are_small(onnxd, demo, shared):
    said = predict(onnxd, demo, "FastestDet", shared / "images" / "people.jpg", "--score-threshold", "0", "--max-detections", "20")
    assert len(said["detections"]) == 20 and len(json.dumps(said)) < 10000


def test_several_pictures_are_answered_by_line(onnxd, demo, shared):
    images = [str(shared / "images" / f"{n}.jpg") for n in ("bus", "people")]
    done = subprocess.run([onnxd, "predict", demo / "FastestDet" / "model.onnx", *images, "--json"], capture_output=True, text=True)
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == images


@pytest.mark.parametrize("flag, code, words", [
    (["--top-k", "0"], 2, "from 1 to"), (["--mask", "ascii"], 2, "none, rle, polygon, png"),
    (["--score-threshold", "2"], 2, "from 0 to 1"), (["--card", "/nowhere"], 1, "No such file")])
def test_impossible_flags_say_what_is_possible(onnxd, demo, shared, flag, code, words):
    done = subprocess.run([onnxd, "predict", demo / "SINet" / "model.onnx", shared / "images" / "bus.jpg", *flag],
                          capture_output=True, text=True)
    assert done.returncode == code and words in done.stderr
