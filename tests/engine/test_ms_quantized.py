"""ONNX Runtime's quantized operators and its activations: onnxd gives what ONNX Runtime gives, a step of rounding aside."""
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from oracle import make_model, ort, verify

MS = "com.microsoft"
U8, I8, F = np.uint8, np.int8, np.float32
rng = np.random.default_rng(3)


def q(kind, *dims):
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max + 1, dims).astype(kind)


def s(value):
    return np.array(value, F)


def z(kind, value):
    return np.array(value, kind)


def same(onnxd, tmp_path, op, feeds, outputs=1, constant=(), step=1, **attrs):
    """`feeds`: None is omitted. `step`: by how much quantized numbers may differ."""
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(feeds)]
    node = helper.make_node(op, names, [f"y{k}" for k in range(outputs)], domain=MS, **attrs)
    given = {n: a for i, (n, a) in enumerate(zip(names, feeds)) if n and i not in constant}
    weights = [numpy_helper.from_array(feeds[i], names[i]) for i in constant if feeds[i] is not None]
    model = make_model([node], given, [(f"y{k}", TensorProto.UNDEFINED) for k in range(outputs)], initializers=weights)
    model.opset_import.add(domain=MS, version=1)
    for o in model.graph.output:
        o.ClearField("type")
    wanted = ort(model, given)
    for o, w in zip(model.graph.output, wanted):
        o.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(w.dtype)
    exact = wanted[0].dtype.kind == "f"
    if not exact:  # compare as floats, so that a step of rounding may differ
        model.graph.node.append(helper.make_node("Cast", ["y0"], ["z0"], to=TensorProto.FLOAT))
        model.graph.output[0].name = "z0"
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
        wanted[0] = wanted[0].astype(F)
    verify(onnxd, tmp_path, model, given, wanted, rtol=2e-4 if exact else 0, atol=2e-4 if exact else step)


KINDS = pytest.mark.parametrize("kind", [U8, I8])


@KINDS
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("a,b", [((2, 3, 4, 5), (2, 3, 4, 5)), ((2, 3, 4, 5), (4, 1)), ((1,), (3, 7)), ((2, 3, 1, 5), (3, 4, 1)), ((0, 3), (3,)), ((33,), ())])
def test_pairs(onnxd, tmp_path, op, kind, a, b):
    scale = 0.05 if op == "QLinearAdd" else 1.5
    same(onnxd, tmp_path, op, [q(kind, *a), s(0.03), z(kind, 10), q(kind, *b), s(0.02), z(kind, 3), s(scale), z(kind, 5)])


@KINDS
@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("op,attrs,out", [("QLinearSigmoid", {}, 1 / 256), ("QLinearLeakyRelu", dict(alpha=0.2), 0.03), ("QLinearLeakyRelu", {}, 0.02)])
def test_activations(onnxd, tmp_path, op, attrs, out, kind, zero):
    same(onnxd, tmp_path, op, [q(kind, 3, 50), s(0.04), z(kind, 7) if zero else None, s(out), z(kind, 1) if zero else None], constant=(1, 2, 3, 4), **attrs)


@KINDS
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("attrs", [dict(kernel_shape=[3, 3]), dict(kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1]),
                                   dict(kernel_shape=[2, 2], auto_pad="SAME_UPPER"), dict(kernel_shape=[3, 2], pads=[1, 1, 1, 1], count_include_pad=1),
                                   dict(kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)])
def test_average_pooling(onnxd, tmp_path, kind, last, attrs):
    x = q(kind, 2, 7, 9, 5) if last else q(kind, 2, 5, 7, 9)
    same(onnxd, tmp_path, "QLinearAveragePool", [x, s(0.04), z(kind, 7), s(0.03), z(kind, 2)], constant=(1, 2, 3, 4), channels_last=last, **attrs)


@KINDS
@pytest.mark.parametrize("last", [0, 1])
def test_global_average_pooling(onnxd, tmp_path, kind, last):
    x = q(kind, 2, 7, 9, 5) if last else q(kind, 2, 5, 7, 9)
    same(onnxd, tmp_path, "QLinearGlobalAveragePool", [x, s(0.04), z(kind, 7), s(0.01), z(kind, 2)], channels_last=last)


@KINDS
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenation(onnxd, tmp_path, kind, axis):
    shapes = [[2, 3, 4] for _ in range(3)]
    for i, shape in enumerate(shapes):
        shape[axis] += i
    feeds = [s(0.05), z(kind, 4)]
    for i, shape in enumerate(shapes):
        feeds += [q(kind, *shape), s(0.02 + 0.015 * i), z(kind, i)]
    same(onnxd, tmp_path, "QLinearConcat", feeds, constant=(0, 1, 3, 4, 6, 7, 9, 10), axis=axis)


@KINDS
@pytest.mark.parametrize("axis,opset", [(-1, 13), (1, 13), (1, 12)])
def test_softmax(onnxd, tmp_path, kind, axis, opset):
    same(onnxd, tmp_path, "QLinearSoftmax", [q(kind, 3, 6, 5), s(0.05), z(kind, 3), s(1 / 256), z(kind, 0 if kind == U8 else -128)], constant=(1, 2, 3, 4), axis=axis,
         opset=opset)


@pytest.mark.parametrize("a,b", [(U8, U8), (U8, I8), (I8, I8)])
@pytest.mark.parametrize("ta,tb", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("out", [True, False])
def test_gemm(onnxd, tmp_path, a, b, ta, tb, out):
    x, w = q(a, 9, 6) if ta else q(a, 6, 9), q(b, 7, 9) if tb else q(b, 9, 7)
    feeds = [x, s(0.02), z(a, 3), w, (rng.random(7) / 50 + 0.01).astype(F) if b == I8 else s(0.03), np.zeros(7, b) if b == I8 else z(b, 9),
             rng.integers(-2000, 2000, 7).astype(np.int32)] + ([s(0.3), z(a, 5)] if out else [])
    same(onnxd, tmp_path, "QGemm", feeds, constant=(3, 4, 5), transA=ta, transB=tb, alpha=1.0)


@pytest.mark.parametrize("b", [U8, I8])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("zero,bias", [(True, True), (False, False)])
@pytest.mark.parametrize("dims", [(5, 12), (2, 4, 12)])
def test_dynamic_products(onnxd, tmp_path, b, columns, zero, bias, dims):
    scale = (rng.random(8) / 50 + 0.01).astype(F) if columns else s(0.02)
    feeds = [rng.standard_normal(dims).astype(F), q(b, 12, 8), scale, (q(b, 8) // 16 if columns else z(b, 5)) if zero else None,
             rng.standard_normal(8).astype(F) if bias else None]
    same(onnxd, tmp_path, "DynamicQuantizeMatMul", feeds, constant=(1, 2, 3))


@pytest.mark.parametrize("a,b", [(U8, U8), (U8, I8), (I8, I8)])
@pytest.mark.parametrize("columns,bias", [(True, True), (False, False)])
def test_integer_products_to_floats(onnxd, tmp_path, a, b, columns, bias):
    scale = (rng.random(8) / 50 + 0.01).astype(F) if columns else s(0.02)
    feeds = [q(a, 5, 12), q(b, 12, 8), s(0.03), scale, z(a, 3), q(b, 8) // 16 if columns else z(b, 5), rng.standard_normal(8).astype(F) if bias else None]
    same(onnxd, tmp_path, "MatMulIntegerToFloat", feeds, constant=(1,))


@pytest.mark.parametrize("bits", [4, 8, 2])
@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize("zeros", ["none", "packed", "floats"])
@pytest.mark.parametrize("k,n", [(64, 10), (72, 7)])
def test_products_of_few_bits(onnxd, tmp_path, bits, block, zeros, k, n):
    if bits == 8 and zeros == "floats":
        pytest.skip("ONNX Runtime takes no such zero points of 8 bits")
    blocks = -(-k // block)
    packed = -(-blocks * bits // 8)
    zero = None if zeros == "none" else q(U8, n * packed) if zeros == "packed" else (rng.random((n, blocks)) * 2 ** bits).astype(F)
    feeds = [rng.standard_normal((3, k)).astype(F), q(U8, n, blocks, block * bits // 8), (rng.random(n * blocks) / 10 + 0.05).astype(F), zero]
    same(onnxd, tmp_path, "MatMulNBits", feeds, constant=(1, 2, 3), K=k, N=n, bits=bits, block_size=block)


@pytest.mark.parametrize("op,feeds,attrs", [
    ("Gelu", 1, {}), ("FastGelu", 1, {}), ("FastGelu", 2, {}), ("BiasGelu", 2, {}), ("QuickGelu", 1, {}), ("QuickGelu", 1, dict(alpha=1.0))])
def test_gelus(onnxd, tmp_path, op, feeds, attrs):
    x = (rng.standard_normal((2, 5, 8)) * 3).astype(F)
    same(onnxd, tmp_path, op, [x, rng.standard_normal(8).astype(F)][:feeds], **attrs)
