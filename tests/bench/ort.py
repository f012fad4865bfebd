#!/usr/bin/env python3
"""onnxd's engine beside ONNX Runtime, model by model, taking turns on the same cores.

    python3 tests/bench/ort.py --onnxd build/onnxd [--threads 1,2] [--batch 8] [--markdown FILE --plot FILE] [NAME...]

Both load the same file, run the same input, and then take turns of a few runs each; the smallest time
of each counts, and the ratio is ONNX Runtime's divided by onnxd's: above 1, onnxd is faster. Models are
the zoo's (weights filled from their recipes) and the trained ones beside it; folders that are absent
are said to be and left out. ONNX Runtime runs with all its optimisations and its usual spinning.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

ORT_CHILD = r"""
import glob, json, os, resource, sys, time
import numpy as np, onnxruntime as ort
path, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = rss()
o = ort.SessionOptions()
o.intra_op_num_threads, o.inter_op_num_threads, o.log_severity_level = threads, 1, 3
o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
t = time.perf_counter()
s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
load = 1e3 * (time.perf_counter() - t)
feed = {i.name: np.load(os.path.join(folder, "%d.npy" % k)) for k, i in enumerate(s.get_inputs())}
t = time.perf_counter()
out = s.run(None, feed)
first = 1e3 * (time.perf_counter() - t)
for k, v in enumerate(out):
    if isinstance(v, np.ndarray):
        np.save(os.path.join(folder, "ort_%d.npy" % k), v)
print(json.dumps({"load_ms": load, "first_run_ms": first, "peak_rss_mb": rss() - before}), flush=True)
for line in sys.stdin:
    best = 1e30
    for _ in range(int(line)):
        t = time.perf_counter()
        s.run(None, feed)
        best = min(best, 1e3 * (time.perf_counter() - t))
    print(json.dumps({"min_ms": best, "peak_rss_mb": rss() - before}), flush=True)
"""


class Paced:
    """A program that runs when told to."""

    def __init__(self, args):
        self.p = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.start = self.read()

    def read(self):
        line = self.p.stdout.readline()
        if not line:
            raise RuntimeError(self.p.stderr.read().strip().split("\n")[-1])
        return json.loads(line)

    def runs(self, n):
        self.p.stdin.write("%d\n" % n)
        self.p.stdin.flush()
        return self.read()

    def close(self):
        self.p.stdin.close()
        try:
            self.p.wait(20)
        except subprocess.TimeoutExpired:
            self.p.kill()


def largest_difference(onnxd, path, folder, n_inputs, names):
    """Of the outputs, relative to each output's largest magnitude."""
    out = os.path.join(folder, "out")
    args = [onnxd, "run", path, "--output-dir", out]
    for k in range(n_inputs):
        args += ["--input", "%s=%s" % (names[k], os.path.join(folder, "%d.npy" % k))]
    subprocess.run(args, check=True, capture_output=True, timeout=600)
    worst = 0.0
    for f in os.listdir(out):
        k = int(f.split("_")[0])
        want_file = os.path.join(folder, "ort_%d.npy" % k)
        if not os.path.exists(want_file):
            continue
        got, want = np.load(os.path.join(out, f)).astype(np.float64), np.load(want_file).astype(np.float64)
        if got.shape != want.shape:
            return float("inf")
        if want.size:
            worst = max(worst, float(np.nanmax(np.abs(got - want)) / max(1e-30, np.nanmax(np.abs(want)))))
    return worst


def measure(a, path, inputs, names, threads, compare):
    with tempfile.TemporaryDirectory() as folder:
        for k, value in enumerate(inputs):
            np.save(os.path.join(folder, "%d.npy" % k), value)
        ours = Paced([a.onnxd, "bench", path, "--paced", "--inputs", folder, "--threads", str(threads)])
        theirs = Paced([sys.executable, "-c", ORT_CHILD, path, str(threads), folder])
        estimate = max(0.05, min(theirs.runs(1)["min_ms"], ours.runs(1)["min_ms"]))
        per_turn = max(1, min(200, int(1e3 * a.seconds / a.turns / 2 / estimate)))
        best, cycles, rss = [math.inf, math.inf], math.inf, [0.0, 0.0]
        for _ in range(a.turns):
            o, t = ours.runs(per_turn), theirs.runs(per_turn)
            best = [min(best[0], o["min_ms"]), min(best[1], t["min_ms"])]
            cycles = min(cycles, o["user_cycles"] or math.inf)
            rss = [max(rss[0], o["peak_rss_mb"]), max(rss[1], t["peak_rss_mb"])]
        ours.close()
        theirs.close()
        diff = largest_difference(a.onnxd, path, folder, len(inputs), names) if compare else 0.0
        return {"ms": best[0], "ort_ms": best[1], "ratio": best[1] / best[0], "gmacs": ours.start["gmacs"],
                "gflops": 2 * ours.start["gmacs"] / best[0] * 1e3,
                "flop_per_cycle": 2e9 * ours.start["gmacs"] / cycles if cycles < 1e18 and cycles else 0.0,
                "load": ours.start["load_ms"], "ort_load": theirs.start["load_ms"], "rss": rss[0], "ort_rss": rss[1],
                "difference": diff}


def models(a, scratch):
    """name, family, path, inputs by batch -> arrays, names; full models are made when asked for."""
    if os.path.isdir(a.zoo):
        sys.path.insert(0, a.zoo)
        import onnx
        import zooinput
        import zoolib
        with open(os.path.join(a.zoo, "inputs.json")) as f:
            specs = json.load(f)
        with open(os.path.join(a.zoo, "manifest.tsv")) as f:
            family = {r.split("\t")[0]: r.split("\t")[2] for r in f}
        for name in sorted(specs):
            if a.names and name not in a.names:
                continue
            path = os.path.join(a.cache or scratch, name + ".onnx")
            if not os.path.exists(path):
                onnx.save(zoolib.fill(zoolib.load_stripped(os.path.join(a.zoo, "models", name + ".onnx"))), path)
            spec = specs[name]
            yield name, family.get(name, "?"), path, spec["batch"], [s[0] for s in spec["inputs"]], (
                lambda n, spec=spec: [zooinput.example(s, n if n > 1 else None) for s in spec["inputs"]])
            if not a.cache:
                os.unlink(path)
    else:
        print("the zoo is not here: %s" % a.zoo)
    trained = {"FastestDet": [("input.1", (3, 352, 352))], "RFB-320": [("input", (3, 240, 320))],
               "SINet": [("data", (3, 320, 320))]}
    for name, ports in trained.items():
        path = os.path.join(a.models, name + ".onnx")
        if (a.names and name not in a.names) or not os.path.exists(path):
            continue
        rng = np.random.default_rng(1)
        yield name, "trained", path, False, [p[0] for p in ports], (
            lambda n, ports=ports, rng=rng: [rng.standard_normal((n,) + p[1]).astype(np.float32) for p in ports])


def geomean(values):
    values = [v for v in values if v > 0 and math.isfinite(v)]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def table(rows, key):
    """Markdown for the rows of one configuration, and the means."""
    out = ["| model | family | GMACs | onnxd ms | ORT ms | ratio | GFLOP/s | flop/cycle | load ms | ORT load | RSS MiB | ORT RSS | difference |",
           "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        m = r[key]
        out.append("| %s | %s | %.3f | %.3f | %.3f | **%.2f** | %.1f | %.1f | %.1f | %.1f | %.0f | %.0f | %.1e |" % (
            r["name"], r["family"], m["gmacs"], m["ms"], m["ort_ms"], m["ratio"], m["gflops"], m["flop_per_cycle"],
            m["load"], m["ort_load"], m["rss"], m["ort_rss"], m["difference"]))
    out += ["", "| family | models | geometric mean of the ratio |", "|---|---|---|"]
    for family in sorted({r["family"] for r in rows}):
        group = [r[key]["ratio"] for r in rows if r["family"] == family]
        out.append("| %s | %d | %.2f |" % (family, len(group), geomean(group)))
    ratios = [r[key] for r in rows]
    out.append("| **all** | %d | **%.2f** |" % (len(rows), geomean([m["ratio"] for m in ratios])))
    out.append("")
    out.append("Slower than ONNX Runtime: %s." % (", ".join("%s %.2f" % (r["name"], r[key]["ratio"]) for r in sorted(
        rows, key=lambda r: r[key]["ratio"]) if r[key]["ratio"] < 1) or "none"))
    out.append("Loading: %.1f times as fast; peak memory: %.2f times as small (geometric means)." % (
        geomean([m["ort_load"] / m["load"] for m in ratios]), geomean([m["ort_rss"] / m["rss"] for m in ratios])))
    return "\n".join(out) + "\n"


def plot(rows, key, path):
    """Ratios, sorted, as bars on a logarithmic axis, in SVG."""
    data = sorted(((r[key]["ratio"], r["name"]) for r in rows), reverse=True)
    step, left, width = 12, 230, 560
    y_end = 40 + step * len(data)
    x = lambda v: left + (math.log2(min(8.0, max(0.125, v))) + 3) / 6 * width
    svg = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="9">'
           % (left + width + 60, y_end + 20),
           '<text x="10" y="16" font-size="13">ONNX Runtime time / onnxd time, %s</text>' % key]
    for tick in (0.25, 0.5, 1, 2, 4, 8):
        svg.append('<line x1="%.1f" x2="%.1f" y1="28" y2="%d" stroke="%s"/><text x="%.1f" y="26">%g</text>' % (
            x(tick), x(tick), y_end, "#000" if tick == 1 else "#ccc", x(tick) - 4, tick))
    for i, (ratio, name) in enumerate(data):
        y = 34 + step * i
        a, b = sorted((x(1), x(ratio)))
        svg.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%d" y="%d" text-anchor="end">%s</text>'
                   '<text x="%.1f" y="%d">%.2f</text>' % (a, y, max(1, b - a), step - 3, "#2a7" if ratio >= 1 else "#c43",
                                                          left - 70, y + 8, name, b + 3, y + 8, ratio))
    with open(path, "w") as f:
        f.write("\n".join(svg + ["</svg>\n"]))


def main():
    p = argparse.ArgumentParser()
    shared = os.path.join(ROOT, "..", "shared")
    p.add_argument("--onnxd", default=os.path.join(ROOT, "build", "onnxd"))
    p.add_argument("--zoo", default=os.environ.get("ONNXD_ZOO", os.path.join(shared, "zoo")))
    p.add_argument("--models", default=os.path.join(shared, "models"))
    p.add_argument("--cache", default="", help="keep full models here")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--batch", type=int, default=0, help="this batch too, where it is free")
    p.add_argument("--seconds", type=float, default=0.3, help="for each model and configuration")
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--no-compare", dest="compare", action="store_false")
    p.add_argument("--markdown")
    p.add_argument("--plot")
    p.add_argument("--json")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    configurations = [("batch %d, %s thread%s" % (b, t, "s" if t != "1" else ""), b, int(t))
                      for b in [1] + ([a.batch] if a.batch else []) for t in a.threads.split(",")]
    rows, failed, begin = [], [], time.time()
    with tempfile.TemporaryDirectory() as scratch:
        for name, family, path, free, names, make in models(a, scratch):
            row = {"name": name, "family": family}
            for key, batch, threads in configurations:
                if batch > 1 and not free:
                    continue
                try:
                    row[key] = measure(a, path, make(batch), names, threads, a.compare and threads == configurations[0][2])
                except (RuntimeError, subprocess.SubprocessError) as e:
                    failed.append("%s (%s): %s" % (name, key, e))
                    print("FAIL %s" % failed[-1], flush=True)
                    continue
                print("%-28s %-20s %8.3f ms, ORT %8.3f ms, ratio %.2f, %.1e off" % (
                    name, key, row[key]["ms"], row[key]["ort_ms"], row[key]["ratio"], row[key]["difference"]), flush=True)
            rows.append(row)
    text = ""
    for key, _, _ in configurations:
        chosen = [r for r in rows if key in r]
        if chosen:
            text += "## %s\n\n%s\n" % (key[0].upper() + key[1:], table(chosen, key))
    if failed:
        text += "Not measured: %s.\n" % "; ".join(failed)
    print("\n" + text)
    print("%.0f seconds" % (time.time() - begin))
    if a.markdown:
        with open(a.markdown, "w") as f:
            f.write("# Performance\n\nMade by `make bench-ort`, which runs onnxd's engine and ONNX Runtime by turns on the same\n"
                    "cores. Times are the smallest of all turns; the ratio is ONNX Runtime's time divided by onnxd's; RSS\n"
                    "is the process's peak, for ONNX Runtime less what Python and the library take before a session.\n\n" + text)
    if a.plot and rows:
        plot([r for r in rows if configurations[0][0] in r], configurations[0][0], a.plot)
    if a.json:
        with open(a.json, "w") as f:
            json.dump(rows, f)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
