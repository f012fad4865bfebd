"""Ultralytics: its own export to ONNX, its own predictor.

Weights are random. So that they say something, batch norms are given the statistics of the pictures, and the heads' last
layers are scaled and shifted until about forty places of a picture pass the threshold, with scores spread from there to one."""
import pathlib

import numpy as np
import pytest
import torch

from peers import answers, clipped, same_detections

SIDE = 256
SEEDS = {"yolov9t": 4}  # 3 for the others; here that gives a box two classes whose scores are the same


def calibrate_norms(net, batch):
    """Batch norms with what they would have seen in training."""
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    net.train()
    with torch.no_grad():
        net(batch)
    net.eval()


def batch_of(pictures, side):
    import cv2
    from ultralytics.data.augment import LetterBox
    arrays = [LetterBox((side, side))(image=cv2.imread(str(p)))[..., ::-1].copy() for p in pictures]
    return torch.tensor(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def spread_heads(net, batch, places=60):
    """Scale and shift each level's class scores so that the best is 0.98 and `places` of a picture pass the threshold."""
    head = net.model[-1]
    branches = [b for name in ("cv3", "one2one_cv3") for b in (getattr(head, name, None) or [])]
    seen = {}
    hooks = [b[-1].register_forward_hook(lambda m, i, o, b=b: seen.__setitem__(b, o)) for b in branches]
    with torch.no_grad():
        net(batch)
        for b, out in seen.items():
            x = out.amax(1).flatten().sort(descending=True).values
            cut, top = x[min(len(x) - 1, places // 3 * len(batch))], x[0]
            scale = 5 / (top - cut)
            b[-1].weight *= scale
            b[-1].bias[:] = (b[-1].bias - top) * scale + 4
        for name in ("cv2", "one2one_cv2", "cv4", "one2one_cv4"):
            for b in getattr(head, name, None) or []:
                b[-1].weight *= 3
    for h in hooks:
        h.remove()


def exported(name, pictures, folder, side=SIDE, **how):
    from ultralytics import RTDETR, YOLO
    torch.manual_seed(SEEDS.get(name, 3))
    kind = RTDETR if "rtdetr" in name else YOLO
    model = kind(f"{name}.yaml")
    net, batch = model.model, batch_of(pictures, side)
    calibrate_norms(net, batch)
    if hasattr(net.model[-1], "cv3"):
        spread_heads(net, batch)
    path = folder / "random.pt"  # its own names would be looked for on the net
    model.save(path)
    model = kind(path)
    onnx = model.export(format="onnx", imgsz=side, simplify=False, verbose=False, **how)
    return kind(path), pathlib.Path(onnx)


def predicted(model, picture, **how):
    return model.predict(picture, imgsz=SIDE, rect=False, verbose=False, device="cpu", save=False, **how)[0]


def boxes_of(result):
    b, (h, w) = result.boxes, result.orig_shape
    return [{"label": int(c), "score": float(s), "box": clipped(x, w, h)}
            for x, s, c in zip(b.xyxy.tolist(), b.conf.tolist(), b.cls.tolist())]


DETECTORS = ["yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n"]


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes(onnxd, pictures, tmp_path, name):
    model, path = exported(name, pictures, tmp_path)
    found = 0
    for picture, said in zip(pictures, answers(onnxd, path, pictures)):
        found += len(same_detections(f"Ultralytics {name}", said, boxes_of(predicted(model, picture)), 0.25))
    assert found > 20
