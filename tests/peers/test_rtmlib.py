"""rtmlib: the steps of RTMPose and YOLOX in numpy and OpenCV, around networks that are made here with their ends."""
import json

import cv2
import numpy as np
import torch
from rtmlib.tools.object_detection import yolox
from rtmlib.tools.pose_estimation.rtmpose import RTMPose

from peers import REPORT, SCORE, answers, clipped, same_detections
from weights import Picked, Pyramid, spread_layers, spread_logits


def opened(pictures):
    return [cv2.imread(str(p)) for p in pictures]


def tensor(x):
    return torch.tensor(np.ascontiguousarray(x.transpose(2, 0, 1)[None])).float()


def without_session(kind, **fields):
    """The tool without its ONNX Runtime session, which would want the file."""
    tool = object.__new__(kind)
    tool.__dict__.update(fields)
    return tool


class SimCC(torch.nn.Module):
    """Bells over the bins of x and of y, at places and of heights that linear layers say."""

    def __init__(self, points, width, height, bins=2):
        super().__init__()
        self.extents = (width * bins, height * bins)
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 7, 4), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 5, 4), torch.nn.ReLU(),
                                        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.last = torch.nn.Linear(32, points * 4)

    def forward(self, x):
        said = self.last(self.body(x)).sigmoid().reshape(len(x), -1, 4, 1)
        maps = [said[:, :, 2 + i] * torch.exp(-((torch.arange(n) - said[:, :, i] * n) / 12) ** 2) for i, n in enumerate(self.extents)]
        return tuple(maps)


def test_rtmpose(onnxd, pictures, tmp_path):
    """The outputs' names say what they are; that scores are means, as rtmlib has them and MMPose not, is added."""
    torch.manual_seed(3)
    tool = without_session(RTMPose, model_input_size=(192, 256), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), to_openpose=False)
    images = [im[..., ::-1] for im in opened(pictures)]
    steps = [tool.preprocess(np.ascontiguousarray(im), [0, 0, im.shape[1], im.shape[0]]) for im in images]
    net = SimCC(17, 192, 256)
    spread_logits(net, net, torch.cat([tensor(s[0]) for s in steps]))
    path = tmp_path / "model.onnx"
    torch.onnx.export(Picked(net, lambda n, x: n(x)), (tensor(steps[0][0]),), path, dynamo=False, input_names=["input"],
                      output_names=["simcc_x", "simcc_y"], dynamic_axes={"input": {0: "batch"}})
    for mean in (False, True):
        if mean:
            (tmp_path / "model.json").write_text(json.dumps({"parameters": {"mean": 1}}))
        for im, (x, center, scale), said in zip(images, steps, answers(onnxd, path, pictures)):
            with torch.no_grad():
                out = [o.numpy() for o in net(tensor(x))]
            points, scores = tool.postprocess(out, center, scale)
            if not mean:
                scores = np.minimum(out[0].max(-1), out[1].max(-1))
            off = np.abs(np.array([k["point"] for k in said["keypoints"]]) - points[0]).max() / max(im.shape)
            score = np.abs([k["score"] for k in said["keypoints"]] - scores[0]).max()
            REPORT.add("rtmlib RTMPose", found=17, score=score, other=off)
            assert off < 0.001 and score <= SCORE


def test_yolox(onnxd, pictures, tmp_path, monkeypatch):
    """A box has one class, as YOLOX's authors have it; rtmlib would give it every class whose score passes. In the same way the
    pixel more that rtmlib counts in each extent is made small, and boxes are brought back by the extents that the picture got, not
    by the ratio before rounding."""
    torch.manual_seed(4)
    kept, suppress = [], yolox.multiclass_nms

    def best_only(boxes, scores, **how):
        found, rows = suppress(boxes * 1e4, np.where(scores == scores.max(1, keepdims=True), scores, 0), **how)
        found[:, :4] /= 1e4
        kept.append((found, rows))
        return kept[-1]
    monkeypatch.setattr(yolox, "multiclass_nms", best_only)
    # at a height of 256 the product of 501 and 256 / 501 is cut to 255
    tool = without_session(yolox.YOLOX, model_input_size=(288, 320), nms_thr=0.45, score_thr=0.5, det_mode="multiclass")
    steps = [tool.preprocess(im) for im in opened(pictures)]
    net = Pyramid((8, 16, 32), 5 + 6)
    run = lambda: [net(tensor(x)) for x, _ in steps]
    spread_layers(net.heads, run, top=None)
    shift = torch.tensor([0, 0, 1.2, 1.2])[:, None, None]  # large boxes
    own = torch.randn(1, 11, 288 * 320 // 1024 * 21) * 0.05  # or all cells in the padding have the same scores

    def flat(n, x):
        x = torch.cat([torch.cat([m[:, :4] + shift, m[:, 4:] - 1], 1).flatten(2) for m in n(x)], 2) + own
        return torch.cat([x[:, :4], x[:, 4:].sigmoid()], 1).transpose(1, 2)
    path = tmp_path / "model.onnx"
    torch.onnx.export(Picked(net, flat), (tensor(steps[0][0]),), path, dynamo=False, input_names=["images"], output_names=["output"])
    (tmp_path / "model.json").write_text(json.dumps(
        {"task": "detect", "decoder": "yolox", "score_threshold": 0.5, "preprocess": {"colors": "bgr", "fit": "letterbox", "enlarge": True,
                                                                                      "antialias": False, "pad": 114}}))
    found = 0
    for im, (x, ratio), said in zip(opened(pictures), steps, answers(onnxd, path, pictures, "--max-detections", 2000)):
        with torch.no_grad():
            tool.postprocess(flat(net, tensor(x)).numpy())
        size = np.array(im.shape[1::-1])
        scale = np.tile((size * ratio).astype(int) / size, 2)
        want = [{"label": int(d[5]), "score": float(d[4]), "box": clipped(d[:4] / scale, *size)} for d in kept[-1][0]]
        found += len(same_detections("rtmlib YOLOX", said, want, 0.5))
    assert found > 20
