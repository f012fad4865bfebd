"""Each detector's decoder against numpy, on outputs made up here: the formulas are from the papers and the authors'
documentation. A model gives constant outputs, whatever the picture."""
import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 64  # of the model's input; the picture is twice as wide and as high as the input


def save_model(folder, outputs, metadata=None, side=SIDE, batch=(1,)):
    nodes, infos, weights = [], [], []
    for name, array in outputs.items():
        weights.append(numpy_helper.from_array(array, name + "_value"))
        nodes.append(helper.make_node("Identity", [name + "_value"], [name]))
        infos.append(helper.make_tensor_value_info(name, weights[-1].data_type, array.shape))
    graph = helper.make_graph(nodes, "constant", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [*batch, 3, side, side])],
                              infos, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, folder / "model.onnx")


def predict(onnxd, folder, outputs, card=None, metadata=None, flags=(), side=SIDE, batch=(1,)):
    save_model(folder, outputs, metadata, side, batch)
    Image.new("RGB", (2 * side, 2 * side)).save(folder / "picture.png")
    if card:
        (folder / "model.json").write_text(json.dumps({"task": "detect", "preprocess": {"fit": "stretch"}, **card}))
    done = subprocess.run([onnxd, "predict", folder / "model.onnx", folder / "picture.png", "--json", *flags],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["detections"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both and both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def around(cx, cy, w, h):
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def same(got, boxes, scores, labels, threshold=0.25, iou_limit=0.45, most=100, nms=True, side=SIDE):
    """Corner boxes in pixels of the input, all of them: thresholds and suppression are done here."""
    order = sorted((i for i in range(len(scores)) if scores[i] > threshold), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if not nms or all(labels[k] != labels[i] or iou(boxes[k], boxes[i]) <= iou_limit for k in kept):
            kept.append(i)
    kept = kept[:most]
    assert len(kept) > 3, "a case that shows nothing"
    assert [g["index"] for g in got] == [labels[i] for i in kept]
    for g, i in zip(got, kept):
        assert abs(g["score"] - scores[i]) < 1e-3
        x, y, w, h = g["box"]
        want = np.clip(np.array(boxes[i]) * 2, 0, 2 * side)
        assert np.abs(np.array([x, y, x + w, y + h]) - want).max() < 0.05


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def some_boxes(rng, n):
    return np.stack([rng.uniform(5, 59, n), rng.uniform(5, 59, n), rng.uniform(4, 30, n), rng.uniform(4, 30, n)], 1)


def f32(x):
    return np.ascontiguousarray(x, np.float32)


def test_yolov8(onnxd, tmp_path, rng):
    b, s = some_boxes(rng, 100), rng.uniform(0, 1, (100, 3)) ** 3
    got = predict(onnxd, tmp_path, {"output0": f32(np.concatenate([b, s], 1).T[None])}, {"decoder": "yolov8"})
    same(got, [around(*r) for r in b], s.max(1), s.argmax(1))


def test_yolov5(onnxd, tmp_path, rng):
    b, o, s = some_boxes(rng, 100), rng.uniform(0, 1, (100, 1)), rng.uniform(0, 1, (100, 3))
    got = predict(onnxd, tmp_path, {"output0": f32(np.concatenate([b, o, s], 1)[None])}, {"decoder": "yolov5"})
    s = s * o
    same(got, [around(*r) for r in b], s.max(1), s.argmax(1))


def test_yolov10(onnxd, tmp_path, rng):
    b, s, c = some_boxes(rng, 50), rng.uniform(0, 1, 50), rng.integers(0, 5, 50)
    corners = np.array([around(*r) for r in b])
    got = predict(onnxd, tmp_path, {"output0": f32(np.concatenate([corners, s[:, None], c[:, None]], 1)[None])}, {"decoder": "yolov10"})
    same(got, corners, s, c, nms=False)


def test_ultralytics_metadata_makes_the_card(onnxd, tmp_path, rng):
    b, s = some_boxes(rng, 100), rng.uniform(0, 1, (100, 2)) ** 3
    meta = {"task": "detect", "names": "{0: 'cat', 1: \"driver's seat\"}", "stride": "32", "imgsz": "[64, 64]", "batch": "1"}
    got = predict(onnxd, tmp_path, {"output0": f32(np.concatenate([b, s], 1).T[None])}, metadata=meta)
    same(got, [around(*r) for r in b], s.max(1), s.argmax(1), iou_limit=0.7)
    assert {g["label"] for g in got} == {"cat", "driver's seat"}


def test_yolov8_pose(onnxd, tmp_path, rng):
    b, s, k = some_boxes(rng, 80), rng.uniform(0, 1, (80, 1)), rng.uniform(0, 64, (80, 5, 3))
    meta = {"task": "pose", "names": "{0: 'person'}", "stride": "32", "imgsz": "[64, 64]", "kpt_shape": "[5, 3]"}
    got = predict(onnxd, tmp_path, {"output0": f32(np.concatenate([b, s, k.reshape(80, 15)], 1).T[None])}, metadata=meta)
    same(got, [around(*r) for r in b], s[:, 0], np.zeros(80, int), iou_limit=0.7)
    best = int(np.argmax(s))
    want = k[best] * [2, 2, 1]
    assert np.abs(np.array(got[0]["keypoints"]) - want).max() < 0.01


def from_rle(mask):
    counts, text, at = [], mask["counts"].encode(), 0
    while at < len(text):
        x, shift, more = 0, 0, True
        while more:
            c = text[at] - 48
            at += 1
            x |= (c & 31) << shift
            shift += 5
            more = bool(c & 32)
            if not more and c & 16:
                x -= 1 << shift
        counts.append(x + counts[-2] if len(counts) > 2 else x)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(mask["size"][::-1]).T


def test_yolov8_seg(onnxd, tmp_path, rng):
    b, s, k = some_boxes(rng, 60), rng.uniform(0, 1, (60, 2)) ** 2, rng.normal(size=(60, 8))
    protos = np.stack([np.asarray(Image.fromarray(f32(rng.normal(size=(4, 4)))).resize((16, 16), Image.BICUBIC)) for _ in range(8)])
    meta = {"task": "segment", "names": "{0: 'a', 1: 'b'}", "stride": "32", "imgsz": "[64, 64]"}
    outputs = {"output0": f32(np.concatenate([b, s, k], 1).T[None]), "output1": f32(protos[None])}
    got = predict(onnxd, tmp_path, outputs, metadata=meta)
    same(got, [around(*r) for r in b], s.max(1), s.argmax(1), iou_limit=0.7)
    for g, i in zip(got, [i for i in np.argsort(-s.max(1), kind="stable")]):
        if abs(g["score"] - s[i].max()) > 1e-4:
            continue
        full = np.asarray(Image.fromarray(f32(np.tensordot(k[i], protos, 1))).resize((128, 128), Image.BILINEAR)) > 0
        x1, y1, x2, y2 = (2 * v for v in around(*b[i]))
        ys, xs = np.mgrid[0:128, 0:128]  # a pixel is inside where its corner is, as Ultralytics has it
        want = full & (xs >= x1) & (xs < x2) & (ys >= y1) & (ys < y2)
        mask = from_rle(g["mask"])
        assert mask.shape == (128, 128)
        assert (mask & want).sum() >= 0.98 * (mask | want).sum()


def test_yolov8_obb(onnxd, tmp_path, rng):
    b, s, a = some_boxes(rng, 60), rng.uniform(0, 1, (60, 2)) ** 2, rng.uniform(-0.7, 1.5, (60, 1))
    meta = {"task": "obb", "names": "{0: 'a', 1: 'b'}", "stride": "32", "imgsz": "[64, 64]"}
    got = predict(onnxd, tmp_path, {"output0": f32(np.concatenate([b, s, a], 1).T[None])}, metadata=meta)

    def spread(i):
        w, h, t = b[i][2] ** 2 / 12, b[i][3] ** 2 / 12, a[i][0]
        return w * np.cos(t) ** 2 + h * np.sin(t) ** 2, w * np.sin(t) ** 2 + h * np.cos(t) ** 2, (w - h) * np.cos(t) * np.sin(t)

    def overlap(i, j):
        (a1, b1, c1), (a2, b2, c2) = spread(i), spread(j)
        dx, dy = b[i][0] - b[j][0], b[i][1] - b[j][1]
        det = (a1 + a2) * (b1 + b2) - (c1 + c2) ** 2
        t1 = ((a1 + a2) * dy ** 2 + (b1 + b2) * dx ** 2) / det / 4
        t2 = -(c1 + c2) * dx * dy / det / 2
        t3 = np.log(det / (4 * np.sqrt((a1 * b1 - c1 ** 2) * (a2 * b2 - c2 ** 2)))) / 2
        return 1 - np.sqrt(1 - np.exp(-(t1 + t2 + t3)))

    kept, scores, labels = [], s.max(1), s.argmax(1)
    for i in np.argsort(-scores):
        if scores[i] > 0.25 and all(labels[i] != labels[k] or overlap(i, k) <= 0.7 for k in kept):
            kept.append(i)
    assert [g["index"] for g in got] == [labels[i] for i in kept]
    for g, i in zip(got, kept):
        c, n = np.cos(a[i][0]), np.sin(a[i][0])
        at = [(b[i][0] + u * b[i][2] / 2 * c - v * b[i][3] / 2 * n, b[i][1] + u * b[i][2] / 2 * n + v * b[i][3] / 2 * c)
              for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        assert np.abs(np.array(g["corners"]) - np.array(at).ravel() * 2).max() < 0.02


def test_detr(onnxd, tmp_path, rng):
    b, x = some_boxes(rng, 30), rng.normal(size=(30, 4)) * 3
    got = predict(onnxd, tmp_path, {"logits": f32(x[None]), "pred_boxes": f32(b[None] / SIDE)}, {"decoder": "detr", "outputs": ["logits", "pred_boxes"]})
    p = softmax(x)[:, :-1]
    same(got, [around(*r) for r in b], p.max(1), p.argmax(1), nms=False)


def test_rtdetr(onnxd, tmp_path, rng):
    b, x = some_boxes(rng, 30), rng.normal(size=(30, 3)) * 2 - 1
    got = predict(onnxd, tmp_path, {"logits": f32(x[None]), "pred_boxes": f32(b[None] / SIDE)}, {"decoder": "rtdetr"})
    p = sigmoid(x)
    same(got, [around(*b[i // 3]) for i in range(90)], p.ravel(), [i % 3 for i in range(90)], nms=False)


def test_torchvision_is_found_by_names(onnxd, tmp_path, rng):
    corners = np.array([around(*r) for r in some_boxes(rng, 20)])
    s, c = rng.uniform(0, 1, 20), rng.integers(1, 90, 20)
    got = predict(onnxd, tmp_path, {"boxes": f32(corners), "labels": c.astype(np.int64), "scores": f32(s)}, batch=())  # of three extents
    same(got, corners, s, c, nms=False)


def test_mask_and_keypoint_r_cnn_are_found_by_names(onnxd, tmp_path, rng):
    corners = np.array([around(*r) for r in some_boxes(rng, 8)])
    s, c = rng.uniform(0.3, 1, 8), rng.integers(1, 90, 8)
    outputs = {"boxes": f32(corners), "labels": c.astype(np.int64), "scores": f32(s)}
    masks, points = rng.uniform(0, 1, (8, 1, 64, 64)), rng.uniform(0, 64, (8, 17, 3))
    best = int(s.argmax())
    got = predict(onnxd, tmp_path, {**outputs, "masks": f32(masks)})
    same(got, corners, s, c, nms=False)
    large = np.asarray(Image.fromarray(f32(masks[best, 0])).resize((128, 128), Image.BILINEAR)) > 0.5
    assert (from_rle(got[0]["mask"]) == large).mean() > 0.999
    got = predict(onnxd, tmp_path, {**outputs, "keypoints": f32(points)})
    assert np.abs(np.array(got[0]["keypoints"]) - points[best] * [2, 2, 1]).max() < 0.01


def test_boxes_that_are_no_numbers_do_no_harm(onnxd, tmp_path):
    odd = [np.inf, -np.inf, np.nan, 1e30, -1e30]
    rows = f32([[a, b, c, 9, 0.9, 1] for a in odd for b in odd for c in odd])
    meta = {"task": "segment", "names": "{0: 'a'}", "stride": "32", "imgsz": "[64, 64]"}
    predict(onnxd, tmp_path, {"output0": rows.T[None].copy(), "output1": np.ones((1, 1, 16, 16), np.float32)}, metadata=meta)
    for decoder in ("yolov8", "yolov10", "yolov8-obb"):
        predict(onnxd, tmp_path, {"output0": rows[None] if decoder == "yolov10" else rows.T[None].copy()}, {"decoder": decoder})


def test_tensorflow_object_detection_is_found_by_names(onnxd, tmp_path, rng):
    corners = np.array([around(*r) for r in some_boxes(rng, 20)])
    s, c = np.sort(rng.uniform(0, 1, 20))[::-1], rng.integers(1, 90, 20)
    outputs = {"num_detections": f32([15]), "detection_boxes": f32(corners[None][..., [1, 0, 3, 2]] / SIDE),
               "detection_scores": f32(s[None]), "detection_classes": f32(c[None])}
    got = predict(onnxd, tmp_path, outputs)
    same(got, corners[:15], s[:15], c[:15] - 1, nms=False)


@pytest.mark.parametrize("activation, shape", [(0, (1, 80, 4)), (0, (1, 80, 1, 4)), (1, (1, 80, 4)), (2, (1, 80, 4))])
def test_scored_boxes(onnxd, tmp_path, rng, activation, shape):
    b, x = some_boxes(rng, 80), rng.normal(size=(80, 4)) * 2
    p = [x / 4, sigmoid(x), softmax(x)][activation]
    got = predict(onnxd, tmp_path, {"b": f32(b.reshape(shape) / SIDE), "s": f32(x[None] / (1 if activation else 4))},
                  {"decoder": "scored-boxes", "parameters": {"normalized": 1, "centered": 1, "background": 1, "activation": activation}})
    same(got, [around(*b[i // 3]) for i in range(240)], p[:, 1:].ravel(), [i % 3 for i in range(240)])


def grid(strides, offset=0.0):
    cells = []
    for s in strides:
        ys, xs = np.mgrid[0:SIDE // s, 0:SIDE // s]
        cells.append(np.stack([xs.ravel() + offset, ys.ravel() + offset, np.full(xs.size, s)], 1))
    return np.concatenate(cells).astype(float)


def test_yolox(onnxd, tmp_path, rng):
    cells = grid([8, 16, 32])
    n = len(cells)
    x = np.concatenate([rng.uniform(0, 1, (n, 2)), rng.normal(size=(n, 2)) * 0.5, rng.uniform(0, 1, (n, 4))], 1)
    got = predict(onnxd, tmp_path, {"output": f32(x[None])}, {"decoder": "yolox"})
    s = x[:, 5:] * x[:, 4:5]
    xy, wh = (x[:, :2] + cells[:, :2]) * cells[:, 2:], np.exp(x[:, 2:4]) * cells[:, 2:]
    same(got, [around(*p, *q) for p, q in zip(xy, wh)], s.max(1), s.argmax(1))


@pytest.mark.parametrize("name", ["yolov5-heads", "yolov3"])
@pytest.mark.parametrize("flat", [False, True])
def test_anchor_heads(onnxd, tmp_path, rng, name, flat):
    anchors, outputs, boxes, scores, labels = rng.uniform(5, 40, (2, 3, 2)), {}, [], [], []
    for level, stride in enumerate((8, 16)):
        n = SIDE // stride
        x = rng.normal(size=(1, 3, n, n, 7)) * 1.5
        outputs[f"out{level}"] = f32(x.transpose(0, 1, 4, 2, 3).reshape(1, 21, n, n) if flat else x)
        for a in range(3):
            for gy in range(n):
                for gx in range(n):
                    r = x[0, a, gy, gx]
                    if name == "yolov3":
                        cx, cy = (sigmoid(r[0]) + gx) * stride, (sigmoid(r[1]) + gy) * stride
                        w, h = np.exp(r[2:4]) * anchors[level, a]
                    else:
                        cx, cy = (2 * sigmoid(r[0]) - 0.5 + gx) * stride, (2 * sigmoid(r[1]) - 0.5 + gy) * stride
                        w, h = (2 * sigmoid(r[2:4])) ** 2 * anchors[level, a]
                    boxes.append(around(cx, cy, w, h))
                    scores.append(sigmoid(r[4]) * sigmoid(r[5:]).max())
                    labels.append(int(r[5:].argmax()))
    got = predict(onnxd, tmp_path, outputs, {"decoder": name, "parameters": {"anchors": anchors.ravel().tolist()}})
    same(got, boxes, scores, labels)


def test_yolov4_heads(onnxd, tmp_path, rng):
    """Numbers last, scores that are sigmoids already, centres that reach over their cells (Bochkovskiy et al., "YOLOv4", section 3.4)."""
    anchors, scale, outputs, boxes, scores, labels = rng.uniform(5, 40, (2, 3, 2)), [1.2, 1.05], {}, [], [], []
    for level, stride in enumerate((8, 16)):
        n = SIDE // stride
        x = rng.normal(size=(1, n, n, 3, 7)) * 1.5
        x[..., 4:] = sigmoid(x[..., 4:])
        outputs[f"out{level}"] = f32(x)
        for gy, gx, a in np.ndindex(n, n, 3):
            r = x[0, gy, gx, a]
            cx, cy = ((sigmoid(r[:2]) - 0.5) * scale[level] + 0.5 + [gx, gy]) * stride
            boxes.append(around(cx, cy, *(np.exp(r[2:4]) * anchors[level, a])))
            scores.append(r[4] * r[5:].max())
            labels.append(int(r[5:].argmax()))
    got = predict(onnxd, tmp_path, outputs, {"decoder": "yolov3", "parameters": {"anchors": anchors.ravel().tolist(), "scale_x_y": scale,
                                                                                "activation": 0}})
    same(got, boxes, scores, labels)


def test_nanodet(onnxd, tmp_path, rng):
    cells = grid([8, 16, 32, 64])
    n = len(cells)
    s, d = rng.uniform(0, 1, (n, 3)) ** 2, rng.normal(size=(n, 4, 8)) * 2
    got = predict(onnxd, tmp_path, {"output": f32(np.concatenate([s, d.reshape(n, 32)], 1)[None])}, {"decoder": "nanodet"})
    side = (softmax(d) * np.arange(8)).sum(-1) * cells[:, 2:]
    c = cells[:, :2] * cells[:, 2:]
    same(got, np.concatenate([c - side[:, :2], c + side[:, 2:]], 1), s.max(1), s.argmax(1))


def test_fcos(onnxd, tmp_path, rng):
    outputs, boxes, scores, labels = {}, [], [], []
    parts = {"cls": [], "reg": [], "ctr": []}
    for stride in (8, 16):
        n = SIDE // stride
        cls, reg, ctr = rng.normal(size=(1, 2, n, n)) * 2, rng.uniform(2, 20, (1, 4, n, n)), rng.normal(size=(1, 1, n, n))
        for key, value in zip(parts, (cls, reg, ctr)):
            parts[key].append(f32(value))
        for c in range(2):
            for y in range(n):
                for x in range(n):
                    cx, cy, r = (x + 0.5) * stride, (y + 0.5) * stride, reg[0, :, y, x]
                    boxes.append([cx - r[0], cy - r[1], cx + r[2], cy + r[3]])
                    scores.append(np.sqrt(sigmoid(cls[0, c, y, x]) * sigmoid(ctr[0, 0, y, x])))
                    labels.append(c)
    for key in parts:
        for level in range(2):
            outputs[f"{key}{level}"] = parts[key][level]
    got = predict(onnxd, tmp_path, outputs, {"decoder": "fcos", "score_threshold": 0.5})
    same(got, boxes, scores, labels, threshold=0.5)


def test_centernet(onnxd, tmp_path, rng):
    heat, size, offset = rng.normal(size=(1, 2, 16, 16)) * 2, rng.uniform(1, 5, (1, 2, 16, 16)), rng.uniform(0, 1, (1, 2, 16, 16))
    got = predict(onnxd, tmp_path, {"hm": f32(heat), "wh": f32(size), "reg": f32(offset)}, {"decoder": "centernet"})
    boxes, scores, labels = [], [], []
    padded = np.pad(heat[0], ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    for c in range(2):
        for y in range(16):
            for x in range(16):
                if heat[0, c, y, x] >= padded[c, y:y + 3, x:x + 3].max():
                    boxes.append(around((x + offset[0, 0, y, x]) * 4, (y + offset[0, 1, y, x]) * 4, *(size[0, :, y, x] * 4)))
                    scores.append(sigmoid(heat[0, c, y, x]))
                    labels.append(c)
    same(got, boxes, scores, labels, nms=False)


def test_ssd(onnxd, tmp_path, rng):
    priors = some_boxes(rng, 60) / SIDE
    d, x = rng.normal(size=(60, 4)), rng.normal(size=(60, 3)) * 2
    got = predict(onnxd, tmp_path, {"loc": f32(d[None]), "conf": f32(x[None])},
                  {"decoder": "ssd", "parameters": {"priors": priors.ravel().tolist(), "clip": 0}})
    xy, wh = priors[:, :2] + d[:, :2] * 0.1 * priors[:, 2:], priors[:, 2:] * np.exp(d[:, 2:] * 0.2)
    p = softmax(x)[:, 1:]
    boxes = [around(*a, *b) for a, b in zip(xy * SIDE, wh * SIDE)]
    same(got, [boxes[i // 2] for i in range(120)], p.ravel(), [i % 2 for i in range(120)])


TREE = [(0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15), (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16)]


def persons_of(heat, offsets, forward, backward, stride, radius=20, part=0.5, most=100):
    """PersonLab's greedy grouping, with arrays as [rows, columns, numbers]: a list of points (x, y, score) and the person's score."""
    rows, columns, points = heat.shape

    def near(p):
        return tuple(int(np.clip(np.rint(v / stride), 0, n - 1)) for v, n in zip(p, (rows, columns)))

    def exact(cell, k):
        return np.array(cell) * stride + offsets[(*cell, [k, points + k])]

    def follow(field, edge, p, k):
        p = p + field[(*near(p), [edge, len(TREE) + edge])]
        for _ in range(2):
            p = exact(near(p), k)
        return p

    peaks = []
    for y, x, k in np.ndindex(heat.shape):
        if heat[y, x, k] >= part and heat[y, x, k] >= heat[max(y - 1, 0):y + 2, max(x - 1, 0):x + 2, k].max():
            peaks.append((heat[y, x, k], y, x, k))
    found = []

    def claimed(p, k):
        return any(np.sum((q[k] - p) ** 2) <= radius ** 2 for q, _, _ in found)

    for _, y, x, k in sorted(peaks, reverse=True):
        if len(found) == most or claimed(exact((y, x), k), k):
            continue
        own = {k: exact((y, x), k)}
        for edge, (parent, child) in reversed(list(enumerate(TREE))):
            if child in own and parent not in own:
                own[parent] = follow(backward, edge, own[child], parent)
        for edge, (parent, child) in enumerate(TREE):
            if parent in own and child not in own:
                own[child] = follow(forward, edge, own[parent], child)
        scores = [heat[(*((y, x) if i == k else near(own[i])), i)] for i in range(points)]
        score = sum(s for i, s in enumerate(scores) if not claimed(own[i], i)) / points
        found.append(([own[i] for i in range(points)], scores, score))
    return found


@pytest.mark.parametrize("first, logits", [("rows", True), ("numbers", True), ("rows", False)])
def test_posenet_groups_points_into_persons(onnxd, tmp_path, rng, first, logits):
    side, stride = 129, 16
    n = (side - 1) // stride + 1
    heat = rng.normal(size=(n, n, 17)) * 2 - 1
    offsets, forward, backward = (rng.normal(size=(n, n, c)) * s for c, s in ((34, 8), (32, 30), (32, 30)))
    arrays = {"heat": heat if logits else sigmoid(heat), "off": offsets, "fwd": forward, "bwd": backward}
    outputs = {k: f32((v if first == "rows" else v.transpose(2, 0, 1))[None]) for k, v in arrays.items()}
    got = predict(onnxd, tmp_path, outputs, {"decoder": "posenet", "labels": ["person"], "score_threshold": 0.15,
                                             "parameters": {"activation": int(logits)}}, side=side)
    want = [p for p in persons_of(sigmoid(heat), offsets, forward, backward, stride) if p[2] > 0.15]
    want.sort(key=lambda p: -p[2])
    assert len(got) == len(want) > 5
    for g, (points, scores, score) in zip(got, want):
        points = 2 * np.array(points)[:, ::-1]
        assert abs(g["score"] - score) < 1e-4 and g["label"] == "person"
        assert np.abs(np.array(g["keypoints"]) - np.column_stack([points, scores])).max() < 0.02
        x, y, w, h = g["box"]
        low, high = np.clip([points.min(0), points.max(0)], 0, 2 * side)
        assert np.abs(np.array([x, y, x + w, y + h]) - [*low, *high]).max() < 0.05


def test_posenet_takes_its_own_tree(onnxd, tmp_path):
    """Two points: the second lies where the displacement of the first says."""
    heat, offsets, forward = np.full((1, 2, 5, 5), -9.0), np.zeros((1, 4, 5, 5)), np.zeros((1, 2, 5, 5))
    heat[0, 0, 1, 2] = heat[0, 1, 3, 3] = 4
    forward[0, :, 1, 2] = [30, 14]
    outputs = {"heat": f32(heat), "off": f32(offsets), "fwd": f32(forward), "bwd": f32(forward)}
    got = predict(onnxd, tmp_path, outputs, {"decoder": "posenet", "parameters": {"edges": [0, 1], "radius": 4}}, side=65)
    assert len(got) == 1 and np.allclose(np.array(got[0]["keypoints"])[:, :2], [[64, 32], [96, 96]])
    (tmp_path / "model.json").write_text(json.dumps({"task": "detect", "decoder": "posenet", "parameters": {"edges": [0, 2]}}))
    done = subprocess.run([onnxd, "inspect", tmp_path / "model.onnx", "--card"], capture_output=True, text=True)
    assert done.returncode == 1 and "no point 2" in done.stderr


def levels_anchors(size_of, strides=(16, 32), each=6):
    """Anchors of two levels, and numbers for them."""
    return np.array([around(x * s, y * s, *wh) for k, s in enumerate(strides) for y in range(SIDE // s) for x in range(SIDE // s)
                     for wh in size_of(k)])


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("order", ["ratios", "sizes", "rounded"])
def test_retinanet_anchors(onnxd, tmp_path, rng, maps, order):
    sizes, ratios = [[14, 20.5], [30, 41]], [0.5, 1, 2]

    def shapes(k):
        pairs = [(s, r) for s in sizes[k] for r in ratios] if order == "sizes" else [(s, r) for r in ratios for s in sizes[k]]
        both = [(s / np.sqrt(r), s * np.sqrt(r)) for s, r in pairs]
        return [tuple(2 * np.round(v / 2) for v in wh) for wh in both] if order == "rounded" else both

    anchors = levels_anchors(shapes)
    n = len(anchors)
    d, x = rng.normal(size=(n, 4)) * 0.3, rng.normal(size=(n, 3)) * 2 - 1
    d[5, 2] = 9  # grows no more than to 62 times
    outputs = {"d": f32(d[None]), "x": f32(x[None])}
    if maps:
        outputs = {}
        for name, numbers in (("d", d), ("x", x)):
            for k, side in enumerate((4, 2)):
                part = numbers[:96] if k == 0 else numbers[96:]
                outputs[f"{name}{k}"] = f32(part.reshape(1, side, side, 6, -1).transpose(0, 3, 4, 1, 2).reshape(1, -1, side, side))
    got = predict(onnxd, tmp_path, outputs, {"decoder": "retinanet", "parameters": {
        "strides": [16, 32], "sizes": sum(sizes, []), "ratios": ratios, "sizes_first": int(order == "sizes"), "round": int(order == "rounded")}})
    wh = anchors[:, 2:] - anchors[:, :2]
    xy = anchors[:, :2] + wh / 2 + d[:, :2] * wh
    wh = wh * np.exp(np.minimum(d[:, 2:], np.log(1000 / 16)))
    boxes = np.clip(np.concatenate([xy - wh / 2, xy + wh / 2], 1), 0, SIDE)
    same(got, [boxes[i // 3] for i in range(3 * n)], sigmoid(x).ravel(), [i % 3 for i in range(3 * n)])


def test_ssd_default_boxes(onnxd, tmp_path, rng):
    sizes, ratios = [12, 30, 52], [[2], [2, 3]]

    def shapes(k):
        out = [(sizes[k],) * 2, (np.sqrt(sizes[k] * sizes[k + 1]),) * 2]
        for r in ratios[k]:
            out += [(sizes[k] * np.sqrt(r), sizes[k] / np.sqrt(r)), (sizes[k] / np.sqrt(r), sizes[k] * np.sqrt(r))]
        return np.minimum(out, SIDE)

    anchors = levels_anchors(shapes) + np.repeat([8, 16], [16 * 4, 4 * 6])[:, None]  # in the middle of the cells
    n = len(anchors)
    d, x = rng.normal(size=(n, 4)), rng.normal(size=(n, 3)) * 2
    got = predict(onnxd, tmp_path, {"loc": f32(d[None]), "conf": f32(x[None])}, {"decoder": "ssd", "parameters": {
        "default_boxes": 1, "strides": [16, 32], "sizes": sizes, "ratios": sum(ratios, []), "ratio_counts": [1, 2]}})
    wh = anchors[:, 2:] - anchors[:, :2]
    xy = anchors[:, :2] + wh / 2 + d[:, :2] * 0.1 * wh
    wh = wh * np.exp(d[:, 2:] * 0.2)
    boxes = np.clip(np.concatenate([xy - wh / 2, xy + wh / 2], 1), 0, SIDE)
    same(got, [boxes[i // 2] for i in range(2 * n)], softmax(x)[:, 1:].ravel(), [i % 2 for i in range(2 * n)])


@pytest.mark.parametrize("parameters, said", [({"strides": []}, "'strides'"), ({"strides": [0.5]}, "'strides'"), ({"sizes": [1, 2, 3]}, "'sizes'"),
                                              ({"sizes": [-1] * 5}, "'sizes'"), ({"ratios": [0]}, "'ratios'"), ({"ratio_counts": [1, 1]}, "'ratio_counts'"),
                                              ({"ratio_counts": [-1, 1, 1, 1, 1]}, "'ratio_counts'"), ({"activation": 3}, "'activation'"),
                                              ({"default_boxes": 1}, "'sizes'"), ({}, "24 boxes where the card makes")])
def test_anchors_that_cannot_be_are_refused(onnxd, tmp_path, parameters, said):
    save_model(tmp_path, {"d": np.zeros((1, 24, 4), np.float32), "x": np.zeros((1, 24, 3), np.float32)})
    (tmp_path / "model.json").write_text(json.dumps({"task": "detect", "decoder": "retinanet", "parameters": parameters, "preprocess": {"fit": "stretch"}}))
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    done = subprocess.run([onnxd, "predict", tmp_path / "model.onnx", tmp_path / "picture.png"], capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr, done.stderr


@pytest.mark.parametrize("kind", ["joint", "pairs", "grouped", "lists", "one bin", "scores"])
def test_yolov8_heads(onnxd, tmp_path, rng, kind):
    bins, strides = 1 if kind == "one bin" else 8, (8, 16, 32)
    cells = grid(strides, 0.5)
    n = len(cells)
    d, x = rng.normal(size=(n, 4, bins)) * 2, rng.normal(size=(n, 3)) * 2 - 1
    d = d ** 2 if bins == 1 else d
    scores = rng.uniform(0, 1, (n, 3)) ** 3 if kind == "scores" else sigmoid(x)
    shown = scores if kind == "scores" else x
    outputs, at = {}, 0
    for k, s in enumerate(strides):
        side = SIDE // s
        part = [a[at:at + side * side].reshape(side * side, -1).T.reshape(1, -1, side, side) for a in (d, shown)]
        at += side * side
        if kind in ("joint", "one bin"):
            outputs[f"o{k}"] = f32(np.concatenate(part, 1))
        else:
            outputs[f"b{k}"], outputs[f"s{k}"] = f32(part[0]), f32(part[1])
    if kind == "grouped":
        outputs = dict(sorted(outputs.items(), key=lambda o: o[0][0], reverse=True))  # scores first
    if kind == "lists":
        outputs = {"boxes": f32(d.reshape(n, -1).T[None]), "scores": f32(x.T[None])}
    got = predict(onnxd, tmp_path, outputs, {"decoder": "yolov8-heads", "parameters": {"reg_max": bins, "activation": int(kind != "scores")}})
    side = (d[..., 0] if bins == 1 else (softmax(d) * np.arange(bins)).sum(-1)) * cells[:, 2:]
    c = cells[:, :2] * cells[:, 2:]
    same(got, np.concatenate([c - side[:, :2], c + side[:, 2:]], 1), scores.max(1), scores.argmax(1))


def test_heads_that_do_not_belong_together_are_refused(onnxd, tmp_path):
    for outputs, said in (({"a": np.zeros((1, 64, 8, 8)), "b": np.zeros((1, 3, 4, 8))}, "extents"), ({"a": np.zeros((1, 10, 8, 8))}, "reg_max"),
                          ({"a": np.zeros((1, 67, 8))}, "8 cells")):
        save_model(tmp_path, {k: f32(v) for k, v in outputs.items()})
        (tmp_path / "model.json").write_text(json.dumps({"task": "detect", "decoder": "yolov8-heads", "preprocess": {"fit": "stretch"}}))
        Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
        done = subprocess.run([onnxd, "predict", tmp_path / "model.onnx", tmp_path / "picture.png"], capture_output=True, text=True)
        assert done.returncode == 1 and said in done.stderr, done.stderr


def test_blazeface(onnxd, tmp_path, rng):
    side = 128
    anchors = [((x + 0.5) / 16, (y + 0.5) / 16) for y in range(16) for x in range(16) for _ in range(2)]
    anchors += [((x + 0.5) / 8, (y + 0.5) / 8) for y in range(8) for x in range(8) for _ in range(6)]
    anchors = np.array(anchors) * side
    d, x = rng.normal(size=(896, 16)) * 3, rng.normal(size=(896, 1)) * 2 - 3
    d[:, 2:4] = rng.uniform(10, 40, (896, 2))
    got = predict(onnxd, tmp_path, {"regressors": f32(d[None]), "classificators": f32(x[None])}, {"decoder": "blazeface"}, side=side)
    boxes = [around(*(r[:2] + a), *r[2:4]) for r, a in zip(d, anchors)]
    same(got, boxes, sigmoid(x[:, 0]), np.zeros(896, int), side=side)
    best = int(x.argmax())
    want = (d[best, 4:].reshape(6, 2) + anchors[best]) * 2
    assert np.abs(np.array(got[0]["keypoints"])[:, :2] - want).max() < 0.02


def test_ultralytics_rtdetr_is_told_by_its_rows(onnxd, tmp_path, rng):
    b, s = some_boxes(rng, 300), rng.uniform(0, 1, (300, 2)) ** 8
    meta = {"task": "detect", "names": "{0: 'a', 1: 'b'}", "stride": "32", "imgsz": "[64, 64]"}
    got = predict(onnxd, tmp_path, {"output0": f32(np.concatenate([b / SIDE, s], 1)[None])}, metadata=meta)
    same(got, [around(*r) for r in b], s.max(1), s.argmax(1), nms=False, most=300)


def test_soft_nms_lets_scores_decay(onnxd, tmp_path, rng):
    b, s = some_boxes(rng, 40), rng.uniform(0, 1, (40, 2))
    got = predict(onnxd, tmp_path, {"output0": f32(np.concatenate([b, s], 1).T[None])}, {"decoder": "yolov8", "parameters": {"soft_nms": 0.5}})
    boxes, scores, labels = [around(*r) for r in b], s.max(1).copy(), s.argmax(1)
    left, want = [i for i in range(40) if scores[i] > 0.25], []
    while left:
        best = max(left, key=lambda i: scores[i])
        if scores[best] <= 0.25:
            break
        left.remove(best)
        want.append((labels[best], scores[best]))
        for i in left:
            if labels[i] == labels[best]:
                scores[i] *= np.exp(-iou(boxes[i], boxes[best]) ** 2 / 0.5)
    assert [g["index"] for g in got] == [w[0] for w in want]
    assert all(abs(g["score"] - w[1]) < 1e-4 for g, w in zip(got, want))
