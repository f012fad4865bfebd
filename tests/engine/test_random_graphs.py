#!/usr/bin/env python3
"""Random small graphs through onnxd and ONNX Runtime: every value of each must agree.

    tests/engine/test_random_graphs.py [--seed N] [--graphs N] [--onnxd build/onnxd] [--keep DIR]

A graph is a chain of random operators with random attributes over a few tensors of random shapes (ranks 0 to 8, extents of
0 and 1 among them), of which some are constants and some inputs whose extents are declared free. ONNX Runtime says which
nodes are valid: a node that it refuses is dropped. Left out is where both may be right: Floor, Ceil and Round, which make a whole
number of the last bit, and ArgMax and ArgMin, which choose by it, of anything but inputs; align_corners where the scale makes a broken length, which ONNX Runtime cuts off
and ONNX's own results keep; padding counted by windows larger than the input; auto_pad of pools with gaps; a mean of nothing.
Prints the graphs that differ, and what differs, with exit code 1, and the seeds whose graphs crashed ONNX Runtime."""
import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(4)
F, I = np.float32, np.int64
ONE = ["Abs", "Neg", "Exp", "Sigmoid", "Tanh", "Relu", "Floor", "Ceil", "Round", "Sign", "Erf", "Softplus", "Softsign", "HardSwish", "Identity", "Sin",
       "Cos", "Atan", "Mish", "Reciprocal", "Sqrt"]
ROUNDING = ["Floor", "Ceil", "Round"]
TWO = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Mean", "Sum"]


class Maker:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.values = {}  # name -> array, as ONNX Runtime computed it
        self.nodes, self.constants, self.inputs, self.count = [], [], {}, 0
        self.opset = int(self.rng.choice([13, 17, 18, 21]))
        for _ in range(self.rng.integers(1, 4)):
            self.inputs[self.name()] = None
        for k in self.inputs:
            self.inputs[k] = self.values[k] = self.tensor(self.shape())

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def pick(self, *of):
        return of[self.rng.integers(len(of))]

    def chance(self, p):
        return self.rng.random() < p

    def shape(self):
        r = int(self.pick(0, 1, 2, 2, 3, 3, 4, 4, 4, 5, 6, 8))
        most = {8: 2, 6: 3, 5: 4}.get(r, 9)
        return [int(self.pick(0, 1)) if self.chance(0.06) else int(self.rng.integers(1, most + 1)) for _ in range(r)]

    def tensor(self, shape, dtype=F):
        if dtype is F:
            return np.asarray(self.rng.standard_normal(shape) * self.pick(1, 1, 3), F)
        return np.asarray(self.rng.integers(-3, 4, shape), dtype)

    def constant(self, array):
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def operand(self, shape, dtype=F):
        """A constant, or an input, or a value that is there of that shape."""
        fits = [k for k, v in self.values.items() if v.dtype == dtype and list(v.shape) == list(shape)]
        if fits and self.chance(0.6):
            return self.pick(*fits)
        if self.chance(0.75):
            return self.constant(self.tensor(shape, dtype))
        name = self.name()
        self.inputs[name] = self.values[name] = self.tensor(shape, dtype)
        return name

    def broadcastable(self, shape):
        s = [1 if self.chance(0.3) else d for d in shape]
        return s[self.rng.integers(len(s) + 1):] if self.chance(0.5) else s

    def one(self, x):
        return self.pick(*(ONE if x in self.inputs else [op for op in ONE if op not in ROUNDING]))

    def proposal(self):
        """An operator, its inputs and attributes; it need not be valid."""
        rng, pick, chance = self.rng, self.pick, self.chance
        floats = [k for k, v in self.values.items() if v.dtype == F and v.size < 60000]
        x = pick(*floats[-4:]) if chance(0.8) else pick(*floats)
        v = self.values[x]
        r, shape = v.ndim, list(v.shape)
        axis = int(rng.integers(-r, r)) if r else 0
        kind = rng.integers(38)
        if kind >= 34:
            return self.phrase(x, shape, r)
        if kind < 4:
            return self.one(x), [x], {}
        if kind < 8:
            op, other = pick(*TWO), self.operand(self.broadcastable(shape))
            return op, [x, other] if op == "PRelu" or chance(0.6) else [other, x], {}
        if kind == 8:
            return "LeakyRelu", [x], dict(alpha=float(rng.random()))
        if kind == 9:
            return pick("Softmax", "LogSoftmax", "Hardmax"), [x], dict(axis=axis)
        if kind == 10:
            op = pick("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
            axes = sorted(set(int(a) for a in rng.integers(-r, r, rng.integers(1, 3)))) if r else []
            keep = dict(keepdims=int(chance(0.5)))
            if op == "ReduceMean" and not v.size:
                op = "ReduceSum"
            if op == "ReduceSum" or self.opset >= 18:
                return op, [x] + ([self.constant(np.array(axes, I))] if axes else []), keep
            return op, [x], dict(keep, **(dict(axes=axes) if axes else {}))
        if kind == 11:
            return "Transpose", [x], dict(perm=[int(p) for p in rng.permutation(r)]) if r else {}
        if kind == 12:
            divisors = [d for d in range(1, max(v.size, 1) + 1) if v.size and v.size % d == 0]
            first = int(pick(*divisors)) if divisors else 0
            target = [first, -1] if v.size and chance(0.6) else [v.size] if chance(0.4) else [0, -1] if r > 1 and v.size else shape[::-1]
            return "Reshape", [x, self.constant(np.array(target, I))], {}
        if kind == 13:
            ends = [d if chance(0.5) else int(rng.integers(-d - 1, d + 2)) for d in shape]
            starts = [int(rng.integers(-d - 1, d + 1)) if chance(0.5) else 0 for d in shape]
            steps = [int(pick(1, 1, 2, -1)) for _ in shape]
            return "Slice", [x] + [self.constant(np.array(a, I)) for a in (starts, ends, list(range(r)), steps)], {}
        if kind == 14:
            return "Concat", [x] + [self.operand(shape) for _ in range(rng.integers(1, 3))] , dict(axis=axis)
        if kind == 15 and r:
            n = shape[axis]
            index = np.array(rng.integers(-n, n, pick((), (2,), (2, 3))) if n else np.zeros(0), I)
            return "Gather", [x, self.constant(index)], dict(axis=axis)
        if kind == 16:
            pads = [int(rng.integers(0, 3)) if chance(0.5) else 0 for _ in range(2 * r)]
            mode = pick("constant", "constant", "reflect", "edge") if self.opset < 19 else pick("constant", "reflect", "edge", "wrap")
            return "Pad", [x, self.constant(np.array(pads, I))] + ([self.constant(F(1.5))] if mode == "constant" and chance(0.5) else []), dict(mode=mode)
        if kind == 17:
            return "Expand", [x, self.constant(np.array([pick(1, 2, 3)] * int(rng.integers(0, 2)) + [d if d != 1 else pick(1, 2) for d in shape], I))], {}
        if kind == 18:
            return "Tile", [x, self.constant(np.array([pick(1, 1, 2) for _ in shape], I))], {}
        if kind == 19 and r:
            axes = [i for i, d in enumerate(shape) if d == 1]
            if axes and chance(0.5):
                return "Squeeze", [x, self.constant(np.array(axes[:1], I))], {}
            return "Unsqueeze", [x, self.constant(np.array([int(rng.integers(0, r + 1))], I))], {}
        if kind in (20, 21) and r:
            n = int(rng.integers(1, 9))
            if chance(0.7) or r == 1:
                return "MatMul", [x, self.operand([shape[-1], n])], {}
            other = [d if chance(0.7) else 1 for d in shape[:-2]] + [shape[-1], n]
            return "MatMul", [x, self.operand(other)], {}
        if kind == 22 and r == 2:
            ta, tb = int(chance(0.3)), int(chance(0.5))
            k, n = shape[0 if ta else 1], int(rng.integers(1, 9))
            more = [self.operand(pick([n], [1, n], [1], [shape[1 if ta else 0], 1]))] if chance(0.7) else []
            return "Gemm", [x, self.operand([n, k] if tb else [k, n])] + more, dict(transA=ta, transB=tb, alpha=float(pick(1, 0.5)), beta=float(pick(1, 2)))
        if kind in (23, 24, 25) and 3 <= r <= 5:
            return self.convolution(x, shape, r - 2)
        if kind == 26 and 3 <= r <= 5:
            op = pick("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool")
            if op.startswith("Global"):
                return op, [x], {}
            k = [int(rng.integers(1, 4)) for _ in range(r - 2)]
            attrs = dict(kernel_shape=k, strides=[int(pick(1, 2, 3)) for _ in k])
            same = ("SAME_UPPER", "SAME_LOWER") if all(s <= d for s, d in zip(attrs["strides"], k)) else ()
            attrs.update(dict(pads=[int(rng.integers(0, d)) for d in k * 2]) if chance(0.5) else dict(auto_pad=pick(*same, "VALID")))
            if op == "AveragePool":
                attrs["count_include_pad"] = int(chance(0.5) and all(n <= d for n, d in zip(k, shape[2:])))
            if op != "LpPool":
                attrs["ceil_mode"] = int(chance(0.3))
            return op, [x], attrs
        if kind == 27 and r >= 2:
            c = shape[1]
            one = lambda: self.constant(np.abs(self.tensor([c])) + F(0.2))
            if chance(0.6):
                return "BatchNormalization", [x] + [one() for _ in range(4)], {}
            return "InstanceNormalization", [x, one(), one()], {}
        if kind == 28 and r and self.opset >= 17:
            tail = shape[axis:]
            return "LayerNormalization", [x, self.operand(tail)] + ([self.operand(tail)] if chance(0.6) else []), dict(axis=axis, epsilon=1e-3)
        if kind == 29 and r and x in self.inputs:
            return pick("ArgMax", "ArgMin"), [x], dict(axis=axis, keepdims=int(chance(0.5)), select_last_index=int(chance(0.3)))
        if kind == 30:
            bounds = sorted(rng.standard_normal(2))
            return "Clip", [x, self.constant(F(bounds[0])), self.constant(F(bounds[1]))], {}
        if kind == 31 and r:
            return "CumSum", [x, self.constant(np.array(axis, I))], dict(reverse=int(chance(0.5)), exclusive=int(chance(0.5)))
        if kind == 32 and r == 4:
            if chance(0.5):
                scales = np.array([1, 1] + [float(pick(0.5, 1, 1.5, 2, 3)) for _ in range(2)], F)
                mode = pick("nearest", "linear", "cubic")
                how = pick("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
                if how == "align_corners" and (scales * shape % 1).any():
                    how = "half_pixel"
                return "Resize", [x, "", self.constant(scales)], dict(mode=mode, coordinate_transformation_mode=how,
                                                                     nearest_mode=pick("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
            return "SpaceToDepth", [x], dict(blocksize=2)
        if kind == 33 and r:
            compare, other = self.name(), self.operand(self.broadcastable(shape))
            self.nodes.append(helper.make_node(pick("Less", "Greater", "LessOrEqual"), [x, other], [compare]))
            return "Where", [compare, x, self.operand(self.broadcastable(shape))], {}
        return self.one(x), [x], {}

    def step(self, op, *inputs, **attrs):
        """A node in the middle of a phrase; what it makes."""
        out = self.name()
        self.nodes.append(helper.make_node(op, inputs, [out], **attrs))
        return out

    def ints(self, *values):
        return self.constant(np.array(values, I))

    def phrase(self, x, shape, r):
        """A few operators in a row, as exporters write them, that passes take for one or leave out."""
        rng, pick, chance, step = self.rng, self.pick, self.chance, self.step
        vector = lambda n, *ones: self.constant(self.tensor([n, *ones]))
        axis = int(rng.integers(0, r)) if r else 0
        kind = rng.integers(9)
        if kind == 0 and r >= 3:  # channels last, for a while
            v = step("Transpose", x, perm=[0, *range(2, r), 1])
            for _ in range(rng.integers(1, 4)):
                v = pick(lambda: step("Relu", v), lambda: step("Mul", v, vector(shape[1])), lambda: step("Add", vector(shape[1]), v),
                         lambda: step("Mul", v, v), lambda: step("Clip", v, self.constant(F(-1)), self.constant(F(2))),
                         lambda: step("Pad", v, self.ints(*[int(rng.integers(0, 2)) for _ in range(2 * r)])),
                         lambda: step("Concat", v, v, axis=int(rng.integers(-r, r))))()
            return "Transpose", [v], dict(perm=[0, r - 1, *range(1, r - 1)])
        if kind == 1:
            v = step("Max", x, self.constant(F(rng.standard_normal())))
            v = step(pick("Relu", "Abs"), v) if chance(0.4) else v
            return "Min", [self.constant(F(rng.standard_normal())), v], {}
        if kind == 2 and r:
            axes = dict(axes=list(range(axis, r))) if self.opset < 18 else {}
            mean = lambda v: step("ReduceMean", v, *([] if axes else [self.ints(*range(axis, r))]), **axes)
            d = step("Sub", x, mean(x)) if chance(0.7) else x
            root = step("Sqrt", step("Add", mean(step("Mul", d, d)), self.constant(F(1e-3))))
            y = step("Div", d, root) if chance(0.5) else step("Mul", step("Reciprocal", root), d)
            return pick("Mul", "Add"), [y, self.constant(self.tensor(shape[axis:] if chance(0.7) else shape[1:2] + [1] * (r - 2)))], {}
        if kind == 3 and r:
            most = dict(axes=[axis]) if self.opset < 18 else {}
            e = step("Exp", step("Sub", x, step("ReduceMax", x, *([] if most else [self.ints(axis)]), **most)))
            return "Div", [e, step("ReduceSum", e, self.ints(axis if chance(0.8) else 0))], {}
        if kind == 4 and r and shape[axis] > 1:
            at = int(rng.integers(1, shape[axis]))
            a = step("Slice", x, self.ints(at), self.ints(2 ** 62), self.ints(axis))
            return "Concat", [a, step("Slice", x, self.ints(0), self.ints(at if chance(0.7) else 1), self.ints(axis - r))], dict(axis=axis)
        if kind == 5 and r == 4:
            cuts = [step("Slice", x, self.ints(i, j), self.ints(2 ** 62, 2 ** 62), self.ints(2, 3), self.ints(2, 2)) for i, j in [(0, 0), (1, 0), (0, 1), (1, 1)]]
            return "Concat", cuts if chance(0.7) else cuts[::-1], dict(axis=1)
        if kind == 6 and r == 4 and shape[1]:  # channels of zeros, in between and at the end
            w = self.tensor([6, shape[1], 2, 2])
            w[rng.random(6) < 0.4] = 0
            v = step(pick("Relu", "Tanh", "Sigmoid"), step("Conv", x, self.constant(w), vector(6), pads=[1] * 4))
            w = self.tensor([4, 6, 1, 1])
            w[:, rng.random(6) < 0.3] = 0
            return "Conv", [v, self.constant(w)], dict(pads=[int(chance(0.3))] * 4)
        if kind == 7 and r >= 2:
            image = 3 <= r <= 5 and chance(0.6)
            n = shape[1 if image else -1]
            ones = [1] * (r - 2) if image else []
            v = step("Add", step("Mul", vector(n, *ones), x), vector(n, *ones))
            return ("Conv", [v, self.constant(self.tensor([3, n] + [2] * (r - 2)))], dict(pads=[int(chance(0.3))] * (2 * r - 4))) if image else ("MatMul", [v, self.constant(self.tensor([n, 3]))], {})
        if kind == 8 and r == 4:
            v = step("Pad", step("Relu", x), self.ints(0, 0, *[int(k) for k in rng.integers(0, 2, 2)], 0, 0, *[int(k) for k in rng.integers(0, 2, 2)]))
            counts = dict(count_include_pad=int(chance(0.5)))
            op = pick("MaxPool", "AveragePool")
            return op, [v], dict(kernel_shape=[2, 2], strides=[int(pick(1, 2))] * 2, **(counts if op == "AveragePool" else {}))
        return self.one(x), [x], {}

    def convolution(self, x, shape, n):
        rng, pick, chance = self.rng, self.pick, self.chance
        c = shape[1]
        k = [int(rng.integers(1, 4)) for _ in range(n)]
        attrs = dict(kernel_shape=k, strides=[int(pick(1, 1, 2)) for _ in k])
        attrs.update(dict(pads=[int(rng.integers(0, 3)) for _ in k * 2]) if chance(0.7) else dict(auto_pad=pick("SAME_UPPER", "VALID")))
        if chance(0.3):
            attrs["dilations"] = [int(pick(1, 2)) for _ in k]
        group = int(pick(*[g for g in range(1, c + 1) if c % g == 0])) if c and chance(0.5) else 1
        out = group * int(rng.integers(1, 4))
        if chance(0.25) and "auto_pad" not in attrs:
            attrs["group"] = group
            return "ConvTranspose", [x, self.operand([c, out // group] + k)] + ([self.operand([out])] if chance(0.5) else []), attrs
        attrs["group"] = group
        return "Conv", [x, self.operand([out, c // group if group else 1] + k)] + ([self.operand([out])] if chance(0.6) else []), attrs

    def model(self, nodes, outputs, free):
        used = {i for n in nodes for i in n.input}
        info = lambda k, v: helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), [f"{k}_{d}" if free else n for d, n in enumerate(v.shape)])
        graph = helper.make_graph(nodes, "g", [info(k, v) for k, v in self.inputs.items() if k in used],
                                  [onnx.ValueInfoProto(name=o) for o in outputs], [c for c in self.constants if c.name in used])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def run(self, model):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {i.name: self.inputs[i.name] for i in session.get_inputs()})

    def grow(self, size):
        for _ in range(size):
            before = len(self.nodes), len(self.constants), dict(self.inputs), dict(self.values)
            try:
                op, inputs, attrs = self.proposal()
                out = self.name()
                self.nodes.append(helper.make_node(op, inputs, [out], **attrs))
                got = self.run(self.model(self.nodes, [out], False))[0]
                ok = got.size <= 100000 and got.ndim <= 8 and (got.dtype != F or not got.size or (np.isfinite(got).all() and np.abs(got).max() < 1e5))
            except Exception:
                ok = False
            if ok:
                self.values[out] = got
            else:
                n, c, self.inputs, self.values = before
                del self.nodes[n:], self.constants[c:]


def bytes_of(value):
    return numpy_helper.from_array(np.asarray(value)).SerializeToString()


def write(folder, m, rng):
    """The last values that nothing reads, and one in between, are the outputs."""
    read = {i for n in m.nodes for i in n.input}
    made = [o for n in m.nodes for o in n.output if o in m.values]
    outputs = [o for o in made if o not in read] + [o for o in made if o in read and rng.random() < 0.15]
    if not outputs:
        return False
    model = m.model(m.nodes, outputs, bool(rng.random() < 0.5))
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "data.json").write_text('{"rtol": 2e-3, "atol": 2e-4}')
    for i, info in enumerate(model.graph.input):
        (data / f"input_{i}.pb").write_bytes(bytes_of(m.inputs[info.name]))
    for i, o in enumerate(outputs):
        (data / f"output_{i}.pb").write_bytes(bytes_of(m.values[o]))
    return True


def check(onnxd, seeds, keep=None, size=14):
    """[(seed, what differs, nodes)], how many nodes ran, and [(seed, how it ended)] of those that made no graph."""
    folder, wrong, ran, crashed = pathlib.Path(tempfile.mkdtemp()), [], 0, []
    try:
        paths = {}
        for seed in seeds:
            child = os.fork()  # some graphs crash ONNX Runtime
            if not child:
                try:
                    m = Maker(seed)
                    m.grow(size)
                    write(folder / str(seed), m, m.rng)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code:
                crashed.append((seed, signal.Signals(-code).name if code < 0 else f"exit code {code}"))
            elif (folder / str(seed)).exists():
                paths[seed] = onnx.load(folder / str(seed) / "model.onnx").graph.node
                ran += len(paths[seed])
        done = subprocess.run([onnxd, "verify", *(str(folder / str(s)) for s in paths)], capture_output=True, text=True, errors="replace")
        lines = [x for x in (re.match(r"(ok|FAIL|skip) ([^ :]+)(?:: )?(.*)", s) for s in done.stdout.splitlines()) if x]
        assert len(lines) == len(paths), done.stdout[-300:] + done.stderr[-500:]
        for (seed, nodes), x in zip(paths.items(), lines):
            if x[1] == "ok":
                continue
            wrong.append((seed, x[3], [f"{n.op_type}({', '.join(n.input)}) -> {n.output[0]}" for n in nodes]))
            if keep:
                shutil.copytree(folder / str(seed), os.path.join(keep, str(seed)), dirs_exist_ok=True)
    finally:
        shutil.rmtree(folder)
    return wrong, ran, crashed


def test_random_graphs_give_what_onnx_runtime_gives(onnxd):
    wrong, ran, crashed = check(onnxd, range(60))
    assert not wrong, wrong
    assert not [c for c in crashed if not c[1].startswith("SIG")], crashed  # ONNX Runtime may crash, this file may not
    assert ran > 400


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--onnxd", default="build/onnxd")
    p.add_argument("--seed", type=int, default=1000)
    p.add_argument("--graphs", type=int, default=200)
    p.add_argument("--size", type=int, default=14)
    p.add_argument("--keep")
    a = p.parse_args()
    wrong, ran, crashed = check(a.onnxd, range(a.seed, a.seed + a.graphs), a.keep, a.size)
    for seed, why, nodes in wrong:
        print(f"seed {seed}: {why}")
        for n in nodes:
            print("    " + n)
    for seed, how in crashed:
        print(f"seed {seed}: left out, ended with {how} while ONNX Runtime ran it")
    print(f"{a.graphs} graphs of {ran} nodes, {len(wrong)} differ, {len(crashed)} left out")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
