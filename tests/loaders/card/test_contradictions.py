"""Each key of a card with a value that contradicts the graph or the card itself: it is refused at load, with the reason."""
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import numpy_helper
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "http"))
import served  # noqa: E402

PICTURE = ("x", T.FLOAT, ["n", 3, 32, 32])


def model(outputs, picture=PICTURE, beside=()):
    """A graph of constants with outputs of these extents."""
    values = [numpy_helper.from_array(np.zeros(shape, np.float32), name + "_value") for name, shape in outputs.items()]
    nodes = [("Identity", [name + "_value"], [name], {}) for name in outputs]
    return served.model(nodes, [picture, *beside], [(name, T.FLOAT, shape) for name, shape in outputs.items()], values)


MODELS = {
    "classes": model({"y": [1, 4]}), "two": model({"y": [1, 4], "z": [1, 7]}), "map": model({"y": [1, 4, 8, 8]}), "vector": model({"y": [1, 8]}),
    "picture": model({"y": [1, 3, 32, 32]}), "depth": model({"y": [1, 32, 32]}), "heat": model({"y": [1, 5, 8, 8]}),
    "queries": model({"c": [1, 6, 4], "m": [1, 6, 8, 8]}), "yolo": model({"y": [1, 8, 84]}), "seg": model({"y": [1, 14, 84], "p": [1, 8, 8, 8]}),
    "pose": model({"y": [1, 20, 84]}), "obb": model({"y": [1, 7, 84]}), "anchors": model({"a": [1, 21, 4, 4], "b": [1, 21, 2, 2]}),
    "ssd": model({"b": [1, 10, 4], "s": [1, 10, 3]}),
    "one": model({"y": [1, 4]}, ("x", T.FLOAT, [1, 3, 32, 32])), "eight": model({"y": [8, 4]}, ("x", T.FLOAT, [8, 3, 32, 32])),
    "bare": model({"y": [4]}, ("x", T.FLOAT, [3, 32, 32])), "bytes": model({"y": [1, 4]}, ("x", T.UINT8, ["n", 3, 32, 32])),
    "gray": model({"y": [1, 4]}, ("x", T.FLOAT, ["n", 1, 32, 32])), "free": model({"y": [1, 4]}, ("x", T.FLOAT, ["n", 3, "h", "w"])),
    "wide": model({"y": [1, 4]}, ("x", T.INT64, ["n", 3, 32, 32])), "flat": model({"y": [1, 4]}, ("x", T.FLOAT, ["n", 32])),
    "beside": model({"y": [1, 4]}, beside=[("k", T.FLOAT, [2])]),
}
STRETCH = {"fit": "stretch", "width": 32, "height": 32}
CROP = {"fit": "crop", "width": 32, "height": 32, "shorter": 36}


def classify(**more):
    return {"task": "classify", **more}


def detect(decoder, **more):
    return {"task": "detect", "decoder": decoder, **more}


def steps(**more):
    return classify(preprocess={**STRETCH, **more})


BAD = [
    # task
    ("classes", detect("yolov8"), "output 0 has extents 1x4"), ("classes", {"task": "detect"}, "'decoder' is missing"),
    ("classes", {"task": "segment"}, "output 0 has extents 1x4"), ("classes", {"task": "pose"}, "output 0 has extents 1x4"),
    ("classes", {"task": "image"}, "output 0 has extents 1x4"), ("map", classify(), "output 0 has extents 1x4x8x8"),
    ("map", {"task": "embed"}, "output 0 has extents 1x4x8x8"),
    # input, layout
    ("classes", classify(input="q"), "no input 'q'"), ("beside", classify(input="k"), "'k' has 1 extents"), ("flat", classify(), "'x' has 2 extents"),
    ("wide", classify(), "'x' is int64"), ("beside", classify(), "wants 'k' beside the picture"), ("eight", classify(), "8 pictures at once"),
    ("classes", classify(layout="nhwc"), "'layout' is nhwc"), ("classes", classify(layout="chwn"), "nchw, nhwc"), ("classes", classify(background=256), "0 to 255"),
    # decoder
    ("classes", classify(decoder="yolov8"), "for classify there are"), ("vector", {"task": "embed", "decoder": "softmax"}, "for task embed there is none"),
    ("heat", {"task": "pose", "decoder": "argmax"}, "for task pose there are"), ("map", {"task": "segment", "decoder": "softmax"}, "for segment there are"),
    ("picture", {"task": "image", "decoder": "argmax"}, "for task image there are"), ("yolo", detect("softmax"), "for task detect there are"),
    ("depth", {"task": "image", "decoder": "picture"}, "1x3x"), ("picture", {"task": "image", "decoder": "depth"}, "1x1x"),
    ("map", {"task": "segment", "decoder": "sigmoid"}, "1x1x"), ("yolo", detect("yolov8-seg"), "reads 2 outputs, not 1"),
    # outputs
    ("two", classify(outputs=["q"]), "no output 'q'"), ("two", classify(outputs=["y", "z"]), "one is read"), ("two", classify(outputs=["y", "y"]), "'y' twice"),
    ("two", {"task": "embed", "outputs": ["y", "z"]}, "one is read"), ("queries", {"task": "segment", "decoder": "argmax", "outputs": ["m", "c"]}, "one is read"),
    ("seg", detect("yolov8", outputs=["y", "p"]), "reads 1 outputs, not 2"), ("queries", {"task": "segment", "decoder": "maskformer", "outputs": ["m", "c"]}, "extents"),
    # labels
    ("classes", classify(labels=["a"]), "'labels' are 1; the model has 4"), ("map", {"task": "segment", "labels": ["a", "b"]}, "'labels' are 2; the model has 4"),
    ("yolo", detect("yolov8", labels=["a"]), "'labels' are 1; the model has 4"), ("seg", detect("yolov8-seg", labels=["a"]), "the model has 2"),
    ("obb", detect("yolov8-obb", labels=["a"]), "the model has 2"), ("heat", {"task": "pose", "labels": ["a"]}, "the model has 5"),
    ("anchors", detect("yolov3", labels=["a"], parameters={"anchors": [1] * 12}), "the model has 2"), ("ssd", detect("ssd", labels=["a"], parameters={"priors": [1] * 40}), "has 2"),
    ("queries", {"task": "segment", "decoder": "maskformer-instance", "labels": ["a"]}, "the model has 3"),
    ("vector", {"task": "embed", "labels": ["a"]}, "mean nothing for the task embed"), ("picture", {"task": "image", "labels": ["a"]}, "mean nothing for the task image"),
    # heads
    ("yolo", detect("yolov8", heads=[{"name": "a"}]), "for task classify"), ("classes", classify(heads=[{"name": "a", "first": 3, "count": 2}]), "2 classes from 3 on of 4"),
    ("two", classify(heads=[{"name": "a", "output": "q"}]), "one of the model's outputs"), ("map", classify(heads=[{"name": "a"}]), "head 'a'"),
    ("two", classify(heads=[{"name": "a", "output": "z", "labels": ["b"]}]), "the model has 7"), ("two", classify(outputs=["y"], heads=[{"name": "a"}]), "too much"),
    # numbers that requests may change
    ("classes", classify(top_k=0), "'top_k' is 0"), ("classes", classify(score_threshold=2), "from 0 to 1"), ("classes", classify(iou_threshold=-1), "from 0 to 1"),
    ("classes", classify(max_detections=0), "'max_detections' is 0"), ("map", {"task": "segment", "class_agnostic": True}, "for task detect"),
    ("classes", classify(crops=3, preprocess=CROP), "1, 5 or 10"), ("classes", classify(crops=5, preprocess=STRETCH), "wants the 'fit' crop"),
    ("classes", classify(crops=5, preprocess={**CROP, "shorter": 20}), "does not hold crops of 32 x 32"), ("yolo", detect("yolov8", crops=5), "for task classify"),
    ("classes", classify(crop_mean="outputs"), "for 'crops'"),
    # parameters
    ("yolo", detect("yolov8", parameters={"soft_nsm": 0.5}), "no decoder has 'soft_nsm'"), ("yolo", detect("yolov8", parameters={"soft_nms": -1}), "from 0 to 100"),
    ("yolo", detect("yolov8", parameters={"soft_nms": [1, 2]}), "'soft_nms' are 2 numbers"), ("pose", detect("yolov8-pose", parameters={"keypoints": [5]}), "'keypoints' are 1"),
    ("pose", detect("yolov8-pose", parameters={"keypoints": [5, 4]}), "of 2 or 3"), ("pose", detect("yolov8-pose", parameters={"keypoints": [17, 3]}), "more than 55 are wanted"),
    ("anchors", detect("yolov3", parameters={"anchors": [1, 2, 3]}), "'anchors' are too few"), ("ssd", detect("ssd", parameters={"priors": [1, 2, 3]}), "10 boxes need 40"),
    ("ssd", detect("ssd", parameters={"priors": [1] * 40, "variances": [1]}), "'variances' are 1"), ("ssd", detect("ssd", parameters={"priors": [1] * 40, "activation": 7}), "'activation' is 7"),
    ("queries", {"task": "segment", "decoder": "maskformer", "parameters": {"enlarge": [0]}}, "'enlarge'"),
    # constants
    ("beside", classify(constants={"k": 1}), "1 numbers do not fill 'k'"), ("beside", classify(constants={"q": 1}), "no input 'q'"),
    # preprocess
    ("classes", steps(width=40), "'width' is 40; the model's input has 32"), ("classes", steps(height=40), "'height' is 40; the model's input has 32"),
    ("classes", steps(colors="gray"), "makes 1 channels"), ("gray", steps(colors="rgb"), "makes 3 channels"), ("bytes", steps(rescale=0.5), "uint8"), ("bytes", steps(mean=1), "uint8"),
    ("bytes", steps(std=2), "uint8"), ("classes", steps(fit="none"), "fixed width of 32"), ("classes", steps(fit="shorter", shorter=32), "fixed width of 32"),
    ("classes", steps(fit="multiples", multiple=32), "fixed width of 32"), ("classes", steps(fit="letterbox", multiple=32), "fixed width of 32"),
    ("classes", steps(fit="crop"), "'shorter' or 'longer'"), ("classes", steps(fit="crop", resize_width=40), "'resize_width' and 'resize_height'"),
    ("free", steps(fit="multiples"), "'multiple' is wanted"), ("free", steps(fit="shorter"), "'shorter' is wanted"), ("classes", steps(filter="cubic"), "bicubic"),
    ("classes", steps(std=0), "'std'"), ("classes", steps(rescale=0), "'rescale'"), ("classes", steps(pad=300), "'pad'"),
    *[("classes", steps(**{key: value}), f"'{key}' means nothing with the 'fit' stretch") for key, value in
      (("shorter", 40), ("longer", 40), ("resize_width", 40), ("multiple", 32), ("above", True), ("mirror", True), ("centered", True), ("enlarge", True), ("crop_floor", True))],
    # batching, then
    ("one", classify(batching={"max_batch_size": 8}), "takes one picture"), ("bare", classify(batching={"max_batch_size": 8}), "takes one picture"),
    ("classes", classify(batching={"max_queue": 0}), "'max_queue' is 0"), ("classes", classify(then=[{"model": "a"}]), "for task detect"),
    ("yolo", detect("yolov8", then=[{"model": "a", "of": ["x"]}]), "no label 'x'"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contradictions")
    for name, proto in MODELS.items():
        onnx.save(proto, folder / f"{name}.onnx")
    Image.new("RGB", (40, 40)).save(folder / "picture.png")
    return folder


def predict(onnxd, folder, name, card):
    (folder / "card.json").write_text(json.dumps(card))
    return subprocess.run([onnxd, "predict", folder / f"{name}.onnx", folder / "picture.png", "--card", folder / "card.json", "--threads", "1"], capture_output=True, text=True)


def test_what_contradicts_is_refused_with_the_reason(onnxd, folder):
    wrong = []
    for name, card, words in BAD:
        done = predict(onnxd, folder, name, card)
        if done.returncode != 1 or words not in done.stderr:
            wrong.append((name, card, words, done.returncode, done.stderr))
    assert not wrong


@pytest.mark.parametrize("name, card", [
    ("classes", classify(preprocess=CROP, crops=10, labels=list("abcd"))), ("two", classify(outputs=["z"])), ("two", classify(heads=[{"name": "a", "first": 2}])),
    ("yolo", detect("yolov8", class_agnostic=True, parameters={"soft_nms": 0.5})), ("pose", detect("yolov8-pose", parameters={"keypoints": [5, 3]})),
    ("classes", classify(batching={"max_batch_size": 8})), ("classes", steps(mirror=False)), ("vector", {"task": "embed"}), ("bytes", steps())])
def test_what_agrees_is_taken(onnxd, folder, name, card):
    done = predict(onnxd, folder, name, card)
    assert done.returncode == 0, done.stderr


def test_every_key_of_a_card_is_among_these(root):
    """Keys that come anew must be thought of here."""
    text = (root / "loaders/card/fields.c").read_text() + (root / "loaders/card/json.c").read_text()
    keys = set(re.findall(r'^    \{"(\w+)", LDR_FIELD', text, re.M)) | set(re.findall(r'strcmp\((?:j|k)->string, "(\w+)"\)', text))
    here = json.dumps([card for _, card, _ in BAD])
    missing = {k for k in keys if f'"{k}"' not in here}
    assert missing <= {"antialias", "resize_height", "margin", "align_corners", "max_queue_delay_us", "timeout_us", "versions"}, missing  # nothing in a graph says otherwise
