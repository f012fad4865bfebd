"""Ultralytics: its own export to ONNX, its own predictor.

Weights are random. So that they say something, batch norms are given the statistics of the pictures, and the heads' last
layers are scaled and shifted until about forty places of a picture pass the threshold, with scores spread from there to one."""
import json
import pathlib

import numpy as np
import pytest
import torch

from peers import BOX, REPORT, SCORE, answers, clipped, decoded, same_classes, same_depth, same_detections, same_masks, same_segmentation
from weights import calibrate_norms, spread_logits

SIDE = 256
# 3 for the others; here that gives a box two classes whose scores are the same, and a mask whose edge rounding decides: kernels for
# AVX2 and for AVX-512 differ in it as much as the tools do
SEEDS = {"yolov9t": 4, "yolov9c-seg": 4}


def batch_of(pictures, side):
    import cv2
    from ultralytics.data.augment import LetterBox
    arrays = [LetterBox((side, side))(image=cv2.imread(str(p)))[..., ::-1].copy() for p in pictures]
    return torch.tensor(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def spread_heads(net, batch, places=60):
    """Scale and shift each level's class scores so that the best is 0.98 and `places` of a picture pass the threshold."""
    head = net.model[-1]
    branches = [b for name in ("cv3", "one2one_cv3") for b in (getattr(head, name, None) or [])]
    branches += [[m] for m in (getattr(head, "dec_score_head", None) or [])[-1:]]
    seen = {}
    hooks = [b[-1].register_forward_hook(lambda m, i, o, b=b: seen.__setitem__(b[-1], o)) for b in branches]
    with torch.no_grad():
        net(batch)
        for last, out in seen.items():
            x = out.amax(1 if out.ndim == 4 else 2).flatten().sort(descending=True).values
            cut, top = x[min(len(x) - 1, places // 3 * len(batch))], x[0]
            scale = 5 / (top - cut)
            last.weight *= scale
            last.bias[:] = (last.bias - top) * scale + 4
        for name in ("cv2", "one2one_cv2", "cv4", "one2one_cv4"):
            for b in getattr(head, name, None) or []:
                if isinstance(b, torch.nn.Sequential) and isinstance(b[-1], torch.nn.Conv2d):
                    b[-1].weight *= 3
                if name.endswith("cv2") and head.reg_max == 1:
                    b[-1].bias[:] = 8  # distances to the sides themselves, which are not below zero
    for h in hooks:
        h.remove()
    if hasattr(head, "linear"):
        spread_logits(net, net, batch, 3)


def exported(name, pictures, folder, side=SIDE, **how):
    from ultralytics import RTDETR, YOLO
    torch.manual_seed(SEEDS.get(name, 3))
    kind = RTDETR if "rtdetr" in name else YOLO
    model = kind(f"{name}.yaml")
    net, batch = model.model, batch_of(pictures, side)
    calibrate_norms(net, batch)
    spread_heads(net, batch)
    path = folder / "random.pt"  # its own names would be looked for on the net
    model.save(path)
    model = kind(path)
    onnx = model.export(format="onnx", imgsz=side, simplify=False, verbose=False, **how)
    return kind(path), pathlib.Path(onnx)


def predicted(model, picture, rect=False, **how):
    return model.predict(picture, imgsz=SIDE, rect=rect, verbose=False, device="cpu", save=False, **how)[0]


def boxes_of(result):
    b, (h, w) = result.boxes, result.orig_shape
    return [{"label": int(c), "score": float(s), "box": clipped(x, w, h)}
            for x, s, c in zip(b.xyxy.tolist(), b.conf.tolist(), b.cls.tolist())]


DETECTORS = ["yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n",
             "rtdetr-resnet50"]


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes(onnxd, pictures, tmp_path, name):
    model, path = exported(name, pictures, tmp_path)
    found = 0
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        found += len(same_detections(f"Ultralytics {name}", said, boxes_of(predicted(model, picture)), 0.25))
    assert found > 20


def test_boxes_of_any_size(onnxd, pictures, tmp_path):
    """A dynamic export gets the picture padded to a multiple of the stride, not to a square."""
    model, path = exported("yolov8n", pictures, tmp_path, dynamic=True)
    found = 0
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        want = boxes_of(predicted(model, picture, rect=True))
        found += len(same_detections("Ultralytics yolov8n, any size", said, want, 0.25))
    assert found > 20


def test_boxes_suppressed_in_the_graph(onnxd, pictures, tmp_path):
    model, path = exported("yolo11n", pictures, tmp_path, nms=True)
    found = 0
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        found += len(same_detections("Ultralytics yolo11n, NMS inside", said, boxes_of(predicted(model, picture)), 0.25))
    assert found > 20


RAW = {  # what of the head stays in the graph
    "joint": lambda head, x: [torch.cat([box(v), score(v)], 1) for v, box, score in zip(x, head.cv2, head.cv3)],
    "pairs": lambda head, x: [part(v) for v, box, score in zip(x, head.cv2, head.cv3) for part in (box, lambda v, s=score: s(v).sigmoid())],
    "lists": lambda head, x: [torch.cat([part(v).flatten(2) for v, part in zip(x, parts)], 2) for parts in (head.cv2, head.cv3)],
}


@pytest.mark.parametrize("name, kind", [("yolov8n", "joint"), ("yolo11n", "pairs"), ("yolo12n", "lists")])
def test_heads_without_their_distributions_decoded(onnxd, pictures, tmp_path, name, kind):
    """As exports for small devices have it."""
    from ultralytics import YOLO
    model, _ = exported(name, pictures, tmp_path)
    net = YOLO(tmp_path / "random.pt").model.float().eval()
    net.model[-1].forward = lambda x: tuple(RAW[kind](net.model[-1], x))
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(net, (batch_of(pictures[:1], SIDE),), path, dynamo=False, input_names=["images"], opset_version=17)
    (path.parent / "model.json").write_text(json.dumps(
        {"task": "detect", "decoder": "yolov8-heads", "iou_threshold": 0.7, "max_detections": 300, "parameters": {"activation": int(kind != "pairs")},
         "preprocess": {"fit": "letterbox", "centered": True, "enlarge": True, "antialias": False, "pad": 114, "rescale": 1 / 255}}))
    found = 0
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        found += len(same_detections(f"Ultralytics {name}, DFL outside, {kind}", said, boxes_of(predicted(model, picture)), 0.25))
    assert found > 20


@pytest.mark.parametrize("name", ["yolov8n-seg", "yolov9c-seg", "yolo11n-seg", "yolo26n-seg"])
def test_masks(onnxd, pictures, tmp_path, name):
    model, path = exported(name, pictures, tmp_path)
    found = 0
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        result = predicted(model, picture, retina_masks=True)
        want = boxes_of(result)
        for w, mask in zip(want, result.masks.data if result.masks else []):
            w["mask"] = mask.numpy().astype(bool)
        # Ultralytics leaves out what has an empty mask
        said["detections"] = [d for d in said["detections"] if decoded(d["mask"]).any()]
        pairs = same_detections(f"Ultralytics {name}", said, want, 0.25)
        same_masks(f"Ultralytics {name}", pairs)
        found += len(pairs)
    assert found > 20


@pytest.mark.parametrize("name", ["yolov8n-pose", "yolo11n-pose", "yolo26n-pose"])
def test_keypoints(onnxd, pictures, tmp_path, name):
    model, path = exported(name, pictures, tmp_path)
    found = 0
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        result = predicted(model, picture)
        want = boxes_of(result)
        for w, points in zip(want, result.keypoints.data.tolist()):
            w["points"] = points
        for g, w in same_detections(f"Ultralytics {name}", said, want, 0.25):
            (h, w_), got, points = result.orig_shape, np.array(g["keypoints"]), np.array(w["points"])
            got[:, :2] = np.clip(got[:, :2], 0, [w_, h])
            off = np.abs(got - points).max(0)
            REPORT.add(f"Ultralytics {name}", other=off[:2].max() / max(w_, h))
            assert off[:2].max() < 0.001 * max(w_, h) and off[2] <= SCORE
            found += 1
    assert found > 20


@pytest.mark.parametrize("name", ["yolov8n-obb", "yolo11n-obb", "yolo26n-obb"])
def test_turned_boxes(onnxd, pictures, tmp_path, name):
    from shapely.geometry import Polygon
    model, path = exported(name, pictures, tmp_path)
    found = 0
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        result = predicted(model, picture)
        want, (h, w) = [], result.orig_shape
        for x, s, c in zip(result.obb.xyxyxyxy.tolist(), result.obb.conf.tolist(), result.obb.cls.tolist()):
            flat = np.array(x)
            want.append({"label": int(c), "score": float(s), "corners": flat,
                         "box": clipped([*flat.min(0), *flat.max(0)], w, h)})
        for g, w in same_detections(f"Ultralytics {name}", said, want, 0.25):
            a, b = Polygon(np.reshape(g["corners"], (4, 2))), Polygon(w["corners"])
            sides = np.linalg.norm(w["corners"][:2] - w["corners"][1:3], axis=1)
            if sides.min() < sides.max() / 10:  # so thin that the last digits of its angle decide
                continue
            assert a.intersection(b).area / a.union(b).area >= BOX
            found += 1
    assert found > 20


@pytest.mark.parametrize("name", ["yolov8n-cls", "yolo11n-cls", "yolo26n-cls"])
def test_classes(onnxd, pictures, tmp_path, name):
    model, path = exported(name, pictures, tmp_path)
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        same_classes(f"Ultralytics {name}", said, predicted(model, picture).probs.data.numpy(), model.names)


def test_semantic_map(onnxd, pictures, tmp_path):
    """The export finds the best class in the graph, at the input's extents; without it Ultralytics does after enlarging."""
    from ultralytics import YOLO
    _, path = exported("yolo26n-sem", pictures, tmp_path)
    model = YOLO(path)
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        same_segmentation("Ultralytics yolo26n-sem", said, np.asarray(predicted(model, picture).semantic_mask.data))


def test_depth(onnxd, pictures, tmp_path):
    model, path = exported("yolo26n-depth", pictures, tmp_path)
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        same_depth("Ultralytics yolo26n-depth", said, np.asarray(predicted(model, picture).depth.data))
