#!/usr/bin/env python3
"""onnxd's engine beside ONNX Runtime, model by model, taking turns on the same cores.

    python3 tests/bench/ort.py --onnxd build/onnxd [--threads 1,2] [--batches 1,8] [--markdown FILE --plot FILE] [NAME...]

Both load the same file, run the same input, and then take turns of a few runs each; the smallest time
of each counts, and the ratio is ONNX Runtime's divided by onnxd's: above 1, onnxd is faster. While one has
its turn the other is stopped: threads that spin after a run would else take the cores from it. Models are
the zoo's (weights filled from their recipes) and the trained ones beside it; folders that are absent
are said to be and left out. ONNX Runtime runs with all its optimisations and its usual spinning.

Memory is the growth of the resident set from just before the model is loaded to its peak until after the
runs at batch 1, less the growth of what is mapped from files (the programs themselves), of both alike.

Loading is told of some models apart: in processes that do nothing else, by turns, without and with a folder of packed weights.
"""
import argparse
import ctypes
import json
import math
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
import onnxruntime as ort

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 120  # seconds that any answer may take
LOADS = "resnet50,vgg11_narrow_head,mobilenet_v2,efficientnet_b0,convnext_tiny,vit_tiny_p16,yolov8n"
LOADING = """## Loading

From the file to a session that can run, each in a process of its own that does nothing else, by turns; the file lies in the page
cache. The median of all turns (and the smallest); the ratio is ONNX Runtime's time divided by onnxd's. With packed weights: a second
start with `--pack-cache`.

"""


def status_mb(name):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name)) / 1024


def memory_before():
    ctypes.CDLL(None).malloc_trim(0)  # what the heap holds free would hide growth
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    return status_mb("VmRSS:") - status_mb("RssFile:")


def ort_session(path, threads):
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.inter_op_num_threads, o.log_severity_level = threads, 1, 3
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    t = time.perf_counter()
    s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    return s, 1e3 * (time.perf_counter() - t)


def ort_child(path, threads, lines, answer):
    """In a process of its own: what `onnxd bench --paced` does, by ONNX Runtime."""
    before = memory_before()
    growth = lambda: status_mb("VmHWM:") - status_mb("RssFile:") - before
    s, load = ort_session(path, threads)
    feed = None
    for line in lines:
        line = line.strip()
        if line.isdigit():
            best = math.inf
            for _ in range(int(line)):
                t = time.perf_counter()
                s.run(None, feed)
                best = min(best, 1e3 * (time.perf_counter() - t))
            answer({"min_ms": best, "growth_mb": growth()})
            continue
        feed = {i.name: np.load(os.path.join(line, "%d.npy" % k)) for k, i in enumerate(s.get_inputs())}
        t = time.perf_counter()
        out = s.run(None, feed)
        first = 1e3 * (time.perf_counter() - t)
        for k, v in enumerate(out):
            if isinstance(v, np.ndarray):
                np.save(os.path.join(line, "ort_%d.npy" % k), v)
        answer({"load_ms": load, "first_run_ms": first, "growth_mb": growth()})


def die_with_parent():
    """A stopped process would outlive a parent that is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Paced:
    """A process that answers a line with a line of JSON, and is stopped in between."""

    def ask(self, line):
        os.kill(self.pid, signal.SIGCONT)
        os.write(self.to, ("%s\n" % line).encode())
        return self.answer()

    def answer(self):
        text = b""
        while not text.endswith(b"\n"):
            more = os.read(self.back, 65536) if select.select([self.back], [], [], LIMIT)[0] else b""
            if not more:
                raise RuntimeError(self.complaint())
            text += more
        os.kill(self.pid, signal.SIGSTOP)
        return json.loads(text)

    def close(self):
        os.close(self.to)
        os.close(self.back)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.reap()


class Onnxd(Paced):
    def __init__(self, onnxd, path, threads, inputs):
        self.errors = tempfile.TemporaryFile()
        ask, self.to = os.pipe()
        self.back, answer = os.pipe()
        self.p = subprocess.Popen([onnxd, "bench", path, "--paced", "--threads", str(threads), "--inputs", inputs],
                                  stdin=ask, stdout=answer, stderr=self.errors, preexec_fn=die_with_parent)
        self.pid = self.p.pid
        os.close(ask)
        os.close(answer)
        self.begun = (inputs, self.answer())

    def begin(self, folder):
        return self.begun[1] if folder == self.begun[0] else self.ask(folder)

    def complaint(self):
        self.errors.seek(0)
        return self.errors.read().decode().strip().split("\n")[-1] or "onnxd gave no answer"

    def reap(self):
        self.p.wait()
        self.errors.close()


class Ort(Paced):
    """A fork: the library is loaded once for all models."""

    def __init__(self, path, threads):
        ask, self.to = os.pipe()
        self.back, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                die_with_parent()
                os.close(self.to)
                os.close(self.back)
                with os.fdopen(ask) as lines:
                    ort_child(path, threads, lines, lambda d: os.write(answer, (json.dumps(d) + "\n").encode()))
                code = 0
            except Exception as e:
                os.write(2, ("ONNX Runtime: %s\n" % e).encode())
            finally:
                os._exit(code)
        os.close(ask)
        os.close(answer)

    def complaint(self):
        return "ONNX Runtime gave no answer"

    def reap(self):
        os.waitpid(self.pid, 0)


def ort_load(path, threads):
    """Milliseconds to a session, in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            os.write(write, b"%.6f" % ort_session(path, threads)[1])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return float(text)


def onnxd_load(onnxd, path, threads, cache=None):
    """(milliseconds to a session, milliseconds of the first run)"""
    args = [onnxd, "bench", path, "--threads", str(threads), "--runs", "1", "--json"] + (["--pack-cache", cache] if cache else [])
    told = json.loads(subprocess.run(args, check=True, capture_output=True, timeout=LIMIT).stdout)
    return told["load_ms"], told["first_run_ms"]


def read_through(path):
    """From here on the file's pages lie in memory, whoever loads it first."""
    with open(path, "rb") as f:
        while f.read(1 << 24):
            pass


def measure_load(a, name, path, threads):
    """By turns in fresh processes, the file's pages in memory: the medians and smallest of loading."""
    read_through(path)
    time.sleep(max(0, 4 - (time.time() - os.stat(path).st_ctime)))  # the pack cache knows only files that were still for some seconds
    times = {"ort": [], "cold": [], "cached": []}
    with tempfile.TemporaryDirectory() as cache:
        onnxd_load(a.onnxd, path, threads, cache)
        for _ in range(a.load_turns):
            times["ort"].append(ort_load(path, threads))
            times["cold"].append(onnxd_load(a.onnxd, path, threads)[0])
            times["cached"].append(onnxd_load(a.onnxd, path, threads, cache)[0])
    result = {"name": name, "threads": threads}
    for way, ms in times.items():
        result[way] = {"median": statistics.median(ms), "min": min(ms)}
    return result


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


def measure_batch(ours, theirs, folder, seconds, turns):
    """Both on the inputs in `folder`, by turns of as many runs as `seconds` have room for."""
    begun, ort_begun = ours.begin(folder), theirs.ask(folder)
    longest = max(begun["first_run_ms"], ort_begun["first_run_ms"])
    if longest < 200:  # else the first run tells well enough
        longest = max(0.02, theirs.ask(1)["min_ms"], ours.ask(1)["min_ms"])
    per_turn = max(1, min(200, int(1e3 * seconds / turns / 2 / longest)))
    ms = [math.inf, math.inf]
    for _ in range(turns):
        o, t = ours.ask(per_turn), theirs.ask(per_turn)
        ms = [min(ms[0], o["min_ms"]), min(ms[1], t["min_ms"])]
    gflops = 2 * begun["gmacs"] / ms[0] * 1e3
    return {"ms": ms[0], "ort_ms": ms[1], "ratio": ms[1] / ms[0], "gmacs": begun["gmacs"], "gflops": gflops,
            "of_peak": gflops / begun["peak_gflops"] if begun["peak_gflops"] else 0.0,
            "load": begun["load_ms"], "ort_load": ort_begun["load_ms"], "rss": o["growth_mb"], "ort_rss": t["growth_mb"]}


def measure(a, path, make, names, threads, batches, compare):
    """Results by batch; loads the model once."""
    result = {}
    with tempfile.TemporaryDirectory() as root:
        folders = [os.path.join(root, str(batch)) for batch in batches]
        for batch, folder in zip(batches, folders):
            os.mkdir(folder)
            for k, value in enumerate(make(batch)):
                np.save(os.path.join(folder, "%d.npy" % k), value)
        read_through(path)
        ours, theirs = Onnxd(a.onnxd, path, threads, folders[0]), Ort(path, threads)
        try:
            for batch, folder in zip(batches, folders):
                result[batch] = measure_batch(ours, theirs, folder, *((a.seconds, a.turns) if batch == 1 else (a.seconds / 2, 2)))
                if batch > 1:
                    result[batch]["rss"] = result[batch]["ort_rss"] = 0.0
        finally:
            ours.close()
            theirs.close()
        for batch in batches:
            result[batch]["difference"] = (
                largest_difference(a.onnxd, path, os.path.join(root, str(batch)), len(names), names) if compare else math.nan)
    return result


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
    alone = rows[0][key]["rss"] or rows[0][key]["ort_rss"]  # loading and memory are told at batch 1
    out = ["| model | family | GMACs | onnxd ms | ORT ms | ratio | GFLOP/s | of peak | difference |" +
           (" load ms | ORT load | MiB | ORT MiB |" if alone else ""),
           "|---" * (13 if alone else 9) + "|"]
    for r in rows:
        m = r[key]
        line = "| %s | %s | %.3f | %.3f | %.3f | **%.2f** | %.1f | %.0f %% | %s |" % (
            r["name"], r["family"], m["gmacs"], m["ms"], m["ort_ms"], m["ratio"], m["gflops"], 100 * m["of_peak"],
            "" if math.isnan(m["difference"]) else "%.1e" % m["difference"])
        if alone:
            line += " %.1f | %.1f | %.1f | %.1f |" % (m["load"], m["ort_load"], m["rss"], m["ort_rss"])
        out.append(line)
    out += ["", "| family | models | geometric mean of the ratio |", "|---|---|---|"]
    for family in sorted({r["family"] for r in rows}):
        group = [r[key]["ratio"] for r in rows if r["family"] == family]
        out.append("| %s | %d | %.2f |" % (family, len(group), geomean(group)))
    ratios = [r[key] for r in rows]
    out.append("| **all** | %d | **%.2f** |" % (len(rows), geomean([m["ratio"] for m in ratios])))
    slower = sorted((r[key]["ratio"], r["name"]) for r in rows if r[key]["ratio"] < 1)
    out += ["", "Slower than ONNX Runtime (%d): %s." % (len(slower), ", ".join("%s %.2f" % (n, v) for v, n in slower) or "none")]
    if alone:
        out.append("Loading: %.1f times as fast; peak memory: %.2f times as small (geometric means)." % (
            geomean([m["ort_load"] / m["load"] for m in ratios]),
            geomean([m["ort_rss"] / m["rss"] for m in ratios if m["rss"] > 0])))
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


def read_results(paths):
    rows, failed, loads = {}, [], {}
    for path in paths:
        with open(path) as f:
            stored = json.load(f)
        for row in stored["rows"]:
            rows.setdefault(row["name"], {}).update(row)
        failed += stored["failed"]
        loads.update({(m["name"], m["threads"]): m for m in stored.get("loads", [])})
    return sorted(rows.values(), key=lambda r: r["name"]), failed, [loads[k] for k in sorted(loads)]


def load_table(loads):
    out = ["| model | threads | ORT ms | onnxd ms | ratio | with packed weights | ratio |", "|---|---|---|---|---|---|---|"]
    both = lambda t: "%.1f (%.1f)" % (t["median"], t["min"])
    ratio = lambda m, way: "**%.1f** (%.1f)" % tuple(m["ort"][k] / m[way][k] for k in ("median", "min"))
    for m in loads:
        out.append("| %s | %d | %s | %s | %s | %s | %s |" % (m["name"], m["threads"], both(m["ort"]), both(m["cold"]), ratio(m, "cold"),
                                                          both(m["cached"]), ratio(m, "cached")))
    return "\n".join(out) + "\n"


def measure_all(a, threads, batches, name_of):
    rows, failed, loads = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name, family, path, free, names, make in models(a, scratch):
            row = {"name": name, "family": family}
            possible = [b for b in batches if b == 1 or free]
            for t in threads if possible else []:
                try:
                    done = measure(a, path, make, names, t, possible, a.compare and t == threads[0])
                except (RuntimeError, subprocess.SubprocessError) as e:
                    failed.append("%s (%d threads): %s" % (name, t, e))
                    print("FAIL %s" % failed[-1], flush=True)
                    continue
                for b, m in done.items():
                    row[name_of(b, t)] = m
                    print("%-28s %-20s %8.3f ms, ORT %8.3f ms, ratio %.2f, %.1e off, %.1f MiB, ORT %.1f" % (
                        name, name_of(b, t), m["ms"], m["ort_ms"], m["ratio"], m["difference"], m["rss"], m["ort_rss"]), flush=True)
            rows.append(row)
            for t in threads if name in a.loads else []:
                loads.append(measure_load(a, name, path, t))
                print("%-28s loading, %d threads: %s" % (name, t, loads[-1]), flush=True)
    return rows, failed, loads


def main():
    p = argparse.ArgumentParser()
    shared = os.path.join(ROOT, "..", "shared")
    p.add_argument("--onnxd", default=os.path.join(ROOT, "build", "onnxd"))
    p.add_argument("--zoo", default=os.environ.get("ONNXD_ZOO", os.path.join(shared, "zoo")))
    p.add_argument("--models", default=os.path.join(shared, "models"))
    p.add_argument("--cache", default="", help="keep full models here")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--batches", default="1,8", help="those above 1 for models whose batch is free; \"\": only loading")
    p.add_argument("--seconds", type=float, default=0.3, help="for each model, thread count and batch; half of it for batches above 1")
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--loads", default=LOADS, help="models whose loading is measured apart")
    p.add_argument("--load-turns", type=int, default=9)
    p.add_argument("--no-compare", dest="compare", action="store_false")
    p.add_argument("--markdown")
    p.add_argument("--plot")
    p.add_argument("--json", help="write the results there too")
    p.add_argument("--results", nargs="+", default=[], help="tell of results that --json wrote instead of measuring")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    batches = [int(b) for b in a.batches.split(",") if b]
    threads = [int(t) for t in a.threads.split(",")]
    name_of = lambda b, t: "batch %d, %d thread%s" % (b, t, "s" if t > 1 else "")
    begin = time.time()
    a.loads = a.loads.split(",")
    rows, failed, loads = read_results(a.results) if a.results else measure_all(a, threads, batches, name_of)
    keys = [name_of(b, t) for b in batches for t in threads]
    text = ""
    for key in keys:
        chosen = [r for r in rows if key in r]
        if chosen:
            text += "## %s\n\n%s\n" % (key[0].upper() + key[1:], table(chosen, key))
    if loads:
        text += LOADING + load_table(loads) + "\n"
    if failed:
        text += "Not measured: %s.\n" % "; ".join(failed)
    print("\n" + text)
    print("%.0f seconds" % (time.time() - begin))
    if a.markdown:
        with open(a.markdown, "w") as f:
            f.write("# Performance\n\nMade by `make bench-ort`, which runs onnxd's engine and ONNX Runtime by turns on the same\n"
                    "cores; while one runs the other is stopped. Times are the smallest of all turns; the ratio is ONNX Runtime's\n"
                    "time divided by onnxd's; the peak is that of a loop of multiply-adds on as many threads (fewer operations,\n"
                    "as in Winograd's convolution, can pass it); memory is the growth of the resident set from before loading to\n"
                    "its peak until after the runs, without the programs' own files.\n\n" + text)
    if a.plot and rows and keys:
        plot([r for r in rows if keys[0] in r], keys[0], a.plot)
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"rows": rows, "failed": failed, "loads": loads}, f)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
