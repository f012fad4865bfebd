#!/usr/bin/env python3
"""Run every graph of the zoo through onnxd and compare with the stored reference outputs.

    python3 tests/zoo/zoo.py --onnxd build/onnxd [--zoo DIR] [--cache DIR] [NAME...]

The zoo is a folder beside the project (or --zoo, or ONNXD_ZOO): stripped graphs whose weights are
recipes, which its own zoolib.py turns into numbers. A result is right when shapes agree and the
largest difference, divided by the largest magnitude of that output, is at most the tolerance that
the zoo's inputs.json gives. Where the batch is free, batch 3 is run too, and each item is compared
with its single run. With --same-bits each is run with one thread too and must give the same bits.
exceptions.txt names outputs of which a few numbers may be anything, with the reason.
Prints a line a model and `N passed, N failed`.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def read_exceptions():
    """(model, output) -> how many of the numbers compared may differ."""
    with open(os.path.join(HERE, "exceptions.txt")) as f:
        words = [line.split() for line in f if line.strip() and not line.startswith("#")]
    return {(w[0], w[1]): int(w[2]) for w in words}


def difference(got, want_values, want_shape, scale, free=0):
    """Relative distance of a full output from the stored sample of it, but for the `free` furthest numbers."""
    if list(got.shape) != list(want_shape):
        return None, "shape %s, wanted %s" % (list(got.shape), list(want_shape))
    flat = got.reshape(-1)
    if flat.size == 0:
        return 0.0, ""
    step = max(1, flat.size // 4096)
    sample = flat[::step][:4096]
    if sample.dtype == np.bool_ or sample.dtype.kind in "iu":
        wrong = int(np.count_nonzero(sample != want_values))
        return wrong / sample.size, "%d of %d whole numbers differ" % (wrong, sample.size) if wrong else ""
    a, b = sample.astype(np.float64), np.asarray(want_values, np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return None, "NaN where the reference has none, or the reverse"
    distances = np.sort(np.nan_to_num(np.abs(a - b)))
    return float(distances[max(0, distances.size - 1 - free)] / max(scale, 1e-30)), ""


def run(onnxd, model, inputs, folder, threads, extra):
    args = [onnxd, "run", model, "--output-dir", folder, "--threads", str(threads)] + extra
    for name, value in inputs.items():
        path = os.path.join(folder, "in_%d.npy" % len(os.listdir(folder)))
        np.save(path, value)
        args += ["--input", "%s=%s" % (name, path)]
    done = subprocess.run(args, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().split("\n")[-1] or "exit code %d" % done.returncode)
    files = sorted((f for f in os.listdir(folder) if not f.startswith("in_")), key=lambda f: int(f.split("_")[0]))
    return [np.load(os.path.join(folder, f)) for f in files]


class Case:
    def __init__(self, zoo, name, spec, exceptions):
        self.zoo, self.name, self.spec, self.exceptions = zoo, name, spec, exceptions
        self.expected = np.load(os.path.join(zoo, "expected", name + ".npz"))

    def full_model(self, cache, zoolib, onnx):
        path = os.path.join(cache, self.name + ".onnx")
        if not os.path.exists(path):
            onnx.save(zoolib.fill(zoolib.load_stripped(os.path.join(self.zoo, "models", self.name + ".onnx"))), path)
        return path

    def check(self, outputs, names, batch):
        worst = 0.0
        for got, name in zip(outputs, names):
            key = "%d|%s" % (batch, name)
            if key not in self.expected:
                continue
            scale = float(self.expected["stat|" + key][0])
            d, why = difference(got, self.expected[key], self.expected["shape|" + key], scale,
                                self.exceptions.get((self.name, name), 0))
            if d is None:
                return None, "%s: %s" % (name, why)
            if d > self.spec["tolerance"]:
                return d, "%s: %.3g off, %.3g allowed %s" % (name, d, self.spec["tolerance"], why)
            worst = max(worst, d)
        return worst, ""


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--onnxd", default=os.path.join(ROOT, "build", "onnxd"))
    p.add_argument("--zoo", default=os.environ.get("ONNXD_ZOO", os.path.join(ROOT, "..", "shared", "zoo")))
    p.add_argument("--cache", default="", help="keep full models here instead of deleting them")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only-batch", type=int, default=-1)
    p.add_argument("--same-bits", action="store_true", help="run with 1 thread too: not a bit may differ")
    p.add_argument("--pass-through", default="", help="more words for onnxd run")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    if not os.path.isdir(a.zoo):
        print("the zoo is not here (%s): nothing was run\n0 passed, 0 failed, 1 skipped" % a.zoo)
        return 0
    sys.path.insert(0, a.zoo)
    import onnx
    import zooinput
    import zoolib
    with open(os.path.join(a.zoo, "inputs.json")) as f:
        specs = json.load(f)
    passed = failed = 0
    exceptions = read_exceptions()
    with tempfile.TemporaryDirectory() as scratch:
        cache = a.cache or os.path.join(scratch, "models")
        os.makedirs(cache, exist_ok=True)
        for name in a.names or sorted(specs):
            case = Case(a.zoo, name, specs[name], exceptions)
            path = case.full_model(cache, zoolib, onnx)
            names = [o.name for o in onnx.load(path, load_external_data=False).graph.output]
            notes, ok = [], True
            batches = [0] + ([3] if case.spec["batch"] and any(k.startswith("3|") for k in case.expected) else [])
            for batch in batches:
                if a.only_batch >= 0 and batch != a.only_batch:
                    continue
                inputs = {s[0]: zooinput.example(s, batch or None) for s in case.spec["inputs"]}
                try:
                    with tempfile.TemporaryDirectory(dir=scratch) as folder:
                        outputs = run(a.onnxd, path, inputs, folder, a.threads, a.pass_through.split())
                    worst, why = case.check(outputs, names, batch)
                    if a.same_bits and not why:
                        with tempfile.TemporaryDirectory(dir=scratch) as folder:
                            alone = run(a.onnxd, path, inputs, folder, 1, a.pass_through.split())
                        other = [n for n, x, y in zip(names, alone, outputs) if x.shape != y.shape or x.tobytes() != y.tobytes()]
                        why = "1 and %d threads differ in %s" % (a.threads, ", ".join(other)) if other else ""
                except (RuntimeError, subprocess.TimeoutExpired) as e:
                    worst, why = None, str(e)
                ok &= not why
                notes.append("batch %d %s" % (batch or 1, why or "%.1e" % worst))
            print("%s %s: %s" % ("ok  " if ok else "FAIL", name, "; ".join(notes)), flush=True)
            passed, failed = passed + ok, failed + (not ok)
            if not a.cache:
                os.unlink(path)
    print("%d passed, %d failed" % (passed, failed))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
