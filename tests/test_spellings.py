"""One operator, many spellings: what exporters write in smaller operators becomes the operator, and what only looks like it stays."""
import numpy as np
import pytest
from onnx import TensorProto

from test_passes import Net, check, feed


def mean(n, x, axes):
    return n.add("ReduceMean", x, n.const(axes, np.int64)) if n.opset >= 18 else n.add("ReduceMean", x, axes=axes)


# ---- normalizations ----------------------------------------------------------------------------------

SQUARES = {
    "pow": lambda n, x, m, d: n.add("Pow", d, n.const(2)),
    "product": lambda n, x, m, d: n.add("Mul", d, d),
    "again": lambda n, x, m, d: n.add("Pow", n.add("Sub", x, m), n.const(2)),
    "cast": lambda n, x, m, d: n.add("Pow", n.add("Cast", d, to=TensorProto.FLOAT), n.const(2)),
}
QUOTIENTS = {
    "root": lambda n, d, v: n.add("Div", d, n.add("Sqrt", v)),
    "reciprocal": lambda n, d, v: n.add("Mul", n.add("Reciprocal", n.add("Sqrt", v)), d),
    "one over": lambda n, d, v: n.add("Mul", d, n.add("Div", n.const(1), n.add("Sqrt", v))),
    "power": lambda n, d, v: n.add("Mul", d, n.add("Pow", v, n.const(-0.5))),
    "half power": lambda n, d, v: n.add("Div", d, n.add("Pow", v, n.const(0.5))),
}


def normalized(n, x, axes, square="pow", quotient="root", centred=True):
    m = mean(n, x, axes) if centred else None
    d = n.add("Sub", x, m) if centred else x
    return QUOTIENTS[quotient](n, d, n.add("Add", mean(n, SQUARES[square](n, x, m, d), axes), n.const(1e-5)))


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("quotient", QUOTIENTS)
def test_layer_normalization(tmp_path, opset, square, quotient):
    n = Net(opset)
    y = normalized(n, n.input("x", "n", 7, 40), [-1], square, quotient)
    y = n.add("Add", n.weight(1, 1, 40), n.add("Mul", y, n.weight(40)))
    assert check(tmp_path, n, {"x": feed(3, 7, 40)}, y) == {"LayerNormalization": 1}


def test_layer_normalization_as_one_map(tmp_path):
    n = Net()
    x = n.input("x", "n", 7, 40)
    m = mean(n, x, [2])
    d = n.add("Sub", x, m)
    v = n.add("Add", mean(n, n.add("Mul", d, d), [2]), n.const(1e-3))
    f = n.add("Mul", n.add("Reciprocal", n.add("Sqrt", v)), n.weight(40))
    y = n.add("Add", n.add("Mul", x, f), n.add("Sub", n.weight(40), n.add("Mul", m, f)))
    assert check(tmp_path, n, {"x": feed(3, 7, 40)}, y) == {"LayerNormalization": 1}


def test_layer_normalization_over_two_axes(tmp_path):
    n = Net()
    y = n.add("Mul", normalized(n, n.input("x", "n", 7, 40), [-2, -1]), n.weight(7, 40))
    assert check(tmp_path, n, {"x": feed(3, 7, 40)}, y) == {"LayerNormalization": 1}


@pytest.mark.parametrize("quotient", QUOTIENTS)
def test_rms_normalization(tmp_path, quotient):
    n = Net(18)
    y = n.add("Mul", n.weight(40), normalized(n, n.input("x", "n", 7, 40), [-1], "product", quotient, centred=False))
    assert check(tmp_path, n, {"x": feed(3, 7, 40)}, y) == {"RMSNormalization": 1}


def test_rms_normalization_with_its_scale_inside(tmp_path):
    n = Net()
    x = n.input("x", "n", 7, 40)
    v = n.add("Add", mean(n, n.add("Mul", x, x), [-1]), n.const(1e-6))
    y = n.add("Mul", x, n.add("Mul", n.weight(40), n.add("Pow", v, n.const(-0.5))))
    assert check(tmp_path, n, {"x": feed(3, 7, 40)}, y) == {"RMSNormalization": 1}


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("dims", [(12, 6, 5), (12, 33)])
def test_instance_normalization(tmp_path, dims, affine):
    n = Net()
    y = normalized(n, n.input("x", "n", *dims), list(range(2, len(dims) + 1)), "product")
    ones = [1] * (len(dims) - 1)
    if affine:
        y = n.add("Relu", n.add("Add", n.add("Mul", y, n.weight(12, *ones)), n.weight(1, 12, *ones)))
    left = check(tmp_path, n, {"x": feed(2, *dims)}, y)
    assert left == {"LayerNormalization" if len(dims) == 2 and not affine else "InstanceNormalization": 1}


@pytest.mark.parametrize("why", ["other mean", "other axes", "channels", "a scale that varies", "not the input"])
def test_what_is_no_normalization_stays(tmp_path, why):
    n = Net()
    x = n.input("x", "n", 12, 12)
    m = mean(n, x, [1] if why in ("other mean", "channels") else [2])
    d = n.add("Sub", x, m)
    v = n.add("Add", mean(n, n.add("Mul", d, d), [1] if why in ("other axes", "channels") else [2]), n.const(1e-5))
    y = n.add("Div", x if why == "not the input" else d, n.add("Sqrt", v))
    if why == "a scale that varies":
        y = n.add("Add", n.add("Mul", y, n.weight(2, 12, 12)), n.weight(12))
    left = check(tmp_path, n, {"x": feed(2, 12, 12)}, y)
    assert ("LayerNormalization" in left) == (why == "a scale that varies") and "InstanceNormalization" not in left
    assert why != "a scale that varies" or len(left) == 2


def grouped(n, x, groups, back, scale=None, shift=None):
    i = n.add("InstanceNormalization", n.add("Reshape", x, n.const([0, groups, -1], np.int64)),
              scale or n.const(np.ones(groups)), shift or n.const(np.zeros(groups)))
    return n.add("Reshape", i, n.add("Shape", x) if back == "shape" else n.const(back, np.int64))


@pytest.mark.parametrize("groups", [1, 4, 12])
@pytest.mark.parametrize("back", ["shape", [0, 12, 6, 5]])
def test_group_normalization(tmp_path, groups, back):
    n = Net()
    x = n.add("Conv", n.input("x", "n", 3, 6, 5), n.weight(12, 3, 3, 3), pads=[1] * 4)
    y = grouped(n, x, groups, back, n.weight(groups), n.weight(groups))
    y = n.add("Add", n.add("Mul", y, n.weight(12, 1, 1)), n.weight(1, 12, 1, 1))
    y = n.add("Mul", y, n.add("Sigmoid", y))
    assert check(tmp_path, n, {"x": feed(2, 3, 6, 5)}, y) == {"Conv": 1, "GroupNormalization": 1}


def test_group_normalization_spelled_out(tmp_path):
    n = Net()
    r = n.add("Reshape", n.input("x", "n", 12, 6, 5), n.const([0, 4, 3, 6, 5], np.int64))
    y = n.add("Reshape", normalized(n, r, [2, 3, 4]), n.const([0, 12, 6, 5], np.int64))
    y = n.add("Add", n.add("Mul", y, n.weight(12, 1, 1)), n.weight(12, 1, 1))
    assert check(tmp_path, n, {"x": feed(2, 12, 6, 5)}, y) == {"GroupNormalization": 1}


@pytest.mark.parametrize("why", ["another shape", "read by others"])
def test_groups_that_are_none_stay(tmp_path, why):
    n = Net()
    x = n.input("x", 2, 12, 6, 5)
    y = grouped(n, x, 4, [2, 12, 5, 6] if why == "another shape" else [2, 12, 6, 5])
    z = n.nodes[-1].input[0] if why == "read by others" else y
    left = check(tmp_path, n, {"x": feed(2, 12, 6, 5)}, n.add("Relu", y), n.add("Exp", z))
    assert left["InstanceNormalization"] == 1


# ---- activations -------------------------------------------------------------------------------------


def clip3(n, x):
    return n.add("Clip", n.add("Add", x, n.const(3)), n.const(0), n.const(6))


def one_plus_exp(n, x):
    return n.add("Add", n.add("Exp", x), n.const(1))


ACTIVATIONS = {
    "silu": lambda n, x: n.add("Div", x, one_plus_exp(n, n.add("Neg", x))),
    "sigmoid": lambda n, x: n.add("Div", n.const(1), one_plus_exp(n, n.add("Neg", x))),
    "sigmoid reciprocal": lambda n, x: n.add("Reciprocal", one_plus_exp(n, n.add("Neg", x))),
    "quick gelu": lambda n, x: n.add("Mul", x, n.add("Sigmoid", n.add("Mul", x, n.const(1.702)))),
    "mish": lambda n, x: n.add("Mul", x, n.add("Tanh", n.add("Log", one_plus_exp(n, x)))),
    "hard sigmoid": lambda n, x: n.add("Div", clip3(n, x), n.const(6)),
    "hard sigmoid times": lambda n, x: n.add("Mul", n.const(1 / 6), clip3(n, x)),
    "hard swish of min": lambda n, x: n.add("Mul", x, n.add("Div", n.add("Min", n.add("Relu", n.add("Add", x, n.const(3))), n.const(6)), n.const(6))),
    "relu": lambda n, x: n.add("Max", n.const(0), x),
    "relu6": lambda n, x: n.add("Min", n.add("Relu", x), n.const(6)),
    "clamp": lambda n, x: n.add("Max", n.add("Min", x, n.const(0.5)), n.const(-1)),
    "three clamps": lambda n, x: n.add("Clip", n.add("Min", n.add("Max", x, n.const(0.7)), n.const(2)), n.const(-1), n.const(0.5)),
    "leaky max": lambda n, x: n.add("Max", n.add("Mul", x, n.const(0.1)), x),
    "leaky where": lambda n, x: n.add("Where", n.add("Greater", x, n.const(0)), x, n.add("Mul", x, n.const(0.1))),
    "one slope": lambda n, x: n.add("PRelu", x, n.const([[[0.2]]])),
    "gelu": lambda n, x: n.add("Mul", x, n.add("Add", n.add("Mul", n.add("Erf", n.add("Mul", x, n.const(0.5 ** 0.5))), n.const(0.5)), n.const(0.5))),
    "gelu halved inside": lambda n, x: n.add("Mul", x, n.add("Mul", n.const(0.5), n.add("Add", n.const(1), n.add("Erf", n.add("Mul", x, n.const(0.5 ** 0.5)))))),
    "minus": lambda n, x: n.add("Sub", n.weight(8, 1, 1), n.add("Neg", x)),
    "nothing": lambda n, x: n.add("Div", n.add("Mul", n.add("Add", x, n.const(0)), n.const(1)), n.const(1)),
}


@pytest.mark.parametrize("spelling", ACTIVATIONS)
def test_activations_go_into_the_convolution(tmp_path, spelling):
    n = Net()
    x = n.add("Conv", n.input("x", 1, 4, 9, 9), n.weight(8, 4, 3, 3, scale=1), n.weight(8))
    assert check(tmp_path, n, {"x": feed(1, 4, 9, 9)}, ACTIVATIONS[spelling](n, x), tolerance=3e-5) == {"Conv": 1}


LOOKALIKES = {
    "steep": lambda n, x: n.add("Max", x, n.add("Mul", x, n.const(1.5))),
    "falling": lambda n, x: n.add("Max", x, n.add("Mul", x, n.const(-0.5))),
    "other side": lambda n, x: n.add("Where", n.add("Less", x, n.const(0)), x, n.add("Mul", x, n.const(0.1))),
    "other threshold": lambda n, x: n.add("Where", n.add("Greater", x, n.const(1)), x, n.add("Mul", x, n.const(0.1))),
    "two plus": lambda n, x: n.add("Div", x, n.add("Add", n.add("Exp", n.add("Neg", x)), n.const(2))),
    "not negated": lambda n, x: n.add("Div", x, one_plus_exp(n, x)),
    "five": lambda n, x: n.add("Div", clip3(n, x), n.const(5)),
    "shift of another": lambda n, x: n.add("Sub", n.const(np.zeros((2, 1, 8, 1, 1))), x),
    "many slopes": lambda n, x: n.add("PRelu", x, n.weight(8, 1, 1)),
    "crossed": lambda n, x: n.add("Min", n.add("Max", x, n.const(1)), n.const(-1)),
    "zero of more axes": lambda n, x: n.add("Add", x, n.const(np.zeros((1, 1, 1, 1, 1)))),
}


@pytest.mark.parametrize("spelling", LOOKALIKES)
def test_what_only_looks_like_an_activation_is_computed_as_it_is(tmp_path, spelling):
    n = Net()
    x = n.add("Relu", n.add("Exp", n.add("Conv", n.input("x", 1, 4, 9, 9), n.weight(8, 4, 3, 3))))
    check(tmp_path, n, {"x": feed(1, 4, 9, 9)}, LOOKALIKES[spelling](n, n.add("Sub", x, n.const(1.25))), tolerance=3e-5)


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(tmp_path, axis):
    n = Net()
    x = n.input("x", "n", 8, 9)
    e = n.add("Exp", n.add("Sub", x, n.add("ReduceMax", x, axes=[axis])))
    assert check(tmp_path, n, {"x": feed(2, 8, 9)}, n.add("Div", e, n.add("ReduceSum", e, n.const([axis], np.int64)))) == {"Softmax": 1}


def test_a_softmax_over_two_different_axes_stays(tmp_path):
    n = Net()
    x = n.input("x", "n", 8, 9)
    e = n.add("Exp", n.add("Sub", x, n.add("ReduceMax", x, axes=[1])))
    assert "Softmax" not in check(tmp_path, n, {"x": feed(2, 8, 9)}, n.add("Div", e, n.add("ReduceSum", e, n.const([2], np.int64))))


# ---- attention ---------------------------------------------------------------------------------------

ROWS, HEADS, WIDTH = 19, 4, 6
SEEN = np.tril(np.ones((1, 1, ROWS, ROWS)))


def heads_of(n, x):
    v = n.add("Add", n.add("MatMul", x, n.weight(24, 24)), n.weight(24))
    return n.add("Transpose", n.add("Reshape", v, n.const([0, ROWS, HEADS, WIDTH], np.int64)), perm=[0, 2, 1, 3])


SCORES = {
    "scaled k": lambda n, q, k: n.add("MatMul", q, n.add("Mul", k, n.const(WIDTH ** -0.5))),
    "both by a root": lambda n, q, k: n.add("MatMul", n.add("Mul", q, n.const(WIDTH ** -0.25)), n.add("Mul", k, n.const(WIDTH ** -0.25))),
    "divided": lambda n, q, k: n.add("Div", n.add("MatMul", q, k), n.const(WIDTH ** 0.5)),
    "divided q": lambda n, q, k: n.add("MatMul", n.add("Div", q, n.const(WIDTH ** 0.5)), k),
}
MASKS = {
    "none": lambda n, s: s,
    "added": lambda n, s: n.add("Add", n.weight(1, 1, ROWS, ROWS), s),
    "two": lambda n, s: n.add("Add", n.add("Add", s, n.weight(1, HEADS, ROWS, ROWS)), n.weight(1, 1, ROWS, ROWS)),
    "chosen": lambda n, s: n.add("Where", n.const(SEEN, bool), s, n.const(-np.inf)),
    "chosen otherwise": lambda n, s: n.add("Where", n.const(1 - SEEN, bool), n.const(-3.4e38), s),
    "chosen and added": lambda n, s: n.add("Where", n.const(SEEN, bool), n.add("Add", s, n.weight(HEADS, 1, ROWS)), n.const(-1e9)),
    "from an input": lambda n, s: n.add("Where", n.add("Greater", n.input("m", 1, 1, ROWS, ROWS), n.const(-2)), s, n.const(-1e9)),
}


def attention(n, scores, mask, guard=lambda n, p: p):
    x = n.input("x", "n", ROWS, 24)
    q, k, v = (heads_of(n, x) for _ in range(3))
    s = MASKS[mask](n, SCORES[scores](n, q, n.add("Transpose", k, perm=[0, 1, 3, 2])))
    o = n.add("MatMul", guard(n, n.add("Softmax", s, axis=-1)), v)
    return n.add("Reshape", n.add("Transpose", o, perm=[0, 2, 1, 3]), n.const([0, ROWS, 24], np.int64))


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("mask", MASKS)
def test_attention(tmp_path, scores, mask):
    n = Net()
    y = attention(n, scores, mask)
    feeds = {"x": feed(2, ROWS, 24)}
    if mask == "from an input":
        feeds["m"] = feed(1, 1, ROWS, ROWS)
    left = check(tmp_path, n, feeds, y)
    assert left["Attention"] == 1 and "Softmax" not in left and "Add" not in left


def test_attention_whose_empty_rows_are_zeros(tmp_path):
    n = Net()
    seen = SEEN.copy()
    seen[..., 3, :] = 0
    x = n.input("x", "n", ROWS, 24)
    q, k, v = (heads_of(n, x) for _ in range(3))
    s = n.add("Add", n.add("MatMul", q, n.add("Transpose", k, perm=[0, 1, 3, 2])), n.add("Where", n.const(seen, bool), n.const(0), n.const(-np.inf)))
    p = n.add("Softmax", s, axis=-1)
    y = n.add("MatMul", n.add("Where", n.add("IsNaN", p), n.const(0), p), v)
    left = check(tmp_path, n, {"x": feed(2, ROWS, 24)}, y)
    assert left["Attention"] == 1 and "IsNaN" not in left


@pytest.mark.parametrize("moved", [False, True])
def test_attention_with_channels_before_rows(tmp_path, moved):
    n = Net()
    q, k, v = (n.input(name, "n", 3, 8, 20) for name in "qkv")
    s = n.add("MatMul", n.add("Transpose", n.add("Mul", q, n.const(0.3)), perm=[0, 1, 3, 2]), k)
    p = n.add("Softmax", n.add("Add", s, n.weight(1, 3, 20, 20)), axis=-1)
    y = n.add("MatMul", v, n.add("Transpose", p, perm=[0, 1, 3, 2]))
    if moved:
        y = n.add("Transpose", y, perm=[0, 2, 3, 1])
    assert check(tmp_path, n, {name: feed(2, 3, 8, 20, seed=i) for i, name in enumerate("qkv")}, y) == {"Attention": 1}


@pytest.mark.parametrize("why", ["a mask that is not low", "a mask of more rows", "scores that others read"])
def test_attention_that_is_something_else_stays(tmp_path, why):
    n = Net()
    q, k, v = (n.input(name, 1, 3, 8, 20) for name in "qkv")
    s = n.add("MatMul", q, n.add("Transpose", k, perm=[0, 1, 3, 2]))
    outs = [n.add("Exp", s)] if why == "scores that others read" else []
    if why == "a mask that is not low":
        s = n.add("Where", n.const(np.tril(np.ones((8, 8))), bool), s, n.const(-2))
    elif why == "a mask of more rows":
        s = n.add("Add", s, n.weight(2, 3, 8, 8))
    y = n.add("MatMul", n.add("Softmax", s, axis=-1), n.add("Concat", v, v, axis=0) if why == "a mask of more rows" else v)
    left = check(tmp_path, n, {name: feed(1, 3, 8, 20, seed=i) for i, name in enumerate("qkv")}, y, *outs)
    assert "Attention" not in left
