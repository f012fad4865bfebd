"""Graphs that compute in float16 are run in float: types at the edges stay, casts inside go, sums are float's."""
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from oracle import make_model, same_as_ort, verify

H, F, I = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64


def node(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs.split(","), outputs.split(","), **attrs)


def const(name, value):
    return numpy_helper.from_array(value, name)


rng = np.random.default_rng(5)
X = rng.standard_normal((3, 40)).astype(np.float16)
W = (rng.standard_normal((40, 24)) / 8).astype(np.float16)
B = rng.standard_normal(24).astype(np.float16)


def wide(x):
    return x.astype(np.float32)


def check(onnxd, tmp_path, nodes, feeds, outputs, wanted, constants):
    model = make_model(nodes, feeds, outputs, initializers=constants)
    verify(onnxd, tmp_path, model, feeds, wanted, rtol=2e-3, atol=2e-3)


def test_inputs_and_outputs_stay_half(onnxd, tmp_path):
    y = wide(X) @ wide(W) + wide(B)
    check(onnxd, tmp_path, [node("MatMul", "x,w", "m"), node("Add", "m,b", "y"), node("Relu", "y", "z")], {"x": X},
          [("y", H), ("z", H)], [y.astype(np.float16), np.maximum(y, 0).astype(np.float16)], [const("w", W), const("b", B)])


def test_casts_inside_and_moves_follow(onnxd, tmp_path):
    shape = const("shape", np.array([4, -1], np.int64))
    nodes = [node("Cast", "x", "h", to=H), node("MatMul", "h,w", "m"), node("Add", "m,b", "a"), node("Reshape", "a,shape", "r"),
             node("Transpose", "r", "t"), node("Cast", "t", "y", to=F), node("Shape", "t", "s")]
    y = (wide(X) @ wide(W) + wide(B)).reshape(4, -1).T
    check(onnxd, tmp_path, nodes, {"x": wide(X)}, [("y", F), ("s", I)], [np.ascontiguousarray(y), np.array(y.shape)],
          [const("w", W), const("b", B), shape])


@pytest.mark.parametrize("large", [1e3, 6e4])
def test_a_long_sum_does_not_lose_digits(onnxd, tmp_path, large):
    """4096 products of one, between a large number and its negative."""
    x = np.ones((1, 4098), np.float16)
    w = np.ones((4098, 1), np.float16)
    w[0], w[-1] = large, -large
    nodes = [node("MatMul", "x,w", "m"), node("Mul", "m,two", "y")]
    check(onnxd, tmp_path, nodes, {"x": x}, [("y", H)], [np.full((1, 1), 8192, np.float16)],
          [const("w", w), const("two", np.array(2, np.float16))])


def test_a_type_named_by_an_attribute_is_kept(onnxd, tmp_path):
    """The graph is left as it is where an operator makes halves by its attribute."""
    nodes = [node("MatMul", "x,w", "m"), node("Relu", "m", "r"), node("EyeLike", "x", "e", dtype=H), node("MatMul", "e,w", "y")]
    check(onnxd, tmp_path, nodes, {"x": X}, [("r", H), ("y", H)],
          [np.maximum(wide(X) @ wide(W), 0).astype(np.float16), (np.eye(3, 40, dtype=np.float32) @ wide(W)).astype(np.float16)],
          [const("w", W)])


def test_halves_written_side_by_side_leave_each_other_alone(onnxd, tmp_path):
    """Three convolutions write the channels of one tensor, each through floats: the random numbers keep the graph half."""
    x = rng.standard_normal((2, 3, 9, 9)).astype(np.float16)
    w = [(rng.standard_normal((n, 3, 3, 3)) / 5).astype(np.float16) for n in (5, 4, 7)]
    nodes = [node("Conv", f"x,w{i}", f"c{i}", pads=[1] * 4) for i in range(3)]
    nodes += [helper.make_node("Concat", ["c2", "c0", "c1"], ["k"], axis=1), node("RandomUniformLike", "k", "r", low=1.0, high=1.0, dtype=H),
              node("Mul", "k,r", "m"), node("Relu", "m", "y")]
    model = make_model(nodes, {"x": x}, [("y", H)], initializers=[const(f"w{i}", v) for i, v in enumerate(w)])
    same_as_ort(onnxd, tmp_path, model, {"x": x}, rtol=2e-3, atol=2e-3)
