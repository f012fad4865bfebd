"""Operators whose numbers are drawn: shares, scales and that a seed repeats, since no two generators agree."""
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from oracle import make_model, refused, verify

F, B = TensorProto.FLOAT, TensorProto.BOOL


def dropout(x, ratio, outputs, more=(), **attrs):
    nodes = [helper.make_node("Dropout", ["x", "ratio", "train"], ["y", "mask"], **attrs), *more]
    constants = [numpy_helper.from_array(np.array(ratio, x.dtype), "ratio"), numpy_helper.from_array(np.array(True), "train")]
    return make_model(nodes, {"x": x}, outputs, initializers=constants)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.9])
def test_dropout_that_trains_drops_its_share_and_keeps_the_mean(onnxd, tmp_path, ratio):
    x = np.ones((40, 500), np.float32)
    more = [helper.make_node("Cast", ["mask"], ["kept"], to=F), helper.make_node("ReduceMean", ["kept"], ["share"], keepdims=0),
            helper.make_node("ReduceMean", ["y"], ["mean"], keepdims=0), helper.make_node("Mul", ["x", "kept"], ["wanted"]),
            helper.make_node("Mul", ["y", "back"], ["given"]), helper.make_node("Sub", ["given", "wanted"], ["difference"])]
    model = dropout(x, ratio, [("share", F), ("mean", F), ("difference", F)], more)
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 - ratio, np.float32), "back"))
    verify(onnxd, tmp_path, model, {"x": x}, [np.array(1 - ratio, np.float32), np.array(1, np.float32), np.zeros_like(x)], atol=0.05)


def test_a_seed_repeats(onnxd, tmp_path):
    x = np.ones((30, 30), np.float32)
    more = [helper.make_node("Dropout", ["x", "ratio", "train"], ["z"], seed=7), helper.make_node("Sub", ["y", "z"], ["d"])]
    verify(onnxd, tmp_path, dropout(x, 0.5, [("d", F)], more, seed=7), {"x": x}, [np.zeros_like(x)])


@pytest.mark.parametrize("ratio", [-0.5, 1.0, np.nan])
def test_dropping_everything_is_refused(onnxd, tmp_path, ratio):
    x = np.ones((3, 3), np.float32)
    assert "ratio" in refused(onnxd, tmp_path, dropout(x, ratio, [("y", F)]), {"x": x})
