"""Latency, memory and start-up of onnxd beside ONNX Runtime's, on the same models, threads and machine.
Prints Markdown tables. Usage: bench_models.py --onnxd PROGRAM --models DIR [--threads N,N] [--seconds S]

Latency: the two take turns, three rounds each, and each gives its best median, so that a change of the
processor's clock or a neighbour's load falls on both. Start-up: from starting a process to its first
answer, of one run of the model on zeros (Python's own start is taken off ONNX Runtime's)."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time


def model_files(folder):
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*/**/*.onnx")) + sorted(pathlib.Path(folder).glob("*.onnx")):
        found.setdefault(path.parent.name if path.stem == "model" else path.stem, path)
    return found


def onnxd_bench(program, path, threads, seconds):
    out = subprocess.run([program, "bench", str(path), "--json", "--threads", str(threads), "--seconds", str(seconds)],
                         capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(f"onnxd bench {path}: {out.stderr.strip()}")
    return json.loads(out.stdout)


ORT_CHILD = r"""
import json, resource, sys, time
t0 = time.perf_counter()
import numpy as np, onnxruntime as ort
t1 = time.perf_counter()
path, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
o = ort.SessionOptions()
o.intra_op_num_threads, o.inter_op_num_threads, o.log_severity_level = threads, 1, 3
s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
t2 = time.perf_counter()
types = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64,
         "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(float16)": np.float16}
rng = np.random.default_rng(0)
feed = {}
for i in s.get_inputs():
    shape = [d if isinstance(d, int) else 1 if k == 0 or len(i.shape) != 4 or k < 2 else 224
             for k, d in enumerate(i.shape)]
    feed[i.name] = rng.random(shape).astype(types[i.type])
s.run(None, feed)
t3 = time.perf_counter()
times, end = [], time.perf_counter() + seconds
while time.perf_counter() < end:
    t = time.perf_counter()
    s.run(None, feed)
    times.append(time.perf_counter() - t)
times.sort()
print(json.dumps({"p50": 1e3 * times[len(times) // 2] if times else None, "import_ms": 1e3 * (t1 - t0),
                  "load_ms": 1e3 * (t2 - t1), "first_ms": 1e3 * (t3 - t1), "runs": len(times),
                  "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def ort_bench(path, threads, seconds):
    out = subprocess.run([sys.executable, "-c", ORT_CHILD, str(path), str(threads), str(seconds)],
                         capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(f"onnxruntime {path}: {out.stderr.strip()[-300:]}")
    return json.loads(out.stdout)


def latencies(args, models):
    print("| model | threads | onnxd ms | ONNX Runtime ms | onnxd / ONNX Runtime |\n|---|--:|--:|--:|--:|")
    for name, path in models.items():
        for threads in args.threads:
            ours = theirs = float("inf")
            for _ in range(3):
                ours = min(ours, onnxd_bench(args.onnxd, path, threads, args.seconds)["latency_ms"]["p50"])
                theirs = min(theirs, ort_bench(path, threads, args.seconds)["p50"])
            print(f"| {name} | {threads} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |", flush=True)


def first_answer_ms(program, path):
    """From starting the program to the end of one run, the best of five."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([program, "bench", str(path), "--json", "--seconds", "0"], capture_output=True, check=True)
        best = min(best, 1e3 * (time.perf_counter() - start))
    return best


def start_and_memory(args, models):
    print("\n| model | file MB | start to first answer: onnxd ms | ONNX Runtime ms | peak memory: onnxd MB "
          "| Python with ONNX Runtime MB |\n|---|--:|--:|--:|--:|--:|")
    for name, path in models.items():
        size = os.path.getsize(path) / 1e6
        ours, theirs = onnxd_bench(args.onnxd, path, 1, 0.5), ort_bench(path, 1, 0)
        print(f"| {name} | {size:.1f} | {first_answer_ms(args.onnxd, path):.0f} | {theirs['first_ms']:.0f} "
              f"| {ours['peak_rss_mb']:.0f} | {theirs['peak_rss_mb']:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnxd", default="build/onnxd")
    parser.add_argument("--models", default="demo")
    parser.add_argument("--threads", default="1,2", type=lambda t: [int(n) for n in t.split(",")])
    parser.add_argument("--seconds", default=2.0, type=float)
    args = parser.parse_args()
    models = model_files(args.models)
    if not models:
        raise SystemExit(f"{args.models} holds no models: make models")
    latencies(args, models)
    start_and_memory(args, models)


if __name__ == "__main__":
    main()
