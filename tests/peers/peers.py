"""What the comparisons share: pictures, our answers, and what counts as the same."""
import base64
import json
import os
import subprocess

import numpy as np

SCORE, BOX, MASK = 1e-3, 0.99, 0.98  # how near scores must be, how much boxes and masks must overlap


class Report:
    """The worst of each family, printed at the end of the run."""

    def __init__(self):
        self.rows = {}

    def add(self, family, found=0, score=None, box=None, mask=None, other=None):
        row = self.rows.setdefault(family, {"found": 0, "score": None, "box": None, "mask": None, "other": None})
        row["found"] += found
        for key, value, worse in (("score", score, max), ("box", box, min), ("mask", mask, min), ("other", other, max)):
            if value is not None:
                row[key] = float(value) if row[key] is None else float(worse(row[key], value))


REPORT = Report()


def answers(onnxd, model, pictures, *flags):
    """What `onnxd predict` says of each picture, with the card it finds itself."""
    done = subprocess.run([onnxd, "predict", os.fspath(model), *map(os.fspath, pictures), "--json", "--threads", "1", *map(str, flags)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def card(onnxd, model):
    done = subprocess.run([onnxd, "inspect", os.fspath(model), "--card"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def same_classes(family, said, scores, labels=None):
    """The classes in the same order, but for those whose scores are as near as scores may differ anyway."""
    got, scores = said["classes"], np.asarray(scores, np.float64)
    want = np.argsort(-scores, kind="stable")[:len(got)]
    differences = [abs(c["score"] - scores[c["index"]]) for c in got]
    REPORT.add(family, found=len(got), score=max(differences))
    assert max(differences) <= SCORE
    for c, w in zip(got, want):
        assert c["index"] == w or abs(scores[c["index"]] - scores[w]) <= SCORE, (c, w)
        assert labels is None or c["label"] == labels[c["index"]]
    assert np.ptp(scores) > 20 * SCORE, "scores that are all alike show nothing"


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else float(tuple(a) == tuple(b))


def corners(d):
    x, y, w, h = d["box"]
    return [x, y, x + w, y + h]


def clipped(box, width, height):
    return [min(max(box[0], 0), width), min(max(box[1], 0), height), min(max(box[2], 0), width), min(max(box[3], 0), height)]


def mask_overlap(a, b):
    union = np.logical_or(a, b).sum()
    return 1.0 if union == 0 else np.logical_and(a, b).sum() / union


def decoded(mask):
    from pycocotools import mask as coco
    return coco.decode({"size": mask["size"], "counts": mask["counts"].encode()}).astype(bool)


def same_detections(family, said, want, threshold):
    """`want`: dictionaries with label, score, box (corners, within the picture), perhaps mask, keypoints, corners. Each has
    its partner in `said` and the other way around; only what is as near to the threshold as scores may differ can be missing.
    Of boxes narrower than two pixels rounding to hundredths decides the overlap, so they are left out of that. The pairs."""
    got, taken, pairs = said["detections"], set(), []
    for w in want:
        best, at = -1, None
        for i, g in enumerate(got):
            if i in taken or g["index"] != w["label"] or abs(g["score"] - w["score"]) > SCORE:
                continue
            o = overlap(corners(g), w["box"])
            if o > best:
                best, at = o, i
        if at is None:
            near = [(g["index"], g["score"], corners(g)) for g in got if overlap(corners(g), w["box"]) > 0.9]
            assert w["score"] < threshold + SCORE, ("not found", w["label"], w["score"], w["box"], near)
            continue
        taken.add(at)
        pairs.append((got[at], w))
        small = min(w["box"][2] - w["box"][0], w["box"][3] - w["box"][1]) < 2
        REPORT.add(family, found=1, score=abs(got[at]["score"] - w["score"]), box=None if small else best)
        assert small or best >= BOX, (best, got[at], w)
    for i, g in enumerate(got):
        assert i in taken or g["score"] < threshold + SCORE, ("only ours", g)
    scores = [g["score"] for g in got]
    assert scores == sorted(scores, reverse=True)
    return pairs


def same_masks(family, pairs):
    for g, w in pairs:
        if w["mask"].sum() < 100:
            continue  # a border pixel more or less is a large share of so little
        o = mask_overlap(decoded(g["mask"]), w["mask"])
        REPORT.add(family, mask=o)
        assert o >= MASK, (o, g["box"], w["mask"].sum())


def same_segmentation(family, said, want, clear=True):
    """`want`: a map of class numbers; `clear`: where it is compared."""
    seen = {c["index"]: decoded(c["mask"]) for c in said["segmentation"]["classes"]}
    present, counts = np.unique(want, return_counts=True)
    assert len(present) >= 2, "one class everywhere shows nothing"
    clear = np.broadcast_to(clear, want.shape)
    ours = np.full(want.shape, -1)
    for index, mask in seen.items():
        ours[mask] = index
    REPORT.add(family, found=len(present))
    assert (ours == want)[clear].mean() >= MASK
    for index, count in zip(present, counts):
        if count < want.size // 200:
            continue
        o = mask_overlap((ours == index)[clear], (want == index)[clear])
        REPORT.add(family, mask=o)
        assert o >= MASK, (index, o, count)


def levels(picture):
    """A base64 PNG of an answer as an array."""
    import io
    from PIL import Image
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))


def numbers(said):
    """An answer of format=floats or base64 as an array."""
    flat = np.array(said["data"], np.float32) if "data" in said else np.frombuffer(base64.b64decode(said["base64"]), "<f4")
    return flat.reshape(said["shape"])


def same_depth(family, said, want):
    """A map at the picture's size, its numbers or 255 levels between its least and its most."""
    image = said["image"]
    span = image["most"] - image["least"]
    got = image["least"] + levels(image["png"]).astype(np.float64) / 255 * span if "png" in image else numbers(image)
    assert got.shape == want.shape
    worst = np.abs(got - want).max() / np.ptp(want)
    REPORT.add(family + ("" if "png" in image else ", numbers"), found=1, other=worst)
    assert span > 0 and worst < (0.006 if "png" in image else 0.004)  # a level is 0.004
