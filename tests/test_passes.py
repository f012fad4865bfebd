"""Each pass: it happens where it should, and the answer stays what ONNX Runtime gives without it."""
import json
import os
import re
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ONNXD = os.environ.get("ONNXD", os.path.join(ROOT, "build", "onnxd"))


class Net:
    """A small graph in the making; weights come from one seeded generator."""

    def __init__(self, opset=17):
        self.rng = np.random.default_rng(7)
        self.nodes, self.weights, self.inputs, self.opset, self.count = [], [], [], opset, 0

    def input(self, name, *dims):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        return name

    def const(self, value, dtype=np.float32):
        name = "c%d" % len(self.weights)
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *dims, scale=0.3, shift=0.0):
        return self.const(self.rng.standard_normal(dims) * scale + shift)

    def add(self, op, *inputs, outputs=1, **attrs):
        names = ["v%d" % (self.count + i) for i in range(outputs)]
        self.count += outputs
        self.nodes.append(helper.make_node(op, inputs, names, **attrs))
        return names[0] if outputs == 1 else names

    def batch_norm(self, x, channels):
        return self.add("BatchNormalization", x, self.weight(channels, shift=1), self.weight(channels),
                        self.weight(channels), self.const(self.rng.uniform(0.5, 2, channels)))

    def save(self, path, *outputs):
        outs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, outs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        onnx.save(model, path)


def check(tmp_path, net, feeds, *outputs, tolerance=1e-5):
    """Run through both, compare, and give the operators that are left after the passes."""
    path = str(tmp_path / "net.onnx")
    net.save(path, *outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    want = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(list(outputs), feeds)
    for extra in ([], ["--no-passes"], ["--threads", "1"]):
        out = tmp_path / ("out" + "".join(extra).replace("-", ""))
        args = [ONNXD, "run", path, "--output-dir", str(out)] + extra
        for name, value in feeds.items():
            np.save(tmp_path / (name + ".npy"), value)
            args += ["--input", "%s=%s" % (name, tmp_path / (name + ".npy"))]
        subprocess.run(args, check=True, timeout=60)
        for i, w in enumerate(want):
            got = np.load(next(out.glob("%d_*.npy" % i)))
            assert got.shape == w.shape
            assert np.max(np.abs(got - w)) <= tolerance * max(1e-6, np.max(np.abs(w))), extra
    left = subprocess.run([ONNXD, "inspect", path, "--json"], check=True, capture_output=True, timeout=60)
    return json.loads(left.stdout)["operators"]


def feed(*dims, seed=3):
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def test_batch_normalization_and_relu_go_into_the_convolution(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", "n", 3, "h", "w"), n.weight(8, 3, 3, 3), pads=[1, 1, 1, 1])
    y = n.add("Relu", n.batch_norm(x, 8))
    assert check(tmp_path, n, {"x": feed(2, 3, 9, 11)}, y) == {"Conv": 1}


def test_a_residual_goes_into_the_convolution(tmp_path):
    n = Net()
    x = n.input("x", 1, 8, 12, 12)
    a = n.add("Conv", x, n.weight(8, 8, 3, 3), n.weight(8), pads=[1, 1, 1, 1])
    y = n.add("Relu", n.add("Add", a, x))
    assert check(tmp_path, n, {"x": feed(1, 8, 12, 12)}, y) == {"Conv": 1}


def test_a_residual_behind_the_activation_keeps_its_place(tmp_path):
    n = Net()
    x = n.input("x", 1, 8, 12, 12)
    a = n.add("Relu", n.add("Conv", x, n.weight(8, 8, 1, 1), n.weight(8)))
    y = n.add("Add", x, a)
    assert check(tmp_path, n, {"x": feed(1, 8, 12, 12)}, y) == {"Conv": 1}


def test_a_sum_that_broadcasts_is_no_residual(tmp_path):
    n = Net()
    x = n.input("x", 1, 8, 12, 12)
    a = n.add("Conv", n.add("GlobalAveragePool", x), n.weight(8, 8, 1, 1))
    y = n.add("Add", a, x)
    assert "Add" in check(tmp_path, n, {"x": feed(1, 8, 12, 12)}, y)


def test_batch_normalization_goes_into_transposed_convolution(tmp_path):
    n = Net()
    x = n.add("ConvTranspose", n.input("x", 1, 6, 7, 5), n.weight(6, 2, 3, 3), group=2, strides=[2, 2])
    y = n.batch_norm(x, 4)
    assert check(tmp_path, n, {"x": feed(1, 6, 7, 5)}, y) == {"ConvTranspose": 1}


def test_scaling_goes_into_the_weights(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", 1, 3, 9, 9), n.weight(4, 3, 3, 3), n.weight(4))
    x = n.add("Mul", x, n.weight(4, 1, 1))
    x = n.add("Add", n.weight(1, 4, 1, 1), x)
    y = n.add("Div", x, n.const(2.5))
    assert check(tmp_path, n, {"x": feed(1, 3, 9, 9)}, y) == {"Conv": 1}


def test_repvgg_branches_become_one_convolution(tmp_path):
    n = Net()
    x = n.input("x", 1, 8, 10, 10)
    a = n.batch_norm(n.add("Conv", x, n.weight(8, 8, 3, 3), pads=[1, 1, 1, 1]), 8)
    b = n.batch_norm(n.add("Conv", x, n.weight(8, 8, 1, 1)), 8)
    y = n.add("Relu", n.add("Add", n.add("Add", a, b), n.batch_norm(x, 8)))
    assert check(tmp_path, n, {"x": feed(1, 8, 10, 10)}, y) == {"Conv": 1}


def test_dilated_branches_become_one_large_kernel(tmp_path):
    n = Net()
    x = n.input("x", 1, 6, 16, 16)
    a = n.add("Conv", x, n.weight(6, 1, 7, 7), group=6, pads=[3] * 4)
    b = n.add("Conv", x, n.weight(6, 1, 3, 3), group=6, pads=[3] * 4, dilations=[3, 3])
    y = n.add("Add", a, b)
    assert check(tmp_path, n, {"x": feed(1, 6, 16, 16)}, y) == {"Conv": 1}


def test_padding_goes_into_the_convolution(tmp_path):
    n = Net()
    p = n.add("Pad", n.input("x", 1, 3, 9, 9), n.const([0, 0, 1, 2, 0, 0, 3, 0], np.int64))
    y = n.add("Conv", p, n.weight(4, 3, 3, 3), strides=[2, 2])
    assert check(tmp_path, n, {"x": feed(1, 3, 9, 9)}, y) == {"Conv": 1}


def test_padding_with_another_value_stays(tmp_path):
    n = Net()
    p = n.add("Pad", n.input("x", 1, 3, 9, 9), n.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64), n.const(1.5))
    y = n.add("Conv", p, n.weight(4, 3, 3, 3))
    assert "Pad" in check(tmp_path, n, {"x": feed(1, 3, 9, 9)}, y)


def test_matmul_bias_and_gelu_become_one_product(tmp_path):
    n = Net()
    x = n.add("Add", n.add("MatMul", n.input("x", "n", 5, 16), n.weight(16, 24)), n.weight(24))
    e = n.add("Erf", n.add("Div", x, n.const(np.sqrt(2))))
    y = n.add("Mul", n.add("Mul", x, n.add("Add", e, n.const(1))), n.const(0.5))
    assert check(tmp_path, n, {"x": feed(3, 5, 16)}, y) == {"MatMul": 1}


@pytest.mark.parametrize("form", range(3))
def test_gelu_is_found_in_other_spellings(tmp_path, form):
    n = Net()
    x = n.input("x", 4, 33)
    if form == 0:
        e = n.add("Erf", n.add("Mul", x, n.const(0.70710678)))
        y = n.add("Mul", n.add("Mul", n.const(0.5), x), n.add("Add", n.const(1), e))
    elif form == 1:
        cube = n.add("Mul", n.add("Pow", x, n.const(3)), n.const(0.044715))
        t = n.add("Tanh", n.add("Mul", n.add("Add", x, cube), n.const(0.7978845608)))
        y = n.add("Mul", n.add("Mul", x, n.const(0.5)), n.add("Add", t, n.const(1)))
    else:
        square = n.add("Mul", n.add("Mul", x, x), n.const(0.044715))
        inner = n.add("Mul", n.add("Mul", x, n.const(0.7978845608)), n.add("Add", square, n.const(1)))
        y = n.add("Mul", n.add("Mul", x, n.add("Add", n.add("Tanh", inner), n.const(1))), n.const(0.5))
    assert check(tmp_path, n, {"x": feed(4, 33)}, y) == {"Gelu": 1}


def test_something_like_gelu_stays(tmp_path):
    n = Net()
    x = n.input("x", 4, 33)
    e = n.add("Erf", n.add("Mul", x, n.const(0.8)))
    y = n.add("Mul", n.add("Mul", n.const(0.5), x), n.add("Add", n.const(1), e))
    assert check(tmp_path, n, {"x": feed(4, 33)}, y) == {"Chain": 1}


def layer_norm(n, x, width, affine=True):
    d = n.add("Sub", x, n.add("ReduceMean", x, axes=[-1]))
    v = n.add("ReduceMean", n.add("Pow", d, n.const(2)), axes=[-1])
    y = n.add("Div", d, n.add("Sqrt", n.add("Add", v, n.const(1e-5))))
    return n.add("Add", n.add("Mul", y, n.weight(width)), n.weight(width)) if affine else y


@pytest.mark.parametrize("affine", [True, False])
def test_layer_normalization_is_found_in_its_parts(tmp_path, affine):
    n = Net()
    y = layer_norm(n, n.input("x", "n", 7, 40), 40, affine)
    assert check(tmp_path, n, {"x": feed(2, 7, 40)}, y) == {"LayerNormalization": 1}


def test_rms_normalization_is_found_in_its_parts(tmp_path):
    n = Net()
    x = n.input("x", 3, 7, 40)
    r = n.add("Sqrt", n.add("Add", n.add("ReduceMean", n.add("Pow", x, n.const(2)), axes=[-1]), n.const(1e-6)))
    y = n.add("Mul", n.add("Mul", x, n.add("Reciprocal", r)), n.weight(40))
    assert check(tmp_path, n, {"x": feed(3, 7, 40)}, y) == {"RMSNormalization": 1}


@pytest.mark.parametrize("spelling", ["silu", "mish", "hardsigmoid", "clip3", "clip6"])
def test_gated_activations_go_into_the_convolution(tmp_path, spelling):
    n = Net()
    x = n.add("Conv", n.input("x", 1, 3, 9, 9), n.weight(8, 3, 3, 3, scale=1), n.weight(8))
    if spelling == "silu":
        y = n.add("Mul", x, n.add("Sigmoid", x))
    elif spelling == "mish":
        y = n.add("Mul", x, n.add("Tanh", n.add("Softplus", x)))
    elif spelling == "hardsigmoid":
        y = n.add("Mul", n.add("HardSigmoid", x, alpha=1 / 6, beta=0.5), x)
    else:
        c = n.add("Clip", n.add("Add", x, n.const(3)), n.const(0), n.const(6))
        y = n.add("Div", n.add("Mul", x, c), n.const(6)) if spelling == "clip3" else n.add("Mul", x, n.add("Div", c, n.const(6)))
    assert check(tmp_path, n, {"x": feed(1, 3, 9, 9)}, y, tolerance=3e-5) == {"Conv": 1}


@pytest.mark.parametrize("mask", [False, True])
def test_attention_becomes_one_operator(tmp_path, mask):
    n = Net()
    x = n.input("x", "n", 19, 24)
    qkv = n.add("Add", n.add("MatMul", x, n.weight(24, 72)), n.weight(72))
    t = n.add("Transpose", n.add("Reshape", qkv, n.const([0, 19, 3, 4, 6], np.int64)), perm=[2, 0, 3, 1, 4])
    q, k, v = (n.add("Gather", t, n.const(i, np.int64), axis=0) for i in range(3))
    s = n.add("MatMul", n.add("Mul", q, n.const(6 ** -0.5)), n.add("Transpose", k, perm=[0, 1, 3, 2]))
    if mask:
        s = n.add("Add", s, n.weight(1, 4, 19, 19))
    o = n.add("MatMul", n.add("Softmax", s, axis=-1), v)
    y = n.add("Reshape", n.add("Transpose", o, perm=[0, 2, 1, 3]), n.const([0, 19, 24], np.int64))
    left = check(tmp_path, n, {"x": feed(2, 19, 24)}, y)
    assert left == {"MatMul": 1, "Reshape": 2, "Attention": 1}


def test_transposed_attention_with_a_temperature_becomes_one_operator(tmp_path):
    n = Net()
    q, k, v = (n.input(name, 2, 3, 20, 8) for name in "qkv")
    qt, kt, vt = (n.add("Transpose", name, perm=[0, 1, 3, 2]) for name in (q, k, v))
    s = n.add("Mul", n.add("MatMul", qt, n.add("Transpose", kt, perm=[0, 1, 3, 2])), n.weight(3, 1, 1))
    y = n.add("MatMul", n.add("Softmax", s, axis=-1), vt)
    left = check(tmp_path, n, {name: feed(2, 3, 20, 8, seed=i) for i, name in enumerate("qkv")}, y)
    assert left == {"Attention": 1}


def test_equal_nodes_become_one_and_unread_ones_go(tmp_path):
    n = Net()
    x = n.input("x", 4, 5)
    a, b = n.add("Softmax", x), n.add("Softmax", x)
    n.add("Log", a)
    y = n.add("MatMul", n.add("Transpose", a), b)
    assert check(tmp_path, n, {"x": feed(4, 5)}, y) == {"Softmax": 1, "Transpose": 1, "MatMul": 1}


def test_an_output_that_is_also_read_keeps_its_value(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", 1, 3, 9, 9), n.weight(4, 3, 3, 3))
    y = n.add("Relu", x)
    check(tmp_path, n, {"x": feed(1, 3, 9, 9)}, x, y)


def test_concatenations_of_concatenations_hold_their_parts(tmp_path):
    n = Net()
    parts = [n.input("x", 1, 8, 6, 6)]
    for i in range(4):  # as in DenseNet
        x = n.add("Concat", *parts, axis=1) if i else parts[0]
        x = n.add("Relu", n.batch_norm(x, 8 + 4 * i))
        parts.append(n.add("Conv", x, n.weight(4, 8 + 4 * i, 3, 3), pads=[1] * 4))
    y = n.add("Concat", n.add("Concat", *parts[1:3], axis=1), n.add("Concat", *parts[2:], axis=1), axis=1)
    check(tmp_path, n, {"x": feed(1, 8, 6, 6)}, y, parts[2])


def test_shuffled_channels_are_one_copy(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", "n", 3, 9, 7), n.weight(12, 3, 1, 1))
    x = n.add("Reshape", x, n.const([0, 3, 4, 9, 7], np.int64))
    x = n.add("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = n.add("Reshape", x, n.const([0, -1, 9, 7], np.int64))
    y = n.add("Conv", x, n.weight(8, 12, 3, 3))
    assert check(tmp_path, n, {"x": feed(2, 3, 9, 7)}, y) == {"Conv": 2, "Rearrange": 1}


def test_windows_of_an_image_are_one_copy(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", "n", 3, 8, 8), n.weight(6, 3, 1, 1))
    x = n.add("Reshape", x, n.const([0, 6, 2, 4, 2, 4], np.int64))
    x = n.add("Transpose", x, perm=[0, 2, 4, 3, 5, 1])
    y = n.add("Relu", n.add("Reshape", x, n.const([-1, 16, 6], np.int64)))
    assert check(tmp_path, n, {"x": feed(2, 3, 8, 8)}, y) == {"Conv": 1, "Rearrange": 1, "Relu": 1}


def test_a_transpose_that_others_read_stays(tmp_path):
    n = Net()
    x = n.add("Reshape", n.input("x", 1, 6, 4, 4), n.const([1, 2, 3, 4, 4], np.int64))
    t = n.add("Transpose", x, perm=[0, 2, 1, 3, 4])
    y = n.add("Reshape", t, n.const([1, 6, 4, 4], np.int64))
    check(tmp_path, n, {"x": feed(1, 6, 4, 4)}, y, t)


def test_elementwise_operators_in_a_row_become_one(tmp_path):
    n = Net()
    x = n.input("x", "n", 5, 33, 70)
    g = n.add("Mul", n.add("Tanh", x), n.add("Sigmoid", n.add("Add", x, n.weight(5, 1, 1))))
    y = n.add("Sqrt", n.add("Abs", n.add("Sub", n.add("Mul", g, n.weight(33, 1)), n.weight(70))))
    assert check(tmp_path, n, {"x": feed(2, 5, 33, 70)}, y) == {"Chain": 1}


def test_a_chain_works_through_other_types(tmp_path):
    n = Net()
    x = n.input("x", 3, 1000, 7)
    big = n.add("Greater", x, n.weight(1000, 1))
    other = n.add("And", big, n.add("Less", x, n.const(1.5)))
    y = n.add("Add", n.add("Where", other, n.add("Exp", x), n.const(-1)), n.add("Cast", big, to=TensorProto.FLOAT))
    assert check(tmp_path, n, {"x": feed(3, 1000, 7)}, y) == {"Chain": 1}


def test_a_chain_reads_and_writes_slices_of_channels(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", "n", 4, 9, 11), n.weight(24, 4, 3, 3), pads=[1] * 4)
    a, b = n.add("Split", x, n.const([12, 12], np.int64), outputs=2, axis=1)
    g = n.add("Mul", n.add("Mul", n.add("Tanh", a), n.add("Sigmoid", b)), n.weight(12, 1, 1))
    c = n.add("Concat", n.add("Conv", g, n.weight(8, 12, 1, 1)), g, axis=1)
    y = n.add("Conv", c, n.weight(6, 20, 1, 1))
    left = check(tmp_path, n, {"x": feed(2, 4, 9, 11)}, y)
    assert left == {"Chain": 1, "Concat": 1, "Conv": 3, "Split": 1}


@pytest.mark.parametrize("why", ["read elsewhere", "an output", "another shape"])
def test_a_value_that_others_see_ends_a_chain(tmp_path, why):
    n = Net()
    x = n.input("x", 2, 3, 40)
    v = n.add("Exp", n.add("Neg", n.input("z", 3, 1) if why == "another shape" else x))
    y = n.add("Add", x, v)
    z = n.add("ReduceSum", v, n.const([0], np.int64)) if why == "read elsewhere" else v
    feeds = {"x": feed(2, 3, 40)}
    if why == "another shape":
        feeds["z"] = feed(3, 1)
    left = check(tmp_path, n, feeds, *([y] if why == "another shape" else [y, z]))
    assert left["Chain"] == 1 and left["Add"] == 1


@pytest.mark.parametrize("dims", [(1, 1), (7, 2049), (2049, 7), (64, 31, 3), (4096,), (3, 5, 1, 6000)])
def test_chains_of_any_extents(tmp_path, dims):
    n = Net()
    x = n.input("x", *dims)
    y = n.add("Mul", n.add("Add", x, n.weight(*dims[1:])), n.add("Exp", x))
    y = n.add("Sub", y, n.weight(*dims[:1], *[1] * (len(dims) - 1)))
    assert check(tmp_path, n, {"x": feed(*dims)}, y) == {"Chain": 1}


def test_short_rows_against_columns_and_rows(tmp_path):
    n = Net()
    x = n.input("x", 9, 300, 24, 1)
    y = n.add("Mul", x, n.weight(300, 1, 8))
    assert check(tmp_path, n, {"x": feed(9, 300, 24, 1)}, y) == {"Mul": 1}


def view(n, x, *extents):
    """x reshaped as PyTorch writes it: each extent a number or the axis of x, as a string, that it is."""
    shape = n.add("Shape", x)
    parts = []
    for e in extents:
        e = n.add("Gather", shape, n.const(int(e), np.int64), axis=0) if isinstance(e, str) else n.const(e, np.int64)
        parts.append(n.add("Unsqueeze", e, n.const([0], np.int64)))
    return n.add("Reshape", x, n.add("Concat", *parts, axis=0))


def test_shape_arithmetic_that_no_request_changes_goes(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", "n", 3, 8, 8), n.weight(6, 3, 1, 1))
    y = n.add("Relu", view(n, n.add("Transpose", view(n, x, "0", "1", 64), perm=[0, 2, 1]), "0", 8, 8, "2"))
    assert check(tmp_path, n, {"x": feed(3, 3, 8, 8)}, y) == {"Conv": 1, "Rearrange": 1, "Relu": 1}


@pytest.mark.parametrize("length", [30, 50, 70])
def test_an_extent_that_only_seems_fixed_stays_open(tmp_path, length):
    n = Net()
    x = n.input("x", 2, "t")
    c = n.add("Slice", x, n.const([0], np.int64), n.const([50], np.int64), n.const([1], np.int64))
    s = n.add("Gather", n.add("Shape", c), n.const(1, np.int64), axis=0)
    y = n.add("Mul", c, n.add("Cast", s, to=TensorProto.FLOAT))
    check(tmp_path, n, {"x": feed(2, length)}, y)


@pytest.mark.parametrize("frames", [40, 200])
def test_a_quotient_of_a_free_extent_stays_open(tmp_path, frames):
    n = Net()
    x = n.input("x", 1, 4, "t")
    p = n.add("MaxPool", x, kernel_shape=[33], strides=[33])
    s = n.add("Gather", n.add("Shape", p), n.const(2, np.int64), axis=0)
    y = n.add("Mul", p, n.add("Cast", n.add("Div", s, n.const(3, np.int64)), to=TensorProto.FLOAT))
    check(tmp_path, n, {"x": feed(1, 4, frames)}, y)


def two_ways(n, condition, x):
    """If: the softmax of x, else its square of exponentials."""
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "tu"]
    yes = helper.make_graph([helper.make_node("Softmax", [x], ["t"])], "yes", [], out[:1])
    no = helper.make_graph([helper.make_node("Add", [x, x], ["d"]), helper.make_node("Exp", ["d"], ["u"])], "no", [], out[1:])
    return n.add("If", condition, then_branch=yes, else_branch=no)


@pytest.mark.parametrize("channels,left", [(1, {"Softmax": 1, "Relu": 1}), (2, {"Chain": 1})])
def test_an_if_with_a_known_condition_is_its_branch(tmp_path, channels, left):
    n = Net()
    x = n.input("x", "n", channels, 6)
    one = n.add("Equal", n.add("Gather", n.add("Shape", x), n.const([1], np.int64)), n.const([1], np.int64))
    y = n.add("Relu", two_ways(n, one, x))
    assert check(tmp_path, n, {"x": feed(3, channels, 6)}, y) == left


@pytest.mark.parametrize("extent", [1, 2])
def test_an_if_with_a_free_condition_stays(tmp_path, extent):
    n = Net()
    x = n.input("x", "n", "c", 6)
    one = n.add("Equal", n.add("Gather", n.add("Shape", x), n.const([1], np.int64)), n.const([1], np.int64))
    y = n.add("Relu", two_ways(n, one, x))
    assert check(tmp_path, n, {"x": feed(3, extent, 6)}, y)["If"] == 1


@pytest.mark.parametrize("act", ["Relu", "HardSwish", "Sigmoid"])
def test_an_activation_goes_into_the_normalization_before_it(tmp_path, act):
    n = Net()
    x = n.input("x", "n", 6, 9, 11)
    a = n.add(act, n.batch_norm(x, 6))
    b = n.add(act, n.add("InstanceNormalization", x, n.weight(6, shift=1), n.weight(6)))
    y = n.add("Concat", n.add("Conv", a, n.weight(5, 6, 1, 1)), b, axis=1)
    left = check(tmp_path, n, {"x": feed(2, 6, 9, 11)}, y)
    assert left == {"BatchNormalization": 1, "InstanceNormalization": 1, "Conv": 1, "Concat": 1}


def test_a_normalization_that_others_read_keeps_its_result(tmp_path):
    n = Net()
    b = n.batch_norm(n.input("x", 1, 6, 5, 5), 6)
    check(tmp_path, n, {"x": feed(1, 6, 5, 5)}, n.add("Relu", b), b)


def test_a_normalization_with_its_activation_stays_out_of_the_weights(tmp_path):
    n = Net()  # the second normalization is folded, the first, which has an activation by then, is not
    x = n.add("Relu", n.batch_norm(n.input("x", 1, 6, 9, 9), 6))
    y = n.batch_norm(n.add("Conv", x, n.weight(6, 6, 3, 3)), 6)
    assert check(tmp_path, n, {"x": feed(1, 6, 9, 9)}, y) == {"BatchNormalization": 1, "Conv": 1}


def local_response(n, x, size, before, beta=0.75):
    s = n.add("Unsqueeze", n.add("Mul", x, x), n.const([1], np.int64))
    s = n.add("Pad", s, n.const([0, 0, before, 0, 0, 0, 0, size - 1 - before, 0, 0], np.int64))
    s = n.add("AveragePool", s, kernel_shape=[size, 1, 1], strides=[1, 1, 1])
    s = n.add("Add", n.add("Mul", n.add("Squeeze", s, n.const([1], np.int64)), n.const(0.7)), n.const(2))
    return n.add("Div", x, n.add("Pow", s, n.const(beta)))


@pytest.mark.parametrize("size,beta", [(5, 0.75), (3, 0.4), (1, 0.75), (9, 0.75)])
def test_local_response_normalization_is_found_in_its_parts(tmp_path, size, beta):
    n = Net()
    y = local_response(n, n.input("x", "n", 7, 6, 5), size, size // 2, beta)
    assert check(tmp_path, n, {"x": feed(2, 7, 6, 5)}, y) == {"LRN": 1}


def test_a_window_to_one_side_is_no_local_response_normalization(tmp_path):
    n = Net()
    y = local_response(n, n.input("x", 1, 7, 6, 5), 5, 4)
    assert "AveragePool" in check(tmp_path, n, {"x": feed(1, 7, 6, 5)}, y)


def test_a_second_relu_goes(tmp_path):
    n = Net()
    x = n.add("Relu", n.add("Conv", n.input("x", 1, 3, 9, 9), n.weight(8, 3, 3, 3)))
    y = n.add("Conv", n.add("Relu", x), n.weight(4, 8, 1, 1))
    z = n.add("ReduceMean", n.add("Relu", x), axes=[2, 3])
    assert check(tmp_path, n, {"x": feed(1, 3, 9, 9)}, y, z) == {"Conv": 2, "ReduceMean": 1}


PADS = [0, 0, 1, 2, 0, 0, 1, 0]


@pytest.mark.parametrize("own,counts,left", [(0, 0, False), (0, 1, False), (1, 1, False), (1, 0, True)])
def test_padding_goes_into_a_mean_that_counts_it(tmp_path, own, counts, left):
    n = Net()
    p = n.add("Pad", n.input("x", "n", 3, 9, 8), n.const(PADS, np.int64))
    y = n.add("AveragePool", p, kernel_shape=[4, 4], strides=[2, 1], pads=[own] * 4, count_include_pad=counts)
    assert ("Pad" in check(tmp_path, n, {"x": feed(2, 3, 9, 8)}, y)) == left


def test_padding_stays_before_a_pool_that_hangs_over(tmp_path):
    n = Net()
    p = n.add("Pad", n.input("x", 1, 3, 9, 8), n.const(PADS, np.int64))
    y = n.add("AveragePool", p, kernel_shape=[4, 4], strides=[3, 3], ceil_mode=1)
    assert "Pad" in check(tmp_path, n, {"x": feed(1, 3, 9, 8)}, y)


@pytest.mark.parametrize("before,value,kernel,left", [
    (None, 0.0, 3, True), (None, -np.inf, 3, False), ("Relu", 0.0, 3, False), ("Relu", -1.0, 3, False), ("Relu", 0.5, 3, True),
    ("Concat", 0.0, 3, False), ("Clip", 0.5, 3, False), ("Relu", 0.0, 2, True), ("LeakyRelu", 0.0, 3, True)])
def test_padding_goes_into_a_maximum_that_it_cannot_be(tmp_path, before, value, kernel, left):
    n = Net()
    x = n.input("x", 1, 3, 9, 8)
    c = n.add("Conv", x, n.weight(3, 3, 1, 1))
    if before == "Concat":
        x = n.add("Concat", n.add("Relu", c), n.add("MaxPool", n.add("Sigmoid", x), kernel_shape=[1, 1]), axis=1)
    elif before == "Clip":
        x = n.add("Clip", c, n.const(0.75), n.const(2))
    elif before:
        x = n.add(before, c)
    p = n.add("Pad", x, n.const(PADS, np.int64), n.const(value))
    y = n.add("MaxPool", p, kernel_shape=[kernel, kernel], strides=[2, 2])
    assert ("Pad" in check(tmp_path, n, {"x": feed(1, 3, 9, 8)}, y)) == left


def test_padding_stays_before_a_maximum_that_tells_where(tmp_path):
    n = Net()
    p = n.add("Pad", n.add("Relu", n.input("x", 1, 3, 9, 8)), n.const(PADS, np.int64))
    y, where = n.add("MaxPool", p, outputs=2, kernel_shape=[3, 3])
    z = n.add("Cast", where, to=TensorProto.FLOAT)
    assert "Pad" in check(tmp_path, n, {"x": feed(1, 3, 9, 8)}, y, z)


def test_padding_of_named_axes_goes_into_the_convolution(tmp_path):
    n = Net(opset=18)
    p = n.add("Pad", n.input("x", 1, 3, 9, 9), n.const([1, 2, 0, 3], np.int64), "", n.const([-1, 2], np.int64))
    y = n.add("Conv", p, n.weight(4, 3, 3, 3), auto_pad="VALID")
    assert check(tmp_path, n, {"x": feed(1, 3, 9, 9)}, y) == {"Conv": 1}


def nhwc(n, x):
    return n.add("Transpose", x, perm=[0, 2, 3, 1])


def nchw(n, x):
    return n.add("Transpose", x, perm=[0, 3, 1, 2])


BETWEEN = {
    "activation and scale": (lambda n, x: n.add("Relu", n.add("Add", n.add("Mul", x, n.weight(8)), n.weight(1, 1, 1, 8))), {"Conv": 2}),
    "square": (lambda n, x: n.add("Mul", x, x), {"Conv": 2, "Mul": 1}),
    "gate": (lambda n, x: n.add("Mul", x, n.add("Sigmoid", x)), {"Conv": 2}),
    "padding": (lambda n, x: n.add("Pad", x, n.const([0, 1, 2, 0, 0, 3, 0, 0], np.int64)), {"Conv": 2}),
    "slice": (lambda n, x: n.add("Slice", x, n.const([1, 2], np.int64), n.const([7, 6], np.int64), n.const([1, -1], np.int64)), {"Conv": 2, "Slice": 1}),
    "clip": (lambda n, x: n.add("Clip", x, n.const(0.1), n.const(1)), {"Conv": 2}),
    "mean, kept": (lambda n, x: n.add("ReduceMean", x, axes=[1, 2]), {"Conv": 2, "ReduceMean": 1}),
    "a map of pixels": (lambda n, x: n.add("Add", x, n.weight(9, 9, 8)), None),
    "channels": (lambda n, x: n.add("ReduceMean", x, axes=[3]), None),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_transposes_around_other_operators_go(tmp_path, what):
    n = Net()
    make, left = BETWEEN[what]
    x = nhwc(n, n.add("Conv", n.input("x", "n", 3, 9, 9), n.weight(8, 3, 1, 1)))
    y = n.add("Conv", nchw(n, make(n, x)), n.weight(4, 1 if what == "channels" else 4 if what == "slice" else 8, 1, 1))
    got = check(tmp_path, n, {"x": feed(2, 3, 9, 9)}, y)
    assert got == left if left else "Transpose" in got


def test_transposes_around_a_concatenation_and_a_residual_go(tmp_path):
    n = Net()
    x = nhwc(n, n.add("Conv", n.input("x", "n", 8, 9, 9), n.weight(8, 8, 1, 1)))
    r = n.add("Relu", x)
    z = nhwc(n, n.add("Conv", nchw(n, r), n.weight(8, 8, 3, 3), pads=[1] * 4))
    c = n.add("Concat", n.add("Add", z, r), z, axis=-1)
    y = n.add("Conv", nchw(n, c), n.weight(4, 16, 1, 1))
    assert "Transpose" not in check(tmp_path, n, {"x": feed(2, 8, 9, 9)}, y)


def product(n, x, *extents):
    return n.add("Add", n.add("MatMul", x, n.weight(*extents)), n.weight(extents[-1]))


@pytest.mark.parametrize("form", ["images", "tokens", "rows", "plain"])
def test_factors_and_a_residual_go_into_the_product(tmp_path, form):
    n = Net()
    images, rows = form in ("images", "plain"), 1 if form == "rows" else 35
    x = n.input("x", "n", 8, 5, 7) if images else n.input("x", "n", rows, 8)
    x = n.add("Conv", x, n.weight(8, 8, 1, 1)) if images else n.add("Softmax", x)
    h = product(n, product(n, nhwc(n, x) if images else x, 8, 40), 40, 8)
    h = nchw(n, h) if images else h
    if form != "plain":
        h = n.add("Mul", n.weight(8, 1, 1) if images else n.weight(8), h)
    y = n.add("Add", x, h) if images else n.add("Relu", n.add("Add", x, h))
    got = check(tmp_path, n, {"x": feed(3, 8, 5, 7) if images else feed(3, rows, 8)}, y)
    assert got["MatMul"] == 2 and set(got) == ({"Conv", "MatMul", "Transpose"} if images else {"Softmax", "MatMul"})


@pytest.mark.parametrize("why", ["other axis", "read twice", "broadcast", "output", "no weights"])
def test_factors_that_are_none_of_channels_stay(tmp_path, why):
    n = Net()
    x = n.add("Softmax", n.input("x", 8, 8))
    w = x if why == "no weights" else n.weight(8, 8)
    h = n.add("MatMul", x, w)
    s = n.add("Mul", h, n.weight(8, 1) if why == "other axis" else n.weight(8))
    y = n.add("Add", s, n.add("ReduceMax", x, axes=[1]) if why == "broadcast" else x)
    outputs = {"read twice": [n.add("Mul", n.add("Exp", s), y)], "output": [s, y]}.get(why, [y])
    assert {"Mul", "Add", "Chain"} & set(check(tmp_path, n, {"x": feed(8, 8)}, *outputs))


@pytest.mark.parametrize("why", ["read twice", "copy", "another order"])
def test_a_sum_behind_a_transpose_stays_where_that_is_read_or_would_be_a_copy(tmp_path, why):
    n = Net()
    x = n.input("x", "n", 8, 8, 8)
    other = n.add("Softmax", x) if why == "copy" else n.add("Conv", x, n.weight(8, 8, 1, 1))
    h = n.add("Transpose", product(n, nhwc(n, other) if why != "copy" else other, 8, 8), perm=[0, 2, 3, 1] if why == "another order" else [0, 3, 1, 2])
    y = n.add("Add", other, h)
    z = n.add("Mul", y, n.add("Exp", h)) if why == "read twice" else y
    assert {"Add", "Chain"} & set(check(tmp_path, n, {"x": feed(2, 8, 8, 8)}, z))


@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_softmax_of_few_or_many_channels_is_the_same(tmp_path, channels, axis):
    n = Net()
    x = nchw(n, n.add("MatMul", n.input("x", "n", 6, 9, 5), n.weight(5, channels)))
    y = n.add("Mul", n.add("Softmax", x, axis=axis), n.add("LogSoftmax", x, axis=axis))
    assert check(tmp_path, n, {"x": feed(2, 6, 9, 5)}, y)["Softmax"] == 1


def test_a_mean_over_pixels_needs_no_transpose(tmp_path):
    n = Net()
    x = nhwc(n, n.add("Conv", n.input("x", "n", 8, 9, 9), n.weight(8, 8, 1, 1)))
    y = n.add("MatMul", n.add("ReduceMean", x, axes=[1, 2], keepdims=0), n.weight(8, 5))
    assert check(tmp_path, n, {"x": feed(2, 8, 9, 9)}, y) == {"Conv": 1, "ReduceMean": 1, "MatMul": 1}


def test_a_transpose_that_is_an_output_stays(tmp_path):
    n = Net()
    t = nhwc(n, n.add("Conv", n.input("x", "n", 8, 9, 9), n.weight(8, 8, 1, 1)))
    y = n.add("Relu", t)
    z = nchw(n, n.add("Exp", y))
    check(tmp_path, n, {"x": feed(2, 8, 9, 9)}, t, y, z)


@pytest.mark.parametrize("perms", [([0, 2, 1, 3], [3, 1, 0, 2]), ([1, 2, 3, 0], [3, 0, 1, 2])])
def test_two_transposes_are_one_or_none(tmp_path, perms):
    n = Net()
    x = n.add("Softmax", n.input("x", 2, 3, 4, 5))
    for p in perms:
        x = n.add("Transpose", x, perm=p)
    left = check(tmp_path, n, {"x": feed(2, 3, 4, 5)}, n.add("Log", x))
    assert left.get("Transpose", 0) == (1 if perms[0] == [0, 2, 1, 3] else 0)


END = 2 ** 63 - 1


def phase(n, x, row, column, block=2, at_once=False):
    one = lambda x, starts, axes: n.add("Slice", x, n.const(starts, np.int64), n.const([END] * len(axes), np.int64), n.const(axes, np.int64), n.const([block] * len(axes), np.int64))
    return one(x, [row, column], [2, 3]) if at_once else one(one(x, [row], [2]), [column], [3])


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("order,left", [("columns", 0), ("rows", 0), ("mixed", 1)])
def test_pixels_sliced_into_channels_are_one_copy(tmp_path, order, left, at_once):
    n = Net()
    x = n.input("x", "n", 3, 8, 10)
    order = {"rows": [(0, 0), (0, 1), (1, 0), (1, 1)], "columns": [(0, 0), (1, 0), (0, 1), (1, 1)], "mixed": [(0, 0), (1, 1), (0, 1), (1, 0)]}[order]
    y = n.add("Conv", n.add("Concat", *[phase(n, x, *p, at_once=at_once) for p in order], axis=1), n.weight(8, 12, 3, 3))
    assert ("Concat" in check(tmp_path, n, {"x": feed(2, 3, 8, 10)}, y)) == left


def test_nine_pixels_sliced_into_channels_are_one_copy(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", 1, 3, 9, 12), n.weight(5, 3, 1, 1))
    y = n.add("Conv", n.add("Concat", *[phase(n, x, i // 3, i % 3, 3) for i in range(9)], axis=1), n.weight(8, 45, 1, 1))
    assert check(tmp_path, n, {"x": feed(1, 3, 9, 12)}, y) == {"Conv": 2, "Rearrange": 1}


def roll(n, x, by, axis):
    a = n.add("Slice", x, n.const([by], np.int64), n.const([END], np.int64), n.const([axis], np.int64))
    b = n.add("Slice", x, n.const([0], np.int64), n.const([by], np.int64), n.const([axis], np.int64))
    return n.add("Concat", a, b, axis=axis)


def test_rolled_rows_are_one_copy_an_axis(tmp_path):
    n = Net()
    y = roll(n, roll(n, n.input("x", "n", 8, 9, 6), 3, 1), -2, 2)
    assert check(tmp_path, n, {"x": feed(2, 8, 9, 6)}, y) == {"Gather": 2}


def windows(n, x, items, high, wide, channels, side):
    x = n.add("Reshape", x, n.const([items, high // side, side, wide // side, side, channels], np.int64))
    x = n.add("Transpose", x, perm=[0, 1, 3, 2, 4, 5])
    return n.add("Reshape", x, n.const([-1, side * side, channels], np.int64))


def unwindows(n, x, high, wide, channels, side):
    x = n.add("Reshape", x, n.const([-1, high // side, wide // side, side, side, channels], np.int64))
    x = n.add("Transpose", x, perm=[0, 1, 3, 2, 4, 5])
    return n.add("Reshape", x, n.const([-1, high, wide, channels], np.int64))


@pytest.mark.parametrize("items", ["n", 1, 2])
def test_rolled_windows_go_into_the_normalization_and_the_sum(tmp_path, items):
    n = Net()
    x = n.input("x", items, 8, 12, 20)
    y = n.add("LayerNormalization", x, n.weight(20), n.weight(20), axis=-1, epsilon=1e-3)
    y = windows(n, roll(n, roll(n, y, 3, 1), -2, 2), -1, 8, 12, 20, 4)
    y = unwindows(n, n.add("MatMul", y, n.weight(20, 20)), 8, 12, 20, 4)
    y = n.add("Add", x, roll(n, roll(n, y, -3, 1), 2, 2))
    for count in [items] if items != "n" else [1, 3]:
        assert check(tmp_path, n, {"x": feed(count, 8, 12, 20)}, y) == {"GatherRows": 2, "MatMul": 1}


def test_a_normalization_that_others_read_stays(tmp_path):
    n = Net()
    x = n.add("LayerNormalization", n.input("x", "n", 8, 8, 16), n.weight(16), axis=-1)
    y = windows(n, roll(n, x, 3, 1), -1, 8, 8, 16, 4)
    left = check(tmp_path, n, {"x": feed(2, 8, 8, 16)}, y, x)
    assert left["LayerNormalization"] == left["GatherRows"] == 1


def test_pixels_of_rows_sliced_into_channels_are_one_copy(tmp_path):
    n = Net()
    x = n.input("x", "n", 6, 8, 16)
    lines = [n.add("Slice", x, n.const([i], np.int64), n.const([END], np.int64), n.const([1], np.int64), n.const([2], np.int64)) for i in (0, 1)]
    parts = [n.add("Slice", lines[i % 2], n.const([i // 2], np.int64), n.const([END], np.int64), n.const([2], np.int64), n.const([2], np.int64))
             for i in range(4)]
    y = n.add("MatMul", n.add("Concat", *parts, axis=-1), n.weight(64, 5))
    assert check(tmp_path, n, {"x": feed(3, 6, 8, 16)}, y) == {"GatherRows": 1, "MatMul": 1}


def test_rows_of_any_number_are_moved_step_by_step(tmp_path):
    n = Net()
    x = n.add("Transpose", n.input("x", "n", "h", 4, 16), perm=[0, 2, 1, 3])
    y = n.add("Gather", x, n.const([3, 1, 0], np.int64), axis=1)
    assert "GatherRows" not in check(tmp_path, n, {"x": feed(2, 5, 4, 16)}, y)
    n = Net()
    x = n.add("Transpose", n.input("x", "n", 3, 4, 16), perm=[1, 0, 2, 3]) # items among each other
    y = n.add("Gather", x, n.const([2, 1, 0], np.int64), axis=2)
    assert "GatherRows" not in check(tmp_path, n, {"x": feed(2, 3, 4, 16)}, y)


@pytest.mark.parametrize("length", [30, 50, 70])
def test_rows_that_only_seem_as_many_in_every_request_are_rolled_as_they_are(tmp_path, length):
    n = Net()
    c = n.add("Slice", n.input("x", 2, "t"), n.const([0], np.int64), n.const([50], np.int64), n.const([1], np.int64))
    left = check(tmp_path, n, {"x": feed(2, length)}, roll(n, c, -7, 1))
    assert "Gather" not in left


def test_slices_of_different_tensors_stay(tmp_path):
    n = Net()
    x = n.input("x", 2, 8, 6)
    a = n.add("Slice", n.add("Softmax", x), n.const([3], np.int64), n.const([END], np.int64), n.const([1], np.int64))
    b = n.add("Slice", x, n.const([0], np.int64), n.const([3], np.int64), n.const([1], np.int64))
    assert "Gather" not in check(tmp_path, n, {"x": feed(2, 8, 6)}, n.add("Concat", a, b, axis=1))


def test_transposes_around_elementwise_operators_on_lines_go(tmp_path):
    n = Net()
    x = n.add("Transpose", n.add("Conv", n.input("x", "n", 3, 20), n.weight(8, 3, 3)), perm=[0, 2, 1])
    x = n.add("Relu", n.add("Add", x, n.weight(8)))
    y = n.add("Conv", n.add("Transpose", x, perm=[0, 2, 1]), n.weight(4, 8, 3))
    assert check(tmp_path, n, {"x": feed(2, 3, 20)}, y) == {"Conv": 2}


def test_a_transpose_that_meets_no_opposite_stays_where_it_is(tmp_path):
    n = Net()
    x = n.add("Reshape", n.add("Conv", n.input("x", "n", 3, 4, 6), n.weight(8, 3, 1, 1)), n.const([0, 8, 24], np.int64))
    y = n.add("MatMul", n.add("Add", n.add("Transpose", x, perm=[0, 2, 1]), n.weight(24, 1)), n.weight(8, 5))
    assert check(tmp_path, n, {"x": feed(2, 3, 4, 6)}, y)["Rearrange"] == 1


def dead(n, at, *dims, axis=0, scale=0.3):
    """Weights of which the channels `at` along an axis are zeros."""
    w = n.rng.standard_normal(dims) * scale
    w[(slice(None),) * axis + (at,)] = 0
    return n.const(w)


def width(tmp_path, node, of):
    """Extent 1 of what the node numbered `node` makes."""
    done = subprocess.run([ONNXD, "inspect", str(tmp_path / "net.onnx"), "--graph"], check=True, capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stdout.splitlines() if re.match(r" +\d+ %s" % of, line)]
    return int(re.search(r"\[([^\]]*)\]$", lines[node])[1].split(",")[1])


GONE = [1, 4, 7]


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("bias", ["none", "zero there", "negative there", "any"])
@pytest.mark.parametrize("act", ["Relu", "HardSwish", "Sigmoid", "Softplus"])
def test_channels_that_are_the_same_everywhere_go(tmp_path, pad, bias, act):
    n = Net()
    b = np.abs(n.rng.standard_normal(8)) + 0.1
    b[GONE] = {"zero there": 0, "negative there": -1}.get(bias, b[GONE])
    c = [n.input("x", "n", 3, 9, 9), dead(n, GONE, 8, 3, 3, 3)] + ([] if bias == "none" else [n.const(b)])
    y = n.add("Conv", n.add(act, n.add("Conv", *c)), n.weight(4, 8, 3, 3), *([n.weight(4)] if pad else []), pads=[pad] * 4)
    check(tmp_path, n, {"x": feed(2, 3, 9, 9)}, y)
    zero = bias in ("none", "zero there") and act in ("Relu", "HardSwish") or bias == "negative there" and act == "Relu"
    goes = (zero or not pad) and act != "Softplus"
    assert width(tmp_path, 0, "Conv") == (5 if goes else 8)


@pytest.mark.parametrize("kind", ["Conv", "MatMul", "Gemm"])
def test_channels_that_nobody_looks_at_go(tmp_path, kind):
    n = Net()
    if kind == "Conv":
        x = n.add("MaxPool", n.add("Tanh", n.add("Conv", n.input("x", "n", 3, 9, 9), n.weight(8, 3, 3, 3))), kernel_shape=[2, 2])
        y = n.add("Conv", x, dead(n, GONE, 4, 8, 3, 3, axis=1), pads=[1] * 4)
    else:
        shape = ("n", 6) if kind == "Gemm" else ("n", 5, 6)
        x = n.add("Tanh", n.add(kind, n.input("x", *shape), n.weight(6, 8)))
        y = n.add(kind, x, dead(n, GONE, 8, 4))
    check(tmp_path, n, {"x": feed(2, 3, 9, 9) if kind == "Conv" else feed(2, 6) if kind == "Gemm" else feed(2, 5, 6)}, y)
    if kind == "MatMul":
        assert "float[-1,5,5]" in subprocess.run([ONNXD, "inspect", str(tmp_path / "net.onnx"), "--graph"], capture_output=True, text=True, timeout=60).stdout
    else:
        assert width(tmp_path, 0, kind) == 5


@pytest.mark.parametrize("how", ["flat", "pooled"])
@pytest.mark.parametrize("transposed", [0, 1])
def test_channels_go_before_a_classifier(tmp_path, how, transposed):
    n = Net()
    x = n.add("Relu", n.add("Conv", n.input("x", "n", 3, 6, 6), dead(n, GONE, 8, 3, 3, 3), n.weight(8, shift=1)))
    x = n.add("GlobalAveragePool", x) if how == "pooled" else n.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    rows = 8 if how == "pooled" else 32
    y = n.add("Gemm", n.add("Flatten", x), n.weight(*((5, rows) if transposed else (rows, 5))), n.weight(5), transB=transposed)
    check(tmp_path, n, {"x": feed(2, 3, 6, 6)}, y)
    assert width(tmp_path, 0, "Conv") == 5


@pytest.mark.parametrize("pad", [0, 1])
def test_channels_go_with_their_depthwise_convolution(tmp_path, pad):
    n = Net()
    x = n.add("Clip", n.add("Conv", n.input("x", "n", 3, 9, 9), dead(n, [1, 4], 8, 3, 1, 1), n.const([1, 0, 1, 1, 0.5, 1, 1, 1])), n.const(0), n.const(6))
    x = n.add("Clip", n.add("Conv", x, dead(n, [7], 8, 1, 3, 3), n.weight(8, shift=1), group=8, pads=[pad] * 4), n.const(0), n.const(6))
    y = n.add("Conv", x, n.weight(4, 8, 1, 1), n.weight(4))
    check(tmp_path, n, {"x": feed(2, 3, 9, 9)}, y)
    assert width(tmp_path, 0, "Conv") == width(tmp_path, 1, "Conv") == (6 if pad else 5)


@pytest.mark.parametrize("dims,size,attrs,stride", [((2, 3, 181, 177), 3, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, 1),
                                                    ((1, 3, 190, 188), 7, {"strides": [2, 2], "pads": [2, 3, 3, 2]}, 2),
                                                    ((1, 1, 88, 97), 5, {"pads": [0, 3, 2, 1]}, 2),
                                                    ((2, 4, 90, 92), 3, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, 1)])
@pytest.mark.parametrize("projects", [False, True])
def test_lines_of_a_first_convolution_are_made_for_a_depthwise_one(tmp_path, dims, size, attrs, stride, projects):
    n = Net()
    x = n.add("Conv", n.input("x", *dims), n.weight(32, dims[1], size, size), n.weight(32), **attrs)
    x = n.add("Clip", x, n.const(0), n.const(6))
    x = n.add("Conv", x, n.weight(32, 1, 3, 3), n.weight(32), group=32, pads=[1] * 4, strides=[stride] * 2)
    y = n.add("Conv", n.add("Relu", x), n.weight(24, 32, 1, 1), n.weight(24)) if projects else n.add("Relu", x)
    assert check(tmp_path, n, {"x": feed(*dims)}, y)["Conv"] == 2 + projects


def test_one_channel_of_zeros_is_left(tmp_path):
    n = Net()
    x = n.add("Relu", n.add("Conv", n.input("x", "n", 3, 9, 9), n.const(np.zeros((8, 3, 3, 3))), n.weight(8)))
    y = n.add("Conv", x, n.weight(4, 8, 3, 3))
    check(tmp_path, n, {"x": feed(2, 3, 9, 9)}, y)
    assert width(tmp_path, 0, "Conv") == 1


@pytest.mark.parametrize("why", ["an output", "read twice", "a residual"])
def test_channels_that_others_see_stay(tmp_path, why):
    n = Net()
    x = n.input("x", "n", 8, 9, 9)
    c = n.add("Relu", n.add("Conv", x, dead(n, GONE, 8, 8, 1, 1)))
    y = n.add("Conv", n.add("Add", c, x) if why == "a residual" else c, n.weight(4, 8, 1, 1))
    z = c if why == "an output" else n.add("Exp", c) if why == "read twice" else y
    check(tmp_path, n, {"x": feed(2, 8, 9, 9)}, n.add("Neg", y), z)
    assert width(tmp_path, 0, "Conv") == 8


def test_pools_of_rows_are_not_of_channels(tmp_path):
    n = Net()
    x = n.add("MaxPool", n.add("MatMul", n.input("x", "n", 8, 6), dead(n, GONE, 6, 8, axis=1)), kernel_shape=[2], strides=[1], pads=[0, 1])
    y = n.add("MatMul", x, n.weight(8, 4))
    check(tmp_path, n, {"x": feed(2, 8, 6)}, y)


MAPS = {
    "normalization": lambda n, x: n.batch_norm(x, 6),
    "scale": lambda n, x: n.add("Div", x, n.weight(6, 1, 1, shift=2)),
    "shift": lambda n, x: n.add("Sub", n.weight(1, 6, 1, 1), x),
    "both": lambda n, x: n.add("Div", n.add("Sub", x, n.weight(6, 1, 1)), n.const(0.3)),
}


@pytest.mark.parametrize("what", MAPS)
@pytest.mark.parametrize("group", [1, 2, 6])
@pytest.mark.parametrize("pad", [0, 1])
def test_maps_of_channels_go_into_the_convolution_behind(tmp_path, what, group, pad):
    n = Net()
    x = n.add("MaxPool", n.input("x", "n", 6, 9, 9), kernel_shape=[2, 2])
    y = n.add("Conv", MAPS[what](n, x), n.weight(12, 6 // group, 3, 3), *([n.weight(12)] if pad else []), group=group, pads=[pad] * 4)
    left = check(tmp_path, n, {"x": feed(2, 6, 9, 9)}, y, tolerance=3e-5)
    kept = {} if not pad or what == "scale" else {"normalization": {"BatchNormalization": 1}, "shift": {"Sub": 1}, "both": {"Sub": 1}}[what]
    assert left == dict({"MaxPool": 1, "Conv": 1}, **kept)


@pytest.mark.parametrize("kind", ["Gemm", "Gemm transposed", "MatMul"])
def test_maps_of_columns_go_into_the_product_behind(tmp_path, kind):
    n = Net()
    x = n.add("Softmax", n.input("x", "n", 7, 6) if kind == "MatMul" else n.input("x", "n", 6))
    x = n.add("Add", n.add("Mul", x, n.weight(6)), n.weight(6))
    y = n.add("Gemm", x, n.weight(5, 6), n.weight(5), transB=1) if kind == "Gemm transposed" else n.add(kind, x, n.weight(6, 5))
    assert check(tmp_path, n, {"x": feed(2, 7, 6) if kind == "MatMul" else feed(2, 6)}, y) == {"Softmax": 1, kind.split()[0]: 1}


@pytest.mark.parametrize("why", ["read twice", "rows", "grows"])
def test_maps_that_are_none_of_channels_stay(tmp_path, why):
    n = Net()
    x = n.add("Softmax", n.input("x", 1 if why == "grows" else "n", 6, 6))
    m = n.add("Mul", x, n.weight(*((6, 1) if why == "rows" else (2, 6, 6) if why == "grows" else (6,))))
    y = n.add("MatMul", m, n.weight(6, 5))
    check(tmp_path, n, {"x": feed(1, 6, 6)}, y, n.add("Exp", m) if why == "read twice" else y)
    assert "Mul" in check(tmp_path, n, {"x": feed(1, 6, 6)}, y, m)


def body(nodes, inputs, outputs, constants=()):
    info = lambda name, kind, dims=None: helper.make_tensor_value_info(name, kind, dims)
    weights = [numpy_helper.from_array(np.asarray(v, np.float32 if np.asarray(v).dtype.kind == "f" else None), k) for k, v in dict(constants).items()]
    return helper.make_graph(nodes, "body", [info(*i) for i in inputs], [info(*o) for o in outputs], weights)


LOOP = [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, [])]
F = TensorProto.FLOAT


def in_bodies(tmp_path):
    """The operators of the bodies, after the passes."""
    done = subprocess.run([ONNXD, "inspect", str(tmp_path / "net.onnx"), "--graph"], check=True, capture_output=True, text=True, timeout=60)
    return [re.match(r" +\d+ (.*?) \(", line)[1] for line in done.stdout.splitlines() if re.match(r" {5,}\d+ ", line)]


def conv_body(n):
    """s becomes relu(batch norm of a convolution of s, plus s), with all of what is constant computed from constants."""
    w = n.rng.standard_normal((6, 6, 3, 3)) * 0.2
    c = {"w": w, "two": np.array(2.0), **{k: np.abs(n.rng.standard_normal(6)) + 0.3 for k in ("scale", "shift", "mean", "var")}}
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Mul", ["w", "two"], ["ww"]),
             helper.make_node("Conv", ["s", "ww"], ["a"], pads=[1] * 4),
             helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"]), helper.make_node("Add", ["b", "s"], ["d"]),
             helper.make_node("Relu", ["d"], ["e"])]
    return nodes, c


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_the_body_of_a_loop_is_rewritten_too(tmp_path, rounds):
    n = Net()
    nodes, c = conv_body(n)
    b = body(nodes, LOOP + [("s", F)], [("on", TensorProto.BOOL, []), ("e", F)], c)
    y = n.add("Loop", n.const(rounds, np.int64), "", n.input("x", "n", 6, 7, 7), body=b)
    check(tmp_path, n, {"x": feed(2, 6, 7, 7)}, y)
    assert [op for op in in_bodies(tmp_path) if op != "Identity"] == ["Conv +residual +Relu"]


def test_a_state_that_grows_has_no_known_shape(tmp_path):
    n = Net()
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Concat", ["s", "s"], ["t"], axis=0),
             helper.make_node("Expand", ["t", "one"], ["u"]), helper.make_node("Exp", ["half"], ["h"]), helper.make_node("Mul", ["u", "h"], ["e"])]
    b = body(nodes, LOOP + [("s", F)], [("on", TensorProto.BOOL, []), ("e", F)], {"one": np.array([1]), "half": np.array([0.5])})
    y = n.add("Loop", n.const(3, np.int64), "", n.input("x", 2, 5), body=b)
    check(tmp_path, n, {"x": feed(2, 5)}, y)


@pytest.mark.parametrize("taken", [-1.0, 1.0])
def test_branches_are_rewritten_too(tmp_path, taken):
    n = Net()
    x = n.input("x", "n", 6, 7, 7)
    nodes, c = conv_body(n)
    nodes = [helper.make_node(m.op_type, [x if i == "s" else i for i in m.input], m.output, **{a.name: helper.get_attribute_value(a) for a in m.attribute}) for m in nodes[1:]]
    other = body([helper.make_node("Sigmoid", [x], ["g"]), helper.make_node("Mul", [x, "g"], ["e"])], [], [("e", F)])
    y = n.add("If", n.add("Greater", n.input("t"), n.const(0)), then_branch=body(nodes, [], [("e", F)], c), else_branch=other)
    check(tmp_path, n, {"x": feed(2, 6, 7, 7), "t": np.asarray(taken, np.float32)}, y)
    assert sorted(in_bodies(tmp_path)) == ["Conv +residual +Relu", "Swish"]


@pytest.mark.parametrize("group", [1, 4, 8])
def test_branches_of_several_forms_become_one_convolution(tmp_path, group):
    n = Net()
    x = n.input("x", 1, 8, 10, 10)
    conv = lambda k, p: n.batch_norm(n.add("Conv", x, n.weight(8, 8 // group, *k), pads=p, group=group), 8)
    y = n.add("Add", conv((3, 1), [1, 0, 1, 0]), n.add("Add", conv((3, 3), [1] * 4), conv((1, 3), [0, 1, 0, 1])))
    y = n.add("Add", n.batch_norm(x, 8), n.add("Add", conv((1, 1), [0] * 4), y))
    y = n.add("Add", y, n.add("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1))
    assert check(tmp_path, n, {"x": feed(1, 8, 10, 10)}, n.add("Relu", y)) == {"Conv": 1}


@pytest.mark.parametrize("why", ["does not count", "larger", "other stride"])
def test_a_mean_that_is_no_branch_stays(tmp_path, why):
    n = Net()
    x = n.input("x", 1, 8, 10, 10)
    a = n.add("Conv", x, n.weight(8, 8, 3, 3), pads=[1] * 4)
    k, s = (5 if why == "larger" else 3), (2 if why == "other stride" else 1)
    b = n.add("AveragePool", x, kernel_shape=[k, k], pads=[k // 2] * 4, strides=[s, s], count_include_pad=int(why != "does not count"))
    y = n.add("Add", n.add("ReduceMean", a, axes=[2, 3]), b) if s == 2 else n.add("Add", a, b)
    assert "AveragePool" in check(tmp_path, n, {"x": feed(1, 8, 10, 10)}, y)
