"""Families whose tools cannot be had from a registry: small networks with their inputs and outputs, and the steps before and
behind by their documentation and papers."""
import numpy as np
import torch
from PIL import Image

from peers import REPORT, SCORE, answers, card, clipped, corners
from weights import Picked, spread_logits


def opened(pictures):
    return [np.asarray(Image.open(p).convert("RGB")) for p in pictures]


def letterboxed(image, width, height):
    """In the middle, over black; with what brings points back."""
    import cv2
    h, w = image.shape[:2]
    r = min(width / w, height / h)
    rw, rh = round(w * r), round(h * r)
    out = np.zeros((height, width, 3), np.uint8)
    dx, dy = (width - rw) // 2, (height - rh) // 2
    out[dy:dy + rh, dx:dx + rw] = cv2.resize(image, (rw, rh), interpolation=cv2.INTER_LINEAR)
    return out, np.array([dx, dy]), np.array([rw / w, rh / h])


def near(family, got, want, extent):
    off = np.abs(np.asarray(got) - want).max() / extent
    REPORT.add(family, found=len(want), other=off)
    assert off < 0.001, (got, want)


# ---- MoveNet: levels as int32, rows first -------------------------------------------------------

class MoveNet(torch.nn.Module):
    """Numbers from 0 to 1 out of pooled features, in MoveNet's extents."""

    def __init__(self, *extents):
        super().__init__()
        self.extents = extents
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 7, 4), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 5, 4), torch.nn.ReLU(),
                                        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.last = torch.nn.Linear(32, int(np.prod(extents)))

    def forward(self, x):
        x = self.body(x.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return self.last(x).sigmoid().reshape(-1, *self.extents)


def export_movenet(net, x, folder, **axes):
    path = folder / "model.onnx"
    torch.onnx.export(Picked(net, lambda n, v: n(v)), (x,), path, dynamo=False, input_names=["input"], output_names=["output_0"], **axes)
    return path


def whole(image):
    return torch.tensor(image[None].astype(np.int32))


def test_movenet(onnxd, pictures, tmp_path):
    torch.manual_seed(6)
    net = MoveNet(1, 17, 3)
    inputs = [letterboxed(im, 192, 192) for im in opened(pictures)]
    spread_logits(net, net, torch.cat([whole(x) for x, _, _ in inputs]))
    path = export_movenet(net, whole(inputs[0][0]), tmp_path)
    shown = card(onnxd, path)
    assert shown["task"] == "pose" and shown["labels"][9] == "left wrist" and shown["layout"] == "nhwc"
    for (x, begin, scale), im, said in zip(inputs, opened(pictures), answers(onnxd, path, pictures)):
        with torch.no_grad():
            out = net(whole(x))[0, 0].numpy()
        near("MoveNet", [k["point"] for k in said["keypoints"]], (out[:, [1, 0]] * 192 - begin) / scale, max(im.shape))
        off = np.abs([k["score"] for k in said["keypoints"]] - out[:, 2]).max()
        REPORT.add("MoveNet", score=off)
        assert off <= SCORE


def test_movenet_of_six(onnxd, pictures, tmp_path):
    """The longer side becomes 256, the other is padded to a multiple of 32."""
    torch.manual_seed(6)
    net = MoveNet(6, 56)
    spread_logits(net, net, torch.cat([whole(letterboxed(im, 256, 256)[0]) for im in opened(pictures)]))
    inputs = []
    for im in opened(pictures):
        h, w = im.shape[:2]
        r = 256 / max(h, w)
        inputs.append(letterboxed(im, *(int(-(-round(side * r) // 32) * 32) for side in (w, h))))
    path = export_movenet(net, whole(inputs[0][0]), tmp_path, dynamic_axes={"input": {1: "height", 2: "width"}})
    found = 0
    for (x, begin, scale), im, said in zip(inputs, opened(pictures), answers(onnxd, path, pictures, "--score-threshold", 0.5)):
        with torch.no_grad():
            out = net(whole(x))[0].numpy()
        extents = np.array(x.shape[1::-1])
        kept = out[np.argsort(-out[:, 55])]
        kept = kept[kept[:, 55] > 0.5]
        assert len(said["detections"]) == len(kept)
        for d, row in zip(said["detections"], kept):
            points = row[:51].reshape(17, 3)
            got = np.array(d["keypoints"])
            near("MoveNet, six persons", got[:, :2], (points[:, [1, 0]] * extents - begin) / scale, max(im.shape))
            box = (row[[52, 51, 54, 53]].reshape(2, 2) * extents - begin) / scale
            near("MoveNet, six persons", corners(d), clipped(box.ravel(), im.shape[1], im.shape[0]), max(im.shape))
            off = max(np.abs(got[:, 2] - points[:, 2]).max(), abs(d["score"] - row[55]))
            REPORT.add("MoveNet, six persons", score=off)
            assert off <= SCORE and d["label"] == "person"
            found += 1
    assert found >= 5
