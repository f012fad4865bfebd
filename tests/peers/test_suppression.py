"""Which boxes stay, by the definitions of those who thought of it: torchvision's nms and batched_nms, Ultralytics' for turned
boxes, soft-NMS by its paper's algorithm. The boxes are what real networks give for pictures, decoded here."""
import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torchvision.models import detection
from torchvision.ops import batched_nms, box_iou, nms
from torchvision.transforms.functional import to_tensor
from ultralytics.utils.metrics import batch_probiou
from ultralytics.utils.nms import TorchNMS

from peers import REPORT, answers, corners, overlap
from test_torchvision import DETECTORS, spread_detector
from test_ultralytics import exported
from weights import Picked

HOW = [{}, {"iou": 0.2}, {"iou": 0.8, "score": 0.4}, {"agnostic": 1}, {"agnostic": 1, "iou": 0.1, "most": 7}, {"soft": 0.5}, {"soft": 0.1, "score": 0.2},
       {"soft": 0.5, "agnostic": 1, "most": 12}]


def soft(boxes, scores, labels, sigma, overlaps):
    """Bodla et al., "Soft-NMS", algorithm 1 with the Gaussian: all scores, decayed."""
    s, left, done = scores.astype(np.float64).copy(), list(range(len(scores))), []
    while left:
        m = max(left, key=lambda i: s[i])
        left.remove(m)
        done.append(m)
        for i in left:
            if labels[i] == labels[m]:
                s[i] *= np.exp(-overlaps[m, i] ** 2 / sigma)
    return np.array(done), s


def suppressed(boxes, scores, labels, how, turned):
    """Indices in the answer's order, and scores."""
    threshold, iou, most = how.get("score", 0.1), how.get("iou", 0.5), how.get("most", 1000)
    labels = np.zeros_like(labels) if how.get("agnostic") else labels
    some = np.flatnonzero(scores > threshold)
    b, s, c = torch.tensor(boxes[some]), torch.tensor(scores[some]), torch.tensor(labels[some])
    if how.get("soft"):
        overlaps = (batch_probiou(b, b) if turned else box_iou(b, b)).numpy()
        order, decayed = soft(boxes[some], scores[some], labels[some], how["soft"], overlaps)
        order = order[decayed[order] > threshold]
        return some[order][:most], decayed[order][:most]
    if turned:
        apart = torch.cat([b[:, :2] + c[:, None] * 10000, b[:, 2:]], 1)  # as Ultralytics keeps classes apart
        kept = TorchNMS.fast_nms(apart, s, iou, iou_func=batch_probiou)
    else:
        kept = batched_nms(b, s, c, iou) if not how.get("agnostic") else nms(b, s, iou)
    kept = some[kept.numpy()]
    kept = kept[np.argsort(-scores[kept], kind="stable")][:most]
    return kept, scores[kept]


def flags(how):
    names = {"score": "--score-threshold", "iou": "--iou-threshold", "most": "--max-detections", "agnostic": "--class-agnostic", "soft": "--soft-nms"}
    return [str(x) for k, v in {"score": 0.1, "iou": 0.5, "most": 1000, **how}.items() for x in (names[k], v)]


def compare(family, onnxd, path, picture, folder, decode, turned=False):
    """`decode` makes of the network's outputs boxes (corners, or centre, size and angle) in pixels of the input, scores, labels."""
    counts = {}
    for how in HOW:
        said, = answers(onnxd, path, [picture], *flags(how), "--save-input", folder / "x.npy")
        x = np.load(folder / "x.npy")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        boxes, scores, labels = decode([o[0] for o in session.run(None, {session.get_inputs()[0].name: x})])
        kept, want = suppressed(boxes, scores, labels, how, turned)
        got = said["detections"]
        counts[json.dumps(how)] = len(got)
        assert len(got) == len(kept), how
        off = np.abs(np.array([d["score"] for d in got]) - want).max(initial=0)
        assert off < 1e-3
        place = placed(Image.open(picture).size, x.shape[:1:-1], turned or "yolo" in family)
        pairs = {}  # the same box? Of scores that are all but the same either order will do
        for d, k in zip(got, kept):
            if turned:
                cx, cy, w, h, a = boxes[k]
                u, v = np.array([np.cos(a), np.sin(a)]) * w / 2, np.array([-np.sin(a), np.cos(a)]) * h / 2
                points = [np.array([cx, cy]) + m * u + n * v for m, n in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
                near = np.abs(np.array(d["corners"]).reshape(4, 2) - [place(p) for p in points]).max() < 0.1
            else:
                (x1, y1), (x2, y2) = place(boxes[k][:2]), place(boxes[k][2:])
                edge = Image.open(picture).size
                box = [min(max(p, 0), edge[i % 2]) for i, p in enumerate((x1, y1, x2, y2))]
                near = overlap(corners(d), box) > 0.99 or min(box[2] - box[0], box[3] - box[1]) < 2
            pairs[k] = near and d["index"] == labels[k]
        assert not pairs or np.mean(list(pairs.values())) >= 0.97, how
        REPORT.add(family, found=len(got), score=off)
    assert counts["{}"] > 10 and counts['{"agnostic": 1}'] < counts["{}"], counts
    assert counts['{"iou": 0.2}'] < counts["{}"] != counts['{"soft": 0.5}'], counts


def placed(size, side, letterbox):
    """From pixels of the input to those of the picture."""
    if not letterbox:
        return lambda p: np.array(p) * size / np.array(side)
    r = min(side[0] / size[0], side[1] / size[1])
    new = [round(v * r) for v in size]
    return lambda p: (np.array(p) - [(side[i] - new[i]) // 2 for i in (0, 1)]) / [new[i] / size[i] for i in (0, 1)]


def test_yolov8(onnxd, pictures, tmp_path):
    _, path = exported("yolov8n", pictures, tmp_path)

    def decode(outputs):
        b, s = outputs[0][:4].T, outputs[0][4:].T
        return np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1), s.max(1), s.argmax(1)

    for picture in pictures[:2]:
        compare("suppression, yolov8", onnxd, path, picture, tmp_path, decode)


def test_yolov8_obb(onnxd, pictures, tmp_path):
    _, path = exported("yolov8n-obb", pictures, tmp_path)

    def decode(outputs):
        rows = outputs[0].T
        return np.concatenate([rows[:, :4], rows[:, -1:]], 1), rows[:, 4:-1].max(1), rows[:, 4:-1].argmax(1)

    for picture in pictures[:2]:
        compare("suppression, yolov8-obb", onnxd, path, picture, tmp_path, decode, turned=True)


def test_ssd(onnxd, pictures, tmp_path):
    """torchvision's SSDlite without its end: offsets and logits at its own default boxes, which the card has as priors."""
    torch.manual_seed(4)
    model = DETECTORS["ssdlite320"]().eval()
    images = [Image.open(p).convert("RGB") for p in pictures]
    spread_detector(model, [to_tensor(im) for im in images])
    batch, _ = model.transform([to_tensor(images[0])])
    features = list(model.backbone(batch.tensors).values())
    anchors = model.anchor_generator(batch, features)[0]
    centres = torch.cat([anchors[:, :2] + anchors[:, 2:], 2 * (anchors[:, 2:] - anchors[:, :2])], 1) / 2 / 320
    path = tmp_path / "model.onnx"
    heads = Picked(model, lambda net, x: tuple(net.head(list(net.backbone(x).values())).values()))
    names = list(model.head(features))
    torch.onnx.export(heads, (batch.tensors,), path, dynamo=False, input_names=["image"], output_names=names)
    (tmp_path / "model.json").write_text(json.dumps({
        "task": "detect", "decoder": "ssd", "outputs": ["bbox_regression", "cls_logits"], "parameters": {"priors": centres.ravel().tolist()},
        "preprocess": {"fit": "stretch", "width": 320, "height": 320, "rescale": 1 / 255, "mean": 0.5, "std": 0.5}}))
    coder = detection._utils.BoxCoder((10.0, 10.0, 5.0, 5.0))

    def decode(outputs):
        by_name = dict(zip(names, outputs))
        boxes = coder.decode_single(torch.tensor(by_name["bbox_regression"]), anchors).clamp(0, 320).numpy()  # torchvision ends them at the picture's edge first
        scores = torch.tensor(by_name["cls_logits"]).softmax(1).numpy()[:, 1:]
        rows, labels = np.indices(scores.shape)
        return boxes[rows.ravel()], scores.ravel(), labels.ravel()

    for picture in pictures[:2]:
        compare("suppression, ssd", onnxd, path, picture, tmp_path, decode)
