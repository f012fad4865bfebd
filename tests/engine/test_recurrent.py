"""RNN, GRU and LSTM against ONNX Runtime: directions, lengths, activations, clipping, layouts, sizes that run in
parallel and sizes that do not."""
import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from oracle import make_model, ort, refused, same_as_ort, verify

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def network(op, steps=5, batch=3, inputs=4, hidden=6, direction="forward", bias=True, lengths=None, initial=False,
            peepholes=False, constant=True, seed=1, **attrs):
    rng = np.random.default_rng(seed)
    dirs, g = 2 if direction == "bidirectional" else 1, GATES[op]
    scale = min(0.5, 2 / hidden)  # a large network with large weights is chaotic: no two sums agree for long
    draw = lambda *shape: (rng.standard_normal(shape) * scale).astype(np.float32)
    feeds = {"x": draw(steps, batch, inputs), "w": draw(dirs, g * hidden, inputs), "r": draw(dirs, g * hidden, hidden)}
    names = ["x", "w", "r"]

    def optional(present, name, value):
        names.append(name if present else "")
        if present:
            feeds[name] = value

    optional(bias, "b", draw(dirs, 2 * g * hidden))
    optional(lengths is not None, "lens", np.array(lengths or [], np.int32))
    optional(initial, "h", draw(dirs, batch, hidden))
    if op == "LSTM":
        optional(initial, "c", draw(dirs, batch, hidden))
        optional(peepholes, "p", draw(dirs, 3 * hidden))
    outs = ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]
    node = helper.make_node(op, names, outs, hidden_size=hidden, direction=direction, **attrs)
    fixed = [numpy_helper.from_array(feeds.pop(k), k) for k in ("w", "r")] if constant else []
    return make_model([node], feeds, [(o, TensorProto.FLOAT) for o in outs], initializers=fixed), feeds


DIRECTIONS = ["forward", "reverse", "bidirectional"]


@pytest.mark.parametrize("op,direction,lengths", itertools.product(GATES, DIRECTIONS, [None, [5, 2, 1]]))
def test_directions_and_lengths(onnxd, tmp_path, op, direction, lengths):
    same_as_ort(onnxd, tmp_path, *network(op, direction=direction, lengths=lengths, initial=True))


@pytest.mark.parametrize("op", GATES)
def test_weights_may_be_inputs(onnxd, tmp_path, op):
    same_as_ort(onnxd, tmp_path, *network(op, constant=False, bias=False))


@pytest.mark.parametrize("op,hidden", itertools.product(GATES, [1, 16, 33, 300]))
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_sizes(onnxd, tmp_path, op, hidden, direction):
    same_as_ort(onnxd, tmp_path, *network(op, hidden=hidden, batch=2, inputs=40, steps=7, direction=direction), rtol=1e-3,
                atol=1e-5)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("hidden", [7, 320])
def test_a_gru_may_reset_before_or_after_its_product(onnxd, tmp_path, after, hidden):
    same_as_ort(onnxd, tmp_path, *network("GRU", linear_before_reset=after, hidden=hidden, direction="bidirectional"),
                rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("input_forget", [0, 1])
def test_an_lstm_has_peepholes(onnxd, tmp_path, input_forget):
    same_as_ort(onnxd, tmp_path, *network("LSTM", peepholes=True, initial=True, input_forget=input_forget))


@pytest.mark.parametrize("op", GATES)
def test_gates_are_clipped(onnxd, tmp_path, op):
    same_as_ort(onnxd, tmp_path, *network(op, clip=0.3, bias=True))


ACTS = [("Relu", None, None), ("Affine", 0.5, 0.1), ("LeakyRelu", 0.2, None), ("ThresholdedRelu", 0.3, None),
        ("ScaledTanh", 0.7, 0.9), ("HardSigmoid", 0.3, 0.4), ("Elu", 0.6, None), ("Softsign", None, None),
        ("Softplus", None, None)]


@pytest.mark.parametrize("name,alpha,beta", ACTS)
def test_activations(onnxd, tmp_path, name, alpha, beta):
    attrs = dict(activations=[name])
    if alpha is not None:
        attrs["activation_alpha"] = [alpha]
    if beta is not None:
        attrs["activation_beta"] = [beta]
    same_as_ort(onnxd, tmp_path, *network("RNN", **attrs))


def test_alphas_go_to_those_that_take_them(onnxd, tmp_path):
    model, feeds = network("LSTM", direction="bidirectional", activation_alpha=[0.3, 0.8, 0.25, 0.9],
                           activation_beta=[0.4, 0.7, 0.45, 0.6],
                           activations=["HardSigmoid", "ScaledTanh", "Tanh", "HardSigmoid", "ScaledTanh", "Tanh"])
    same_as_ort(onnxd, tmp_path, model, feeds)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_batch_first_is_the_same_transposed(onnxd, tmp_path, op, direction):
    """ONNX Runtime knows no layout 1."""
    model, feeds = network(op, direction=direction, initial=True)
    y, *states = ort(model, feeds)
    model.graph.node[0].attribute.append(helper.make_attribute("layout", 1))
    swapped = {k: v.swapaxes(0, 1).copy() if k in "xhc" else v for k, v in feeds.items()}
    for info in model.graph.input:
        info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, swapped[info.name].shape))
    wanted = [y.transpose(2, 0, 1, 3).copy()] + [s.swapaxes(0, 1).copy() for s in states]
    verify(onnxd, tmp_path, model, swapped, wanted)


@pytest.mark.parametrize("change,words", [
    (dict(direction="sideways"), "direction"), (dict(activations=["Sine"]), "activation"),
    (dict(activations=["Tanh", "Tanh"]), "activations"), (dict(clip=-1.0), "clip"), (dict(hidden_size=7), "hidden_size"),
])
def test_bad_attributes_are_refused(onnxd, tmp_path, change, words):
    model, feeds = network("RNN")
    node = model.graph.node[0]
    for k, v in change.items():
        for a in [a for a in node.attribute if a.name == k]:
            node.attribute.remove(a)
        node.attribute.append(helper.make_attribute(k, v))
    assert words in refused(onnxd, tmp_path, model, feeds)


def test_lengths_beyond_the_steps_are_refused(onnxd, tmp_path):
    assert "sequence_lens[1]" in refused(onnxd, tmp_path, *network("GRU", lengths=[1, 6, 2]))
