#!/usr/bin/env python3
"""Find the first node whose output differs from ONNX Runtime's: for a model that gives a wrong answer.

    tools/first_difference.py MODEL [--onnxd build/onnxd] [--tolerance 1e-4] [--inputs DIR] [--pass-through=WORDS]

Every value of the main graph is made a graph output, in groups, and both runtimes run on the same input
(DIR/K.npy for input K, else made-up numbers; free extents are 1, or 64 for height and width). Prints the
nodes, in graph order, whose outputs differ by more than the tolerance, relative to their largest magnitude."""
import argparse
import os
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

GROUP = 60 # more outputs at once keep too many values alive


def made_up(value, rng):
    t = value.type.tensor_type
    dims = [d.dim_value or (64 if k >= 2 and len(t.shape.dim) == 4 else 1) for k, d in enumerate(t.shape.dim)]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)
    return rng.standard_normal(dims).astype(dtype) if dtype.kind == "f" else rng.integers(0, 2, dims).astype(dtype)


def differences(a, model, feed, names, folder):
    """name -> relative difference, for the values that both runtimes give."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    path, out = os.path.join(folder, "probe.onnx"), os.path.join(folder, "out")
    onnx.save(probe, path)
    o = ort.SessionOptions()
    o.log_severity_level = 3
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    want = dict(zip(names, ort.InferenceSession(path, o).run(None, feed)))
    words = [a.onnxd, "run", path, "--output-dir", out] + a.pass_through.split()
    for k, (name, value) in enumerate(feed.items()):
        np.save(os.path.join(folder, "%d.npy" % k), value)
        words += ["--input", "%s=%s" % (name, os.path.join(folder, "%d.npy" % k))]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = {}
    for f in os.listdir(out):
        name = names[int(f.split("_")[0])]
        got, ref = np.load(os.path.join(out, f)), want[name]
        if got.shape != ref.shape:
            found[name] = float("inf")
        elif ref.size and ref.dtype.kind in "fiub":
            got, ref = got.astype(np.float64), ref.astype(np.float64)
            found[name] = float(np.nanmax(np.abs(got - ref), initial=0) / max(1e-30, np.nanmax(np.abs(ref), initial=0)))
        os.unlink(os.path.join(out, f))
    return found


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--onnxd", default="build/onnxd")
    p.add_argument("--tolerance", type=float, default=1e-4)
    p.add_argument("--inputs")
    p.add_argument("--most", type=int, default=5)
    p.add_argument("--pass-through", default="", help="more words for onnxd run, such as --no-passes")
    a = p.parse_args()
    model = onnx.load(a.model)
    given = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in given]
    rng = np.random.default_rng(1)
    feed = {i.name: np.load(os.path.join(a.inputs, "%d.npy" % k)) if a.inputs else made_up(i, rng)
            for k, i in enumerate(inputs)}
    names = [o for n in model.graph.node for o in n.output if o]
    maker = {o: n for n in model.graph.node for o in n.output}
    shown = 0
    with tempfile.TemporaryDirectory() as folder:
        for at in range(0, len(names), GROUP):
            group = names[at:at + GROUP]
            found = differences(a, model, feed, group, folder)
            for name in group:
                if found.get(name, 0) <= a.tolerance:
                    continue
                n = maker[name]
                print("%-10.3g %s '%s' -> %s\n           inputs %s\n           %s" % (
                    found[name], n.op_type, n.name, name, ", ".join(n.input),
                    " ".join(str(x).replace("\n", " ") for x in n.attribute)))
                shown += 1
                if shown == a.most:
                    return
    print("%d values differ" % shown)


if __name__ == "__main__":
    main()
