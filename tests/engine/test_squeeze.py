"""Squeeze and excitation: factors of channels that go into the weights of the 1x1 convolution behind them.
The answer is ONNX Runtime's, one and two threads give the same bits, and the steps that are left are those expected."""
import re
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ort = pytest.importorskip("onnxruntime")
ort.set_default_logger_severity(4)

POOLS = {
    "GlobalAveragePool": lambda b, x, hw: b.add("GlobalAveragePool", x),
    "AveragePool": lambda b, x, hw: b.add("AveragePool", x, kernel_shape=list(hw)),
    "ReduceMean": lambda b, x, hw: b.add("ReduceMean", x, axes=[2, 3], keepdims=1),
    "ReduceMean, from behind": lambda b, x, hw: b.add("ReduceMean", x, axes=[-1, -2], keepdims=1),
    "ReduceMean, flat": lambda b, x, hw: b.add("Reshape", b.add("ReduceMean", x, axes=[2, 3], keepdims=0), b.shape(0, -1, 1, 1)),
}


class Block:
    """A block in the making, of opset 17."""

    def __init__(self, seed):
        self.rng, self.nodes, self.weights = np.random.default_rng(seed), [], []

    def constant(self, value):
        self.weights.append(numpy_helper.from_array(value, "c%d" % len(self.weights)))
        return self.weights[-1].name

    def shape(self, *dims):
        return self.constant(np.array(dims, np.int64))

    def add(self, op, *inputs, **attrs):
        self.nodes.append(helper.make_node(op, inputs, ["v%d" % len(self.nodes)], **attrs))
        return self.nodes[-1].output[0]

    def conv(self, x, out, per_group, size=1, **attrs):
        scale = (per_group * size * size) ** -0.5
        w = self.constant((self.rng.standard_normal((out, per_group, size, size)) * scale).astype(np.float32))
        return self.add("Conv", x, w, self.constant(self.rng.standard_normal(out).astype(np.float32) * 0.1), **attrs)

    def act(self, x, kind):
        if kind == "SiLU":
            return self.add("Mul", x, self.add("Sigmoid", x))
        return self.add(kind, x) if kind else x

    def depthwise(self, x, channels, size, stride, act):
        return self.act(self.conv(x, channels, 1, size, group=channels, strides=[stride] * 2, pads=[size // 2] * 4), act)

    def excite(self, x, pooled, channels, gate, turned):
        s = self.add(gate, self.conv(self.add("Relu", self.conv(pooled, max(channels // 4, 1), channels)), channels, max(channels // 4, 1)))
        return self.add("Mul", *((s, x) if turned else (x, s)))

    def save(self, path, dims, outputs):
        outs = [helper.make_empty_tensor_value_info(o) for o in outputs]
        graph = helper.make_graph(self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)], outs, self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def run(onnxd, folder, block, x, outputs, dims=None):
    """Compare; what is left are operators by number of steps."""
    path = folder / "m.onnx"
    block.save(path, dims or x.shape, outputs)
    want = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.save(folder / "x.npy", x)
    bits = []
    for threads in (1, 2):
        args = [onnxd, "run", str(path), "--output-dir", str(folder), "--threads", str(threads), "--input", f"x={folder / 'x.npy'}"]
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        got = [np.load(folder / f"{i}_{name}.npy") for i, name in enumerate(outputs)]
        for g, w in zip(got, want):
            assert g.shape == w.shape
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5 * np.max(np.abs(w)))
        bits.append(b"".join(g.tobytes() for g in got))
    assert bits[0] == bits[1]
    args = [onnxd, "bench", str(path), "--threads", "1", "--runs", "1", "--profile", "--shape", "x=" + "x".join(map(str, x.shape))]
    table = subprocess.run(args, capture_output=True, text=True, check=True).stdout
    return {name: int(n) for name, n in re.findall(r"%  (\w+) x (\d+)$", table, re.MULTILINE)}


def numbers(*dims):
    return np.random.default_rng(5).standard_normal(dims).astype(np.float32)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("free", [False, True])
def test_a_block_multiplies_no_pixels(onnxd, tmp_path, pool, turned, free):
    """Fused whatever pools, either way round, with extents known or not, for one item and for three."""
    b, x = Block(1), numbers(3 if free else 1, 20, 18, 21)
    y = b.depthwise("x", 20, 3, 1, "SiLU")
    y = b.excite(y, POOLS[pool](b, y, x.shape[2:]), 20, "Sigmoid", turned)
    y = b.add("Add", b.conv(y, 20, 20), "x")
    sides = x.shape[2:] if pool == "AveragePool" else ("h", "w")  # its window would not be the whole of other extents
    left = run(onnxd, tmp_path, b, x, [y], ["n", 20, *sides] if free else None)
    assert "Mul" not in left and left["Conv"] == 4


@pytest.mark.parametrize("channels, height, width, size, stride, act, gate", [
    (2, 9, 9, 3, 1, None, "Sigmoid"), (16, 7, 7, 5, 1, "SiLU", "Sigmoid"), (33, 7, 14, 7, 1, "HardSwish", "HardSigmoid"),
    (24, 33, 15, 3, 2, "Relu", "HardSigmoid"), (40, 31, 30, 5, 2, "Tanh", "Sigmoid"), (17, 3, 3, 3, 1, "SiLU", "Sigmoid"),
    (48, 12, 40, 7, 2, "HardSwish", "Sigmoid"), (16, 41, 13, 4, 3, "Relu", "Sigmoid"), (8, 10, 1, 1, 1, "SiLU", "Sigmoid"),
])
def test_ragged_extents(onnxd, tmp_path, channels, height, width, size, stride, act, gate):
    b, x = Block(2), numbers(2, channels, height, width)
    y = b.depthwise("x", channels, size, stride, act)
    s = b.add("GlobalAveragePool", y)
    y = b.excite(y, s, channels, gate, False)
    run(onnxd, tmp_path, b, x, [b.conv(y, 5, channels), s])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("items", [1, 2])
def test_behind_an_expansion_that_is_done_by_lines(onnxd, tmp_path, stride, items):
    b, x = Block(3), numbers(items, 16, 57, 56)
    y = b.depthwise(b.act(b.conv("x", 96, 16), "SiLU"), 96, 3, stride, "SiLU")
    s = b.add("ReduceMean", y, axes=[2, 3])
    y = b.conv(b.excite(y, s, 96, "Sigmoid", False), 24, 96)
    left = run(onnxd, tmp_path, b, x, [y])
    assert "Mul" not in left and left["Conv"] == 4


@pytest.mark.parametrize("why", ["another reads it", "it is an output", "factors of pixels", "more weights than pixels", "strides", "groups"])
def test_factors_that_must_stay(onnxd, tmp_path, why):
    b, x = Block(6), numbers(2, 32, 16, 16)
    y = b.depthwise("x", 32, 3, 1, "Relu")
    s = b.add("Sigmoid", b.add("ReduceMean", y, axes=[1] if why == "factors of pixels" else [2, 3]))
    scaled = b.add("Mul", y, s)
    y = b.conv(scaled, 128 if why == "more weights than pixels" else 16, 4 if why == "groups" else 32, 1,
               strides=[2 if why == "strides" else 1] * 2, group=8 if why == "groups" else 1)
    outputs = [y] + ([scaled] if why == "it is an output" else [b.add("Abs", scaled)] if why == "another reads it" else [])
    assert run(onnxd, tmp_path, b, x, outputs).get("Mul") == 1
