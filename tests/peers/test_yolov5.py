"""The package of YOLOv5 itself: its network with anchors, its letterbox and suppression."""
import json
import pathlib
import sys
import types
from unittest import mock

import cv2
import numpy as np
import onnx
import packaging.version
import pytest
import torch

for name in ("pandas", "seaborn"):  # of its plots
    sys.modules.setdefault(name, mock.MagicMock())
sys.modules.setdefault("pkg_resources", types.SimpleNamespace(parse_version=packaging.version.parse))  # newer setuptools have it no more

import yolov5.models.yolo as net
from yolov5.utils.augmentations import letterbox
from yolov5.utils.general import non_max_suppression

from peers import answers, card, clipped, same_detections
from weights import calibrate_norms, spread_layers

SIDE = 256


def prepared(pictures):
    """Each picture as the network takes it."""
    arrays = [letterbox(cv2.imread(str(p)), SIDE, auto=False)[0][..., ::-1].transpose(2, 0, 1) for p in pictures]
    return torch.tensor(np.stack(arrays)).float() / 255


def model_of(config, batch):
    torch.manual_seed(5)
    model = net.DetectionModel(str(pathlib.Path(net.__file__).parent / config), nc=7)
    calibrate_norms(model, batch)
    spread_layers(list(model.model[-1].m), lambda: model(batch), deviation=1.2, top=None)
    with torch.no_grad():
        for m in model.model[-1].m:
            m.bias.view(3, -1)[:, 4] -= 3.5  # most places see nothing
    return model


def found_by(model, x, image):
    """Boxes are brought back from where the picture lies in the input; the package does so from before rounding, up to half a pixel beside."""
    with torch.no_grad():
        rows = non_max_suppression(model(x[None])[0], 0.25, 0.45, max_det=1000)[0]
    size = np.array(image.shape[1::-1])
    inner = np.round(size * min(SIDE / size))
    rows[:, :4] = (rows[:, :4] - np.tile(np.floor((SIDE - inner) / 2), 2)) / np.tile(inner / size, 2)
    return [{"label": int(r[5]), "score": float(r[4]), "box": clipped(r[:4].tolist(), *image.shape[1::-1])} for r in rows]


def raw(head, x):
    return tuple(m(v).view(1, head.na, head.no, *v.shape[2:]).permute(0, 1, 3, 4, 2) for m, v in zip(head.m, x))


@pytest.mark.parametrize("config, kind", [("yolov5n.yaml", "decoded"), ("yolov5n.yaml", "raw"), ("hub/yolov3-tiny.yaml", "decoded")])
def test_boxes(onnxd, pictures, tmp_path, config, kind):
    batch = prepared(pictures)
    model, path = model_of(config, batch).eval(), tmp_path / "model.onnx"
    want = [found_by(model, x, cv2.imread(str(p))) for x, p in zip(batch, pictures)]
    head = model.model[-1]
    head.export = True
    if kind == "raw":
        head.forward = lambda x: raw(head, x)
    with torch.no_grad():
        torch.onnx.export(model, (batch[:1],), path, dynamo=False, input_names=["images"], opset_version=17)
    if kind == "raw":
        (tmp_path / "model.json").write_text(json.dumps(
            {"task": "detect", "decoder": "yolov5-heads", "preprocess": {"fit": "letterbox", "centered": True, "enlarge": True, "antialias": False,
                                                                         "pad": 114, "rescale": 1 / 255}}))
    else:  # what its exporter adds
        file = onnx.load(path)
        for key, value in (("stride", int(max(model.stride))), ("names", model.names)):
            file.metadata_props.add(key=key, value=str(value))
        onnx.save(file, path)
        assert card(onnxd, path)["decoder"] == "yolov5"
    count = 0
    for w, said in zip(want, answers(onnxd, path, pictures, "--max-detections", 1000)):
        count += len(same_detections(f"YOLOv5 {config[:-5].split('/')[-1]}, {kind}", said, w, 0.25))
    assert count > 20
