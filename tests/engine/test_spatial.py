"""Pooling, resampling and detection operators beside ONNX Runtime, over grids of attributes."""
import itertools
import random
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

ort = pytest.importorskip("onnxruntime")
ort.set_default_logger_severity(4)


def node(op, inputs, outputs=("y",), **attributes):
    return helper.make_node(op, inputs, list(outputs), **attributes)


class Beside:
    """Runs a model through both runtimes and compares."""

    def __init__(self, onnxd, folder):
        self.onnxd, self.folder, self.ran, self.refused = onnxd, folder, 0, 0

    def __call__(self, nodes, feeds, constants=None, outputs=("y",), opset=19, rtol=1e-5, atol=1e-5, domain=None, threads=1):
        nodes = nodes if isinstance(nodes, list) else [nodes]
        infos = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()]
        weights = [onnx.numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
        outs = [helper.make_empty_tensor_value_info(o) for o in outputs]
        opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        model = helper.make_model(helper.make_graph(nodes, "g", infos, outs, weights), opset_imports=opsets, ir_version=8)
        what = "; ".join(str(n).replace("\n", " ") for n in nodes) + str({k: (v.shape, v.dtype) for k, v in feeds.items()})
        try:
            options = ort.SessionOptions()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            want = ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)
        except Exception as error:  # what ONNX Runtime refuses is not compared
            self.refused += 1
            self.last_refusal = f"{what}: {error}"
            return
        path = self.folder / "m.onnx"
        path.write_bytes(model.SerializeToString())
        args = [self.onnxd, "run", str(path), "--output-dir", str(self.folder), "--threads", str(threads)]
        for k, v in feeds.items():
            np.save(self.folder / f"in_{k}.npy", v)
            args += ["--input", f"{k}={self.folder / f'in_{k}.npy'}"]
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        assert done.returncode == 0, what + done.stderr
        for i, (name, w) in enumerate(zip(outputs, want)):
            got = np.load(self.folder / f"{i}_{name}.npy")
            assert got.shape == w.shape and got.dtype == w.dtype, f"{what}: {got.shape} {got.dtype}, wanted {w.shape} {w.dtype}"
            np.testing.assert_allclose(got, w, rtol=rtol, atol=atol, err_msg=what)
        self.ran += 1


@pytest.fixture
def beside(onnxd, tmp_path):
    b = Beside(onnxd, tmp_path)
    yield b
    assert b.ran, getattr(b, "last_refusal", "nothing was compared")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def some(seed, count, **choices):
    """`count` random picks out of the product of the choices."""
    pick = random.Random(seed)
    for _ in range(count):
        yield {k: pick.choice(v) for k, v in choices.items()}


# ---- pooling -----------------------------------------------------------------------------------

POOL = dict(kernel=[(2, 2), (3, 3), (3, 2), (5, 5), (1, 3)], stride=[(1, 1), (2, 2), (3, 2)], dilation=[(1, 1), (2, 1), (2, 2)],
            pads=[(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0)], ceil=[0, 1], channels=[1, 3, 8, 17, 64],
            auto=["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_of_images_agree(beside, rng, op):
    for c in some(op, 40, **POOL):
        a = dict(kernel_shape=c["kernel"], strides=c["stride"], ceil_mode=c["ceil"])
        if c["auto"] == "NOTSET":
            a["pads"] = [min(p, k - 1) for p, k in zip(c["pads"], c["kernel"] * 2)]
        else:
            a["auto_pad"] = c["auto"]
            a["ceil_mode"] = 0  # where the two are at odds about the extent
        if op != "LpPool" and c["auto"] == "NOTSET":  # else ONNX Runtime pads as if there were none
            a["dilations"] = c["dilation"]
        if op == "AveragePool":
            a["count_include_pad"] = c["channels"] % 2
        beside(node(op, ["x"], **a), {"x": floats(rng, 2, c["channels"], 13, 11)})


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float64", "float16"])
def test_max_pools_of_every_type_agree(beside, rng, dtype):
    x = (rng.standard_normal((2, 9, 10, 12)) * 40).clip(-128, 127)
    x = (np.abs(x) if dtype == "uint8" else x).astype(dtype)
    beside(node("MaxPool", ["x"], kernel_shape=[3, 3], strides=[2, 1], pads=[1, 0, 1, 1]), {"x": x})


@pytest.mark.parametrize("order", [0, 1])
def test_indices_of_max_pool_agree(beside, rng, order):
    for shape, kernel in (((2, 3, 9), [3]), ((2, 5, 7, 8), [3, 2]), ((1, 2, 5, 6, 7), [2, 3, 2])):
        beside(node("MaxPool", ["x"], ["y", "i"], kernel_shape=kernel, strides=[2] * len(kernel), pads=[1] * 2 * len(kernel),
                    storage_order=order), {"x": floats(rng, *shape)}, outputs=("y", "i"))


def test_pools_of_one_and_three_axes_agree(beside, rng):
    for op, shape in itertools.product(["MaxPool", "AveragePool"], [(2, 5, 17), (1, 4, 7, 6, 8)]):
        n = len(shape) - 2
        for k, s, p in ((2, 2, 0), (3, 1, 1), (3, 2, 1)):
            beside(node(op, ["x"], kernel_shape=[k] * n, strides=[s] * n, pads=[p] * 2 * n), {"x": floats(rng, *shape)})


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools_agree(beside, rng, op):
    for shape in ((2, 3, 5), (1, 130, 7, 7), (2, 16, 112, 90), (1, 5, 3, 4, 5)):
        beside(node(op, ["x"]), {"x": floats(rng, *shape)}, threads=2)


# ---- resizing ----------------------------------------------------------------------------------

COORDS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_to_sizes_agrees(beside, rng, mode):
    for c in some(mode, 80, coord=COORDS, round=["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"], channels=[1, 3, 8, 19],
                  size=[(9, 13), (18, 26), (5, 7), (30, 4), (9, 20), (21, 13), (1, 1)], outside=[0, 1]):
        a = dict(mode=mode, coordinate_transformation_mode=c["coord"])
        if mode == "nearest":
            a["nearest_mode"] = c["round"]
        if mode == "cubic":
            a["exclude_outside"] = c["outside"]
        size = np.array([2, c["channels"], *c["size"]], dtype=np.int64)
        beside(node("Resize", ["x", "", "", "s"], **a), {"x": floats(rng, 2, c["channels"], 9, 13)}, {"s": size})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_by_scales_agrees(beside, rng, mode):
    coords = [c for c in COORDS if c != "align_corners"]  # the standard's own cases differ there
    for c in some(mode, 50, coord=coords, scale=[(2, 2), (0.5, 0.5), (1.5, 2.25), (1, 3), (0.3, 1.7), (4, 1)], channels=[1, 4, 16],
                  opset=[11, 13, 18, 19]):
        if c["coord"] == "half_pixel_symmetric" and c["opset"] < 19:
            continue
        scales = np.array([1, 1, *c["scale"]], dtype=np.float32)
        x = floats(rng, 1, c["channels"], 10, 12)
        inputs, constants = ["x", "roi", "s"], {"roi": np.zeros(0, np.float32), "s": scales}
        beside(node("Resize", inputs, mode=mode, coordinate_transformation_mode=c["coord"]), {"x": x}, constants, opset=c["opset"])


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiasing_agrees(beside, rng, mode):
    for size, outside in itertools.product([(5, 7), (3, 20), (17, 4), (2, 2)], [0, 1]):
        sizes = np.array([1, 6, *size], dtype=np.int64)
        beside(node("Resize", ["x", "", "", "s"], mode=mode, antialias=1, exclude_outside=outside if mode == "cubic" else 0),
               {"x": floats(rng, 1, 6, 16, 15)}, {"s": sizes}, atol=2e-5)


def test_crop_and_resize_agrees(beside, rng):
    for roi in ((0, 0, 0.2, 0.3, 1, 1, 0.7, 0.9), (0, 0, -0.1, 0.5, 1, 1, 1.3, 0.5)):
        for mode in ("nearest", "linear", "cubic"):
            beside(node("Resize", ["x", "roi", "", "s"], mode=mode, coordinate_transformation_mode="tf_crop_and_resize",
                        extrapolation_value=3.5), {"x": floats(rng, 1, 3, 9, 8)},
                   {"roi": np.array(roi, np.float32), "s": np.array([1, 3, 5, 6], np.int64)})


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_the_aspect_ratio_is_kept(beside, rng, policy):
    for size in ((20, 9), (5, 40)):
        beside(node("Resize", ["x", "", "", "s"], mode="linear", axes=[2, 3], keep_aspect_ratio_policy=policy),
               {"x": floats(rng, 1, 3, 10, 12)}, {"s": np.array(size, np.int64)})


def test_resizing_of_other_ranks_agrees(beside, rng):
    for shape, scale in (((7, 9), (2, 1.5)), ((2, 3, 10), (1, 1, 2)), ((2, 4, 5, 6, 7), (1, 1, 2, 2, 2)), ((1, 3, 5, 6, 4), (1, 1, 1, 2, 3))):
        for mode in ("nearest", "linear"):
            beside(node("Resize", ["x", "", "s"], mode=mode), {"x": floats(rng, *shape)}, {"s": np.array(scale, np.float32)})


@pytest.mark.parametrize("opset", [9, 10])
def test_the_old_forms_agree(beside, rng, opset):
    op = "Upsample" if opset == 9 else "Resize"
    for mode, scale in itertools.product(["nearest", "linear"], [(2, 2), (3, 1), (1.5, 2.5)] + ([(0.5, 0.6)] if opset == 10 else [])):
        beside(node(op, ["x", "s"], mode=mode), {"x": floats(rng, 1, 5, 8, 9)}, {"s": np.array([1, 1, *scale], np.float32)}, opset=opset)
    beside(node("Upsample", ["x"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]), {"x": floats(rng, 1, 5, 8, 9)}, opset=8)


def test_integers_resize(beside, rng):
    x = rng.integers(0, 255, (1, 3, 9, 8)).astype(np.uint8)
    beside(node("Resize", ["x", "", "s"], mode="nearest"), {"x": x}, {"s": np.array([1, 1, 2, 3], np.float32)})
    beside(node("Resize", ["x", "", "s"], mode="linear"), {"x": x}, {"s": np.array([1, 1, 2, 3], np.float32)}, atol=1)


def test_resized_images_may_be_concatenated(beside, rng):
    nodes = [node("Resize", ["x", "", "s"], ["a"], mode="nearest"), node("Resize", ["x", "", "s"], ["b"], mode="linear"),
             node("Concat", ["a", "b"], ["c"], axis=1), node("MaxPool", ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    beside(nodes, {"x": floats(rng, 1, 6, 7, 5)}, {"s": np.array([1, 1, 2, 2], np.float32)})


# ---- ConvTranspose -----------------------------------------------------------------------------


def transposed(rng, c, axes=2):
    group, cin, cout = c["group"], c["cin"], c["cout"]
    w = floats(rng, cin * group, cout, *c["kernel"][:axes]) / np.sqrt(cin)
    a = dict(strides=c["stride"][:axes], dilations=c["dilation"][:axes], group=group)
    if c["auto"] == "NOTSET":
        a["pads"] = c["pads"][:axes] * 2
        a["output_padding"] = [min(p, s - 1) for p, s in zip(c["out_pad"], c["stride"])][:axes]
    else:
        a["auto_pad"] = c["auto"]
    return w.astype(np.float32), a


CONV = dict(kernel=[(2, 2, 2), (3, 3, 3), (4, 4, 2), (5, 3, 1), (1, 1, 1)], stride=[(1, 1, 1), (2, 2, 2), (3, 2, 1), (4, 4, 2)],
            dilation=[(1, 1, 1), (1, 1, 1), (2, 2, 1), (3, 2, 2)], pads=[(0, 0, 0), (1, 1, 0)], out_pad=[(0, 0, 0), (1, 0, 1)],
            cin=[1, 3, 8, 20], cout=[1, 3, 9, 32], group=[1, 1, 2, 5], auto=["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_convolutions_agree(beside, rng, axes):
    for c in some(axes, 50, **CONV):
        if c["auto"] != "NOTSET" and any((k - 1) * d + 1 < s for k, d, s in zip(c["kernel"], c["dilation"], c["stride"])):
            continue  # ONNX Runtime makes less than input times stride
        w, a = transposed(rng, c, axes)
        shape = [2, w.shape[0], 7, 15, 4][: axes + 2]
        beside(node("ConvTranspose", ["x", "w", "b"], **a), {"x": floats(rng, *shape)}, {"w": w, "b": floats(rng, w.shape[1] * c["group"])},
               threads=2, atol=2e-5)


def test_transposed_depthwise_convolutions_agree(beside, rng):
    for k, s in ((4, 2), (3, 2), (2, 3), (3, 1)):
        beside(node("ConvTranspose", ["x", "w"], strides=[s, s], pads=[1, 0, 0, 1], group=21), {"x": floats(rng, 1, 21, 6, 9)},
               {"w": floats(rng, 21, 1, k, k)})


@pytest.mark.parametrize("size", [(9, 14), (40, 33)])
def test_phases_of_transposed_convolutions_go_through_winograds_transforms(beside, rng, size):
    for k, stride, pads, extra in [((4, 4), (2, 2), (1, 1, 1, 1), (0, 0)), ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), ((6, 6), (2, 2), (2, 2, 2, 2), (0, 0)),
                                   ((5, 5), (2, 2), (0, 3, 4, 1), (1, 0)), ((3, 3), (1, 1), (0, 0, 0, 0), (0, 0)), ((7, 3), (3, 1), (5, 2, 6, 0), (0, 0)),
                                   ((9, 6), (4, 3), (2, 0, 2, 1), (3, 2)), ((1, 4), (1, 2), (0, 1, 0, 1), (0, 0)), ((2, 5), (2, 2), (0, 9, 1, 2), (0, 1))]:
        for cout in (33, 64):
            shape = (2, 40, *size)
            w = floats(rng, 40, cout, *k) / np.float32(np.sqrt(40 * k[0] * k[1]))
            beside([node("ConvTranspose", ["x", "w", "b"], ["c"], strides=stride, pads=pads, output_padding=extra), node("LeakyRelu", ["c"])],
                   {"x": floats(rng, *shape)}, {"w": w, "b": floats(rng, cout)}, threads=2, atol=3e-5)
    for k, stride in [((4,), (2,)), ((16,), (8,)), ((6,), (3,))]:
        beside(node("ConvTranspose", ["x", "w"], strides=stride, pads=[1, 1]), {"x": floats(rng, 2, 48, size[0] * size[1])},
               {"w": floats(rng, 48, 32, *k) / np.float32(10)}, threads=2, atol=3e-5)


def test_an_output_shape_sets_the_pads(beside, rng):
    for shape, auto in itertools.product([(13, 10), (14, 11)], ["NOTSET", "SAME_UPPER"]):
        beside(node("ConvTranspose", ["x", "w"], strides=[2, 2], output_shape=shape, auto_pad=auto), {"x": floats(rng, 1, 4, 6, 5)},
               {"w": floats(rng, 4, 16, 4, 3)})


def test_what_follows_a_transposed_convolution_is_fused(beside, rng):
    for cout, act, order in itertools.product([2, 24], ["Relu", "Sigmoid"], [0, 1]):
        tail = [node(act, ["c"], ["d"]), node("Add", ["d", "r"])] if order else [node("Add", ["c", "r"], ["d"]), node(act, ["d"])]
        beside([node("ConvTranspose", ["x", "w", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1])] + tail,
               {"x": floats(rng, 2, 6, 5, 8), "r": floats(rng, 2, cout, 10, 16)},
               {"w": floats(rng, 6, cout, 4, 4), "b": floats(rng, cout)})


def test_weights_may_be_inputs_and_doubles(beside, rng):
    x, w = floats(rng, 1, 4, 5, 6), floats(rng, 4, 5, 3, 3)
    beside(node("ConvTranspose", ["x", "w"], strides=[2, 1]), {"x": x, "w": w})
    beside(node("ConvTranspose", ["x", "w"], strides=[2, 1]), {"x": x.astype(np.float64), "w": w.astype(np.float64)})


# ---- sampling ----------------------------------------------------------------------------------


def places(rng, *shape):
    """A grid that reaches a little over the edges."""
    return rng.uniform(-1.4, 1.4, shape).astype(np.float32)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sampling_agrees(beside, rng, padding):
    for mode, corners, channels, opset in itertools.product(["linear", "nearest", "cubic"], [0, 1], [1, 3, 8, 21], [16, 20]):
        if opset == 16:
            mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
        beside(node("GridSample", ["x", "g"], mode=mode, padding_mode=padding, align_corners=corners),
               {"x": floats(rng, 2, channels, 7, 9), "g": places(rng, 2, 5, 70, 2)}, opset=opset, atol=2e-5)
    for mode in ("linear", "nearest"):
        beside(node("GridSample", ["x", "g"], mode=mode, padding_mode=padding),
               {"x": floats(rng, 1, 5, 4, 5, 6), "g": places(rng, 1, 3, 4, 5, 3)}, opset=20, atol=2e-5)


def test_affine_grids_agree(beside, rng):
    for size, corners in itertools.product([(2, 3, 5, 6), (1, 1, 3, 4, 5)], [0, 1]):
        n = len(size) - 2
        beside(node("AffineGrid", ["t", "s"], align_corners=corners), {"t": floats(rng, size[0], n, n + 1)}, {"s": np.array(size, np.int64)},
               opset=20)


def rois(rng, n, extent):
    a = rng.uniform(-3, extent, (n, 2))
    return np.concatenate([a, a + rng.uniform(0.2, extent, (n, 2))], axis=1).astype(np.float32)


def test_aligned_regions_agree(beside, rng):
    for mode, ratio, opset, channels in itertools.product(["avg", "max"], [0, 2, 3], [10, 16], [3, 32]):
        a = {"coordinate_transformation_mode": "half_pixel" if channels == 3 else "output_half_pixel"} if opset == 16 else {}
        beside(node("RoiAlign", ["x", "r", "b"], mode=mode, sampling_ratio=ratio, output_height=3, output_width=4, spatial_scale=0.6, **a),
               {"x": floats(rng, 2, channels, 12, 15), "r": rois(rng, 9, 20), "b": rng.integers(0, 2, 9)}, opset=opset, atol=2e-5)


def test_pooled_regions_agree(beside, rng):
    r = np.concatenate([rng.integers(0, 2, (6, 1)).astype(np.float32), np.abs(rois(rng, 6, 12))], axis=1).astype(np.float32)
    beside(node("MaxRoiPool", ["x", "r"], pooled_shape=[3, 2], spatial_scale=0.5), {"x": floats(rng, 2, 4, 11, 13), "r": r}, opset=18)


def test_cropped_and_resized_regions_agree(beside, rng):
    for mode, size in itertools.product(["bilinear", "nearest"], [(3, 4), (1, 1)]):
        beside(node("CropAndResize", ["x", "r", "b", "s"], mode=mode, extrapolation_value=7.0, domain="com.microsoft"),
               {"x": floats(rng, 2, 3, 9, 8), "r": rois(rng, 5, 1).clip(-0.2, 1.2), "b": rng.integers(0, 2, 5).astype(np.int32)},
               {"s": np.array(size, np.int32)}, domain="com.microsoft")


def test_suppression_of_boxes_agrees(beside, rng):
    for centre, most, iou, score in itertools.product([0, 1], [0, 3, 1000], [0.0, 0.3, 0.7], [None, 0.4]):
        boxes = np.abs(rois(rng, 2 * 60, 8)).reshape(2, 60, 4)
        scores = rng.uniform(0, 1, (2, 3, 60)).round(1).astype(np.float32)
        constants = {"m": np.array([most], np.int64), "i": np.array([iou], np.float32)}
        if score is not None:
            constants["s"] = np.array([score], np.float32)
        beside(node("NonMaxSuppression", ["b", "c", *constants], center_point_box=centre), {"b": boxes, "c": scores}, constants, threads=2)


def test_unpooling_inverts_pooling(beside, rng):
    beside([node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
            node("MaxUnpool", ["p", "i"], kernel_shape=[2, 2], strides=[2, 2])], {"x": floats(rng, 2, 3, 6, 8)})


def test_deformed_convolutions_agree(beside, rng):
    for group, offsets, k, stride, channels in itertools.product([1, 2], [1, 2], [1, 3], [1, 2], [4, 16]):
        out = (9 - 1) // stride + 1, (8 - 1) // stride + 1
        feeds = {"x": floats(rng, 2, channels, 9, 8), "o": floats(rng, 2, offsets * 2 * k * k, *out) * 2,
                 "m": rng.uniform(0, 1, (2, offsets * k * k, *out)).astype(np.float32)}
        beside(node("DeformConv", ["x", "w", "o", "b", "m"], group=group, offset_group=offsets, strides=[stride] * 2, pads=[k // 2] * 4), feeds,
               {"w": floats(rng, 6, channels // group, k, k) / k, "b": floats(rng, 6)}, atol=5e-5)


# ---- ONNX Runtime's own forms ------------------------------------------------------------------


def test_fused_convolutions_agree(beside, rng):
    for act, params in (("Relu", None), ("LeakyRelu", [0.3]), ("Clip", [-0.5, 0.7]), ("HardSigmoid", [0.3, 0.4]), ("Tanh", None)):
        a = {"activation_params": params} if params else {}
        w = {"w": floats(rng, 6, 4, 3, 3), "b": floats(rng, 6)}
        x = {"x": floats(rng, 2, 4, 7, 6)}
        beside(node("FusedConv", ["x", "w", "b"], activation=act, pads=[1] * 4, domain="com.microsoft", **a), x, w, domain="com.microsoft", atol=3e-5)
        beside(node("FusedConv", ["x", "w", "b", "z"], activation=act, pads=[1] * 4, domain="com.microsoft", **a),
               x | {"z": floats(rng, 2, 6, 7, 6)}, w, domain="com.microsoft", atol=3e-5)


def test_channels_last_forms_agree(beside, rng):
    x = rng.integers(0, 255, (2, 7, 6, 5)).astype(np.uint8)
    beside(node("NhwcMaxPool", ["x"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], domain="com.microsoft"), {"x": x},
           domain="com.microsoft")
    scale, zero = np.array(0.1, np.float32), np.array(3, np.uint8)
    for last in (0, 1):
        c = x.shape[3] if last else x.shape[1]
        beside(node("QLinearConv", ["x", "s", "z", "w", "s", "wz", "s", "z", "b"], pads=[1] * 4, channels_last=last, domain="com.microsoft"), {"x": x},
               {"s": scale, "z": zero, "w": rng.integers(-9, 9, (4, c, 3, 3)).astype(np.int8), "wz": np.array(0, np.int8),
                "b": rng.integers(-50, 50, 4).astype(np.int32)}, domain="com.microsoft", atol=1)


def test_old_image_operators_agree(beside, rng):
    x = {"x": floats(rng, 2, 3, 6, 7)}
    beside(node("ImageScaler", ["x"], scale=0.5, bias=[1.0, 2.0, -1.0]), x, opset=9)
    beside(node("Affine", ["x"], alpha=2.0, beta=0.5), x, opset=9)
    beside(node("Crop", ["x"], border=[1, 2, 2, 1]), x, opset=9)
    beside(node("Crop", ["x"], border=[1, 2, 0, 0], scale=[3, 4]), x, opset=9)


@pytest.mark.parametrize("kernel, stride, pads", [(3, 1, [1, 1, 1, 1]), (3, 2, [0, 0, 1, 1]), (5, 2, [2, 1, 2, 3]), (5, 1, [0, 0, 0, 0]), (1, 3, [0] * 4)])
def test_convolutions_made_in_parts_agree(beside, rng, kernel, stride, pads):
    """1x1, depthwise, 1x1: maps large enough that the engine makes each band of lines for the next."""
    wide, out = 72, 24
    constants = {"a": floats(rng, wide, 10, 1, 1), "ab": floats(rng, wide), "d": floats(rng, wide, 1, kernel, kernel) / kernel, "db": floats(rng, wide),
                 "p": floats(rng, out, wide, 1, 1) / 8}
    expand = [node("Conv", ["x", "a", "ab"], ["e"]), node("Clip", ["e", "lo", "hi"], ["f"])]
    middle = [node("Conv", ["f", "d", "db"], ["g"], group=wide, strides=[stride] * 2, pads=pads), node("Sigmoid", ["g"], ["s"]), node("Mul", ["g", "s"], ["h"])]
    bounds = {"lo": np.array(0, np.float32), "hi": np.array(6, np.float32)}
    feeds = {"x": floats(rng, 2, 10, 61, 67)}
    rows, cols = ((n + pads[i] + pads[i + 2] - kernel) // stride + 1 for i, n in enumerate((61, 67)))
    for threads in (1, 2):
        beside([*expand, *middle, node("Conv", ["h", "p"], ["q"]), node("Add", ["q", "r"])], feeds | {"r": floats(rng, 2, out, rows, cols)},
               constants | bounds, threads=threads, atol=5e-5)
        beside([*expand, *middle], feeds, constants | bounds, outputs=("h",), threads=threads, atol=5e-5)
        beside([*expand, *middle, node("Add", ["f", "f"], ["t"])], feeds, constants | bounds, outputs=("h", "t"), threads=threads, atol=5e-5)
        beside([*middle, node("Conv", ["h", "p"])], {"f": floats(rng, 2, wide, 61, 67)}, constants, threads=threads, atol=5e-5)
