"""ONNX Runtime's own operators: onnxd gives what ONNX Runtime gives, whether weights are constants or not."""
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

rng = np.random.default_rng(11)


def f32(*dims, scale=1.0):
    return (rng.standard_normal(dims) * scale).astype(np.float32)


def i32(*values):
    return np.array(values, np.int32)


def compare(tmp_path, onnxd, op, feeds, outputs=1, domain="com.microsoft", constant=(), opset=17, tolerance=2e-5, wanted=None, **attrs):
    """Run one node with `feeds` (None: omitted) through both. `constant`: inputs that are initializers;
    `wanted`: which outputs are compared (all)."""
    names = ["x%d" % i if a is not None else "" for i, a in enumerate(feeds)]
    outs = [n if wanted is None or i in wanted else "" for i, n in enumerate("y%d" % i for i in range(outputs))]
    node = helper.make_node(op, names, outs, domain=domain, **attrs)
    value = lambda n, a: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
    inputs = [value(n, a) for i, (n, a) in enumerate(zip(names, feeds)) if n and i not in constant]
    weights = [numpy_helper.from_array(feeds[i], names[i]) for i in constant]
    known = [helper.make_tensor_value_info(n, 1, None) for n in outs if n]
    kinds = {"y1": np.int32} if op == "EmbedLayerNormalization" else {}
    for k in known:
        if k.name in kinds or feeds[0].dtype == np.float16:
            k.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kinds.get(k.name, feeds[0].dtype)))
    graph = helper.make_graph([node], "one", inputs, known, weights)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)])
    path = str(tmp_path / "one.onnx")
    onnx.save(model, path)
    fed = {n: a for i, (n, a) in enumerate(zip(names, feeds)) if n and i not in constant}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    want = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, fed)
    args = []
    for n, a in fed.items():
        np.save(tmp_path / (n + ".npy"), a)
        args += ["--input", "%s=%s" % (n, tmp_path / (n + ".npy"))]
    r = subprocess.run([onnxd, "run", path, *args, "--output-dir", str(tmp_path / "out")], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    for i, (name, w) in enumerate(zip([n for n in outs if n], want)):
        got = np.load(tmp_path / "out" / ("%d_%s.npy" % (i, name)))
        assert got.shape == w.shape and got.dtype == w.dtype
        scale = max(1.0, float(np.abs(w).max(initial=0)))
        assert np.abs(got.astype(np.float64) - w).max(initial=0) <= tolerance * scale, name


@pytest.fixture
def same(tmp_path, onnxd):
    return lambda *a, **k: compare(tmp_path, onnxd, *a, **k)


# ---- products --------------------------------------------------------------------------------

@pytest.mark.parametrize("constant", [(), (1,)])
@pytest.mark.parametrize("a, b, attrs", [
    ((5, 7), (7, 9), {}),
    ((7, 5), (7, 9), dict(transA=1, alpha=0.5)),
    ((5, 7), (9, 7), dict(transB=1, alpha=2.0)),
    ((2, 3, 7, 5), (3, 9, 7), dict(transA=1, transB=1)),
    ((5, 2, 3, 7), (2, 3, 7, 9), dict(transBatchA=1)),
    ((2, 3, 5, 7), (7, 2, 3, 9), dict(transBatchB=1)),
    ((2, 3, 40, 33), (2, 3, 33, 50), dict(alpha=0.125)),
])
def test_fused_matmul(same, constant, a, b, attrs):
    same("FusedMatMul", [f32(*a), f32(*b)], constant=constant, **attrs)


def test_transpose_matmul(same):
    same("TransposeMatMul", [f32(2, 7, 5), f32(2, 9, 7)], transA=1, transB=1, alpha=0.5)


@pytest.mark.parametrize("act, attrs", [("Relu", {}), ("LeakyRelu", dict(activation_alpha=0.2)), ("Tanh", {}), ("Sigmoid", {})])
def test_fused_gemm(same, act, attrs):
    same("FusedGemm", [f32(6, 20), f32(20, 30), f32(30)], constant=(1, 2), activation=act, **attrs)
    same("FusedGemm", [f32(6, 20), f32(30, 20), f32(6, 1)], activation=act, transB=1, alpha=0.5, beta=2.0, **attrs)


@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 5), (1, 1)])
def test_inverse(same, shape):
    same("Inverse", [f32(*shape) + 3 * np.eye(shape[-1], dtype=np.float32)])


# ---- normalization ---------------------------------------------------------------------------

def test_simplified_layer_normalization(same):
    same("SimplifiedLayerNormalization", [f32(2, 5, 33), f32(33)], domain="", outputs=2, axis=-1, epsilon=1e-5)


def test_layer_normalization_before_it_was_standard(same):
    same("LayerNormalization", [f32(2, 5, 33), f32(33), f32(33)], domain="", opset=16, outputs=3, axis=-1, epsilon=1e-5)


@pytest.mark.parametrize("skip", [(2, 5, 33), (1, 5, 33), (5, 33)])
@pytest.mark.parametrize("beta, bias", [(True, True), (True, False), (False, True)])
def test_skip_layer_normalization(same, skip, beta, bias):
    same("SkipLayerNormalization", [f32(2, 5, 33), f32(*skip), f32(33), f32(33) if beta else None, f32(33) if bias else None],
         outputs=4, wanted=(0, 3), epsilon=1e-5)
    same("SkipSimplifiedLayerNormalization", [f32(2, 5, 33), f32(*skip), f32(33), f32(33) if bias else None], outputs=4,
         wanted=(0, 3), epsilon=1e-5)


@pytest.mark.parametrize("segments, mask, positions", [(True, True, False), (False, False, False), (True, False, True)])
def test_embed_layer_normalization(same, segments, mask, positions):
    ids = rng.integers(0, 40, (2, 6)).astype(np.int32)
    same("EmbedLayerNormalization",
         [ids, rng.integers(0, 2, (2, 6)).astype(np.int32) if segments else None, f32(40, 24), f32(10, 24),
          f32(2, 24) if segments else None, f32(24), f32(24),
          np.array([[1, 1, 1, 1, 0, 0], [1] * 6], np.int32) if mask else None,
          rng.integers(0, 10, (2, 6)).astype(np.int32) if positions else None], outputs=3, epsilon=1e-5)


def group_norm(x, scale, bias, groups, activation):
    n, h, w, c = x.shape
    g = x.reshape(n, h * w, groups, c // groups).astype(np.float64)
    g = (g - g.mean((1, 3), keepdims=True)) / np.sqrt(g.var((1, 3), keepdims=True) + 1e-5)
    y = g.reshape(n, h, w, c) * scale + bias
    return y / (1 + np.exp(-y)) if activation else y


@pytest.mark.parametrize("skip", [None, (2, 4, 5, 24), (2, 24)])
@pytest.mark.parametrize("activation", [0, 1])
def test_group_norm(tmp_path, onnxd, skip, activation):
    """ONNX Runtime has these for graphics processors only, so the reference is the definition."""
    x, scale, bias = f32(2, 4, 5, 24), f32(24), f32(24)
    feeds = dict(x=x, scale=scale, bias=bias)
    if skip:
        feeds["skip"] = f32(*skip)
        x = x + feeds["skip"].reshape(2, *((4, 5) if len(skip) == 4 else (1, 1)), 24)
    node = helper.make_node("SkipGroupNorm" if skip else "GroupNorm", list(feeds), ["y", "sum"] if skip else ["y"], domain="com.microsoft", groups=6,
                            activation=activation, epsilon=1e-5)
    value = lambda n, s: helper.make_tensor_value_info(n, 1, s)
    graph = helper.make_graph([node], "one", [value(n, a.shape) for n, a in feeds.items()], [value(n, None) for n in node.output])
    path = str(tmp_path / "one.onnx")
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]), path)
    args = []
    for n, a in feeds.items():
        np.save(tmp_path / (n + ".npy"), a)
        args += ["--input", "%s=%s" % (n, tmp_path / (n + ".npy"))]
    subprocess.run([onnxd, "run", path, *args, "--output-dir", str(tmp_path)], check=True)
    assert np.abs(np.load(tmp_path / "0_y.npy") - group_norm(x, scale, bias, 6, activation)).max() < 1e-5
    if skip:
        assert np.abs(np.load(tmp_path / "1_sum.npy") - x).max() < 1e-6


# ---- attention -------------------------------------------------------------------------------

@pytest.mark.parametrize("attrs", [{}, dict(unidirectional=1), dict(scale=0.3)])
@pytest.mark.parametrize("mask", [None, i32(5, 3), i32(5, 3, 1, 0), np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], np.int32),
                                  (np.arange(50).reshape(2, 5, 5) % 3 > 0).astype(np.int32)])
def test_attention(same, mask, attrs):
    same("Attention", [f32(2, 5, 24), f32(24, 72, scale=0.3), f32(72), mask], constant=(1, 2), num_heads=3, **attrs)


def test_attention_with_widths_bias_and_past(same):
    same("Attention", [f32(2, 5, 24), f32(24, 24 + 24 + 36, scale=0.3), f32(84)], num_heads=3, qkv_hidden_sizes=[24, 24, 36])
    same("Attention", [f32(2, 5, 24), f32(24, 72, scale=0.3), f32(72), None, None, f32(1, 3, 5, 5)], num_heads=3)
    same("Attention", [f32(2, 1, 24), f32(24, 72, scale=0.3), f32(72), np.ones((2, 8), np.int32), f32(2, 2, 3, 7, 8)], outputs=2, num_heads=3,
         unidirectional=1)
    same("Attention", [f32(2, 40, 64), f32(64, 192, scale=0.2), f32(192)], outputs=2, num_heads=4)


@pytest.mark.parametrize("mask", [None, i32(5, 3)])
def test_quantized_attention(same, mask):
    x = rng.integers(0, 255, (2, 5, 32)).astype(np.uint8)
    w = rng.integers(-60, 60, (32, 96)).astype(np.int8)
    same("QAttention", [x, w, f32(96), np.array(0.02, np.float32), np.array(0.01, np.float32), mask,
                        np.array(128, np.uint8), np.array(0, np.int8)], constant=(1,), num_heads=4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("keys", [6, 9])
def test_multi_head_attention(same, bias, keys):
    b = f32(96) if bias else None
    same("MultiHeadAttention", [f32(2, 6, 32), f32(2, keys, 32), f32(2, keys, 32), b], num_heads=4)
    same("MultiHeadAttention", [f32(2, 6, 32), f32(2, keys, 32), f32(2, keys, 32), b, np.array([[1] * keys, [1] * 4 + [0] * (keys - 4)], np.int32)],
         num_heads=4)
    same("MultiHeadAttention", [f32(2, 6, 32), f32(2, keys, 32), f32(2, keys, 32), b, None, f32(2, 4, 6, keys)], num_heads=4, scale=0.2)
    same("MultiHeadAttention", [f32(2, 6, 32), f32(2, keys, 32), f32(2, keys, 32), b], num_heads=4, unidirectional=int(keys == 6))


def test_multi_head_attention_packed_and_with_past(same):
    same("MultiHeadAttention", [f32(2, 1, 32), f32(2, 1, 32), f32(2, 1, 32), f32(96), None, None, f32(2, 4, 5, 8), f32(2, 4, 5, 8)], outputs=3,
         num_heads=4)
    same("MultiHeadAttention", [f32(2, 3, 32), f32(2, 4, 7, 8), f32(2, 4, 7, 8)], num_heads=4)


def group_query(rows, lengths, total, past=None, heads=4, kv=2, d=16, packed=False, **more):
    n = len(lengths)
    q = f32(n, rows, (heads + 2 * kv) * d) if packed else f32(n, rows, heads * d)
    k, v = (None, None) if packed else (f32(n, rows, kv * d), f32(n, rows, kv * d))
    cache = [f32(n, kv, past, d), f32(n, kv, past, d)] if past else [None, None]
    tables = [f32(64, d // 2), f32(64, d // 2)] if more.get("do_rotary") else [None, None]
    return [q, k, v, *cache, np.array(lengths, np.int32) - 1, np.array([total], np.int32), *tables], dict(num_heads=heads, kv_num_heads=kv, **more)


@pytest.mark.parametrize("more", [{}, dict(packed=True), dict(do_rotary=1), dict(do_rotary=1, rotary_interleaved=1), dict(softcap=5.0),
                                  dict(local_window_size=3), dict(scale=0.2), dict(smooth_softmax=1)])
def test_group_query_attention(same, more):
    feeds, attrs = group_query(7, [7, 7], 7, **more)
    same("GroupQueryAttention", feeds, outputs=3, **attrs)
    feeds, attrs = group_query(1, [9, 6], 9, past=8, **more)
    same("GroupQueryAttention", feeds, outputs=3, **attrs)


def test_group_query_attention_with_a_sink(same):
    feeds, attrs = group_query(7, [7, 7], 7)
    same("GroupQueryAttention", feeds + [None, None, f32(4)], outputs=3, **attrs)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [np.array([3]), np.array([[0, 4, 2, 1, 3], [5, 6, 7, 8, 9]])])
def test_rotary_embedding(same, interleaved, positions):
    same("RotaryEmbedding", [f32(2, 5, 32), positions, f32(16, 4), f32(16, 4)], constant=(2, 3), interleaved=interleaved)
    same("RotaryEmbedding", [f32(2, 4, 5, 8), positions, f32(16, 4), f32(16, 4)], constant=(2, 3), interleaved=interleaved)
    same("RotaryEmbedding", [f32(2, 5, 32), positions, f32(16, 2), f32(16, 2)], constant=(2, 3), interleaved=interleaved, num_heads=4,
         rotary_embedding_dim=4)


@pytest.mark.parametrize("dtype", [np.float16])
def test_half_precision(same, dtype):
    x, skip, scale = f32(2, 5, 32).astype(dtype), f32(2, 5, 32).astype(dtype), f32(32).astype(dtype)
    same("SkipLayerNormalization", [x, skip, scale], epsilon=1e-5, tolerance=2e-3)


@pytest.mark.parametrize("change,inputs,words", [
    (dict(k_quant_type="PER_TENSOR", v_quant_type="PER_TENSOR", kv_cache_bit_width=8), 7, "quantized cache"), (dict(sliding_window_cache=1), 7, "sliding"),
    (dict(qk_output=1), 7, "output_qk"), (dict(), 13, "k_scale"), (dict(), 15, "q_norm_weight")])
def test_what_grouped_attention_lacks_is_told_at_load(onnxd, tmp_path, change, inputs, words):
    names = ["q", "k", "v", "", "", "lengths", "total"] + [""] * (inputs - 8) + ["more"] * (inputs > 7)
    node = helper.make_node("GroupQueryAttention", names, ["y", "pk", "pv"], name="grouped", domain="com.microsoft", num_heads=4, kv_num_heads=2, **change)
    value = lambda n, kind, *dims: helper.make_tensor_value_info(n, kind, dims)
    infos = [value("q", 1, "b", "s", 32), value("k", 1, "b", "s", 16), value("v", 1, "b", "s", 16), value("lengths", 6, "b"), value("total", 6)]
    infos += [value("more", 1, 8)] * (inputs > 7)
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", 1, None)])
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("com.microsoft", 1)]), tmp_path / "m.onnx")
    r = subprocess.run([onnxd, "inspect", str(tmp_path / "m.onnx")], capture_output=True, text=True)
    assert r.returncode == 1 and words in r.stderr and "'grouped' (GroupQueryAttention)" in r.stderr, r.stderr
