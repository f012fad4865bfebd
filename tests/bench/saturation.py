#!/usr/bin/env python3
"""The server under more work than it can do, as ratios that do not depend on the machine:

  throughput   images/s at saturation over what the engine alone does less the cost of decoding
  goodput      answers/s at four times the peak rate, open loop, over the peak
  patience     p99 of the admitted, over the queue's timeout plus twice a request's own time
  liveness     p99 of /v2/health/live meanwhile, with a thousand idle connections open

    make bench-load
    .venv/bin/python tests/bench/saturation.py --onnxd build/onnxd --model demo/EfficientNet-Lite0 --image FILE.jpg
"""
import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent / "e2e")  # its serving.py, not the one beside this file
from serving import Server  # noqa: E402


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p / 100))] if values else float("nan")


def engine_rate(onnxd, model, cores, seconds):
    """Images/s of the engine with one process a core, and with all cores on one run: the better one."""
    def bench(*flags):
        return subprocess.Popen([onnxd, "bench", model, "--json", "--seconds", str(seconds), *flags], stdout=subprocess.PIPE, text=True)

    def rate(processes):
        return sum(json.loads(p.communicate()[0])["items_per_s"] for p in processes)

    return max(rate([bench("--threads", "1") for _ in range(cores)]), rate([bench("--threads", str(cores))]))


def load_test(onnxd, server, path, picture, *flags):
    run = subprocess.run([onnxd, "load-test", f"http://127.0.0.1:{server.port}{path}", "--body", picture, "--json", *map(str, flags)],
                         stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout)


def one_round(o, s, cores, path, model):
    """Engine, one client, saturation and overload one after the other, so that what else goes on here disturbs all alike."""
    engine = engine_rate(o.onnxd, model, cores, o.seconds / 2)
    alone = load_test(o.onnxd, s, path, o.image, "--connections", 1, "--seconds", o.seconds / 2)
    decode = sum(alone["server_ms"][stage] for stage in ("decode", "preprocess")) / 1e3
    peak = load_test(o.onnxd, s, path, o.image, "--connections", 4 * cores, "--seconds", o.seconds)
    if not peak["goodput_per_s"]:
        raise SystemExit(f"no answer in time at saturation: {peak}")
    peak = peak["goodput_per_s"]
    live, done = [], threading.Event()

    def probe():
        with s.connect() as c:
            while not done.wait(0.01):
                from_ = time.perf_counter()
                c.ask("GET", "/v2/health/live")
                live.append(time.perf_counter() - from_)

    idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(1000)]
    prober = threading.Thread(target=probe)
    prober.start()
    over = load_test(o.onnxd, s, path, o.image, "--rate", 4 * peak, "--seconds", o.seconds)
    done.set()
    prober.join()
    for i in idle:
        i.close()
    unasked = sum(v for k, v in over["statuses"].items() if int(k) not in (200, 503, 504))
    return {"engine_images_s": engine, "decode_ms": decode * 1e3, "single_ms": alone["p50_ms"], "images_s": peak,
            "throughput": peak * (1 / engine + decode / cores), "overload_images_s": over["goodput_per_s"],
            "goodput": over["goodput_per_s"] / peak, "refused": over["statuses"].get("503", 0), "admitted_p99_ms": over["p99_ms"],
            "patience": over["p99_ms"] / (o.queue_timeout + 2 * alone["p50_ms"]),
            "unasked": unasked + over["errors"] + over["unanswered"], "live_p99_ms": percentile(live, 99) * 1e3}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--onnxd", default="build/onnxd")
    p.add_argument("--model", default="demo/EfficientNet-Lite0", help="folder of one model")
    p.add_argument("--image", default="../shared/images/bus.jpg")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--queue-timeout", type=int, default=500, help="milliseconds")
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        name = pathlib.Path(o.model).name
        shutil.copytree(o.model, pathlib.Path(folder) / name)
        with Server(o.onnxd, folder, "--request-timeout", o.queue_timeout, "--max-connections", 3000) as s:
            rounds = [one_round(o, s, cores, f"/v2/models/{name}/predict", str(pathlib.Path(o.model) / "model.onnx")) for _ in range(o.rounds)]
    out = {"cores": cores, **{k: statistics.median(r[k] for r in rounds) for k in rounds[0]}, "unasked": sum(r["unasked"] for r in rounds)}
    wrong = [k for k, good in (("throughput", out["throughput"] >= 0.9), ("goodput", out["goodput"] >= 0.9), ("patience", out["patience"] <= 1),
                               ("liveness", out["live_p99_ms"] <= 10), ("answers", not out["unasked"])) if not good]
    if o.json:
        print(json.dumps({**out, "rounds": rounds}))
        return bool(wrong)
    print(f"medians of {o.rounds} rounds, in brackets each round's")
    each = lambda k, form: " ".join(format(r[k], form) for r in rounds)  # noqa: E731
    print(f"engine alone {out['engine_images_s']:.1f} images/s, decoding {out['decode_ms']:.2f} ms, one request {out['single_ms']:.1f} ms")
    print(f"saturation   {out['images_s']:.1f} images/s: throughput {out['throughput']:.2f} ({each('throughput', '.2f')}; wanted 0.90)")
    print(f"overload     {out['overload_images_s']:.1f} images/s: goodput {out['goodput']:.2f} ({each('goodput', '.2f')}; wanted 0.90); "
          f"{out['refused']:.0f} refused, {out['unasked']} answered otherwise or not")
    print(f"admitted p99 {out['admitted_p99_ms']:.0f} ms: patience {out['patience']:.2f} ({each('patience', '.2f')}; wanted at most 1.00)")
    print(f"liveness p99 {out['live_p99_ms']:.1f} ms ({each('live_p99_ms', '.1f')}; wanted 10)")
    print(f"targets: {'missed: ' + ', '.join(wrong) if wrong else 'met'}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
