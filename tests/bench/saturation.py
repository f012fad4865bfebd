#!/usr/bin/env python3
"""The server under more work than it can do, as ratios that do not depend on the machine:

  throughput   images/s at saturation over what the engine alone does less the cost of decoding
  goodput      answers/s at four times the peak rate, open loop, over the peak
  patience     p99 of the admitted, over the queue's timeout plus twice a request's own time
  liveness     p99 of /v2/health/live meanwhile, with a thousand idle connections open

    .venv/bin/python tests/bench/saturation.py --onnxd build/onnxd --model demo/EfficientNet-Lite0 --image FILE.jpg
"""
import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent / "e2e")  # in place of this folder, which has an http.py
from serving import Clients, Server  # noqa: E402


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p / 100))] if values else float("nan")


def engine_rate(onnxd, model, cores, seconds):
    """Images/s of the engine with one process a core, and with all cores on one run: the better one."""
    def bench(*flags):
        return subprocess.Popen([onnxd, "bench", model, "--json", "--seconds", str(seconds), *flags], stdout=subprocess.PIPE, text=True)

    def rate(processes):
        return sum(json.loads(p.communicate()[0])["items_per_s"] for p in processes)

    return max(rate([bench("--threads", "1") for _ in range(cores)]), rate([bench("--threads", str(cores))]))


def stage_seconds(server, name):
    """(sum, count) of a stage over all requests so far."""
    m = server.metrics()
    return [sum(v for k, v in m.items() if k.startswith(f"onnxd_{name}_duration_seconds_{part}{{")) for part in ("sum", "count")]


class Predict:
    def __init__(self, server, name, picture, type):
        self.server, self.path, self.picture, self.headers = server, f"/v2/models/{name}/predict", picture, {"Content-Type": type}

    def __call__(self, connection, number=0):
        from_ = time.perf_counter()
        status, _ = connection.ask("POST", self.path, self.picture, self.headers)
        return status, time.perf_counter() - from_


def closed_loop(server, ask, clients, seconds):
    c = Clients(server, clients, ask)
    from_ = time.perf_counter()
    time.sleep(seconds)
    results = c.stop()
    took = time.perf_counter() - from_
    bad = [r for r in results if not isinstance(r, tuple)]
    if bad:
        raise bad[0]
    good = [t for status, t in results if status == 200]
    return len(good) / took, good


def open_loop(server, ask, rate, seconds, connections=200):
    """Requests at fixed times, whatever the answers do; times count from when a request was due."""
    start, lock, state = time.perf_counter() + 0.2, threading.Lock(), {"next": 0}
    total = int(rate * seconds)
    results = []

    def work(connection, number):
        with lock:
            i = state["next"]
            state["next"] += 1
        if i >= total:
            raise SystemExit
        due = start + i / rate
        time.sleep(max(0, due - time.perf_counter()))
        sent = time.perf_counter()
        status, _ = ask(connection)
        results.append((status, time.perf_counter() - due, sent - due))

    threads = Clients(server, connections, work)
    threads.join()
    took = time.perf_counter() - start
    return took, results


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--onnxd", default="build/onnxd")
    p.add_argument("--model", default="demo/EfficientNet-Lite0", help="folder of one model")
    p.add_argument("--image", default="../shared/images/bus.jpg")
    p.add_argument("--seconds", type=float, default=6)
    p.add_argument("--queue-timeout", type=int, default=500, help="milliseconds")
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    picture = pathlib.Path(o.image).read_bytes()
    type = "image/png" if picture[:4] == b"\x89PNG" else "image/jpeg"
    cores = len(os.sched_getaffinity(0))
    out = {"cores": cores}
    with tempfile.TemporaryDirectory() as folder:
        name = pathlib.Path(o.model).name
        shutil.copytree(o.model, pathlib.Path(folder) / name)
        engine = engine_rate(o.onnxd, str(pathlib.Path(o.model) / "model.onnx"), cores, o.seconds)
        flags = ["--request-timeout", o.queue_timeout, "--max-connections", 2000]
        with Server(o.onnxd, folder, *flags) as s:
            ask = Predict(s, name, picture, type)
            _, alone = closed_loop(s, ask, 1, o.seconds / 3)
            costs = [stage_seconds(s, stage) for stage in ("decode", "preprocess")]
            decode = sum(total / max(count, 1) for total, count in costs)
            peak, _ = closed_loop(s, ask, 4 * cores, o.seconds)
            wanted = 1 / (1 / engine + decode / cores)
            out |= {"engine_images_s": engine, "decode_ms": decode * 1e3, "single_ms": percentile(alone, 50) * 1e3,
                    "images_s": peak, "throughput": peak / wanted}

            idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(1000)]
            live, done = [], threading.Event()

            def probe():
                with s.connect() as c:
                    while not done.wait(0.01):
                        from_ = time.perf_counter()
                        c.ask("GET", "/v2/health/live")
                        live.append(time.perf_counter() - from_)

            prober = threading.Thread(target=probe)
            prober.start()
            took, results = open_loop(s, ask, 4 * peak, o.seconds)
            done.set()
            prober.join()
            for i in idle:
                i.close()
            good = [t for status, t, _ in results if status == 200]
            refused = [t for status, t, _ in results if status in (503, 504)]
            other = [status for status, _, _ in results if status not in (200, 503, 504)]
            bound = o.queue_timeout / 1e3 + 2 * percentile(alone, 50)
            out |= {"overload_images_s": len(good) / took, "goodput": len(good) / took / peak, "refused": len(refused), "other": other[:5],
                    "admitted_p99_ms": percentile(good, 99) * 1e3, "patience": percentile(good, 99) / bound,
                    "refused_p99_ms": percentile(refused, 99) * 1e3, "client_late_p99_ms": percentile([l for _, _, l in results], 99) * 1e3,
                    "live_p99_ms": percentile(live, 99) * 1e3}
    if o.json:
        print(json.dumps(out))
        return
    print(f"engine alone {out['engine_images_s']:.1f} images/s, decoding {out['decode_ms']:.2f} ms, one request {out['single_ms']:.1f} ms")
    print(f"saturation   {out['images_s']:.1f} images/s: throughput {out['throughput']:.2f} (wanted 0.90)")
    print(f"overload     {out['overload_images_s']:.1f} images/s: goodput {out['goodput']:.2f} (wanted 0.90), {out['refused']} refused "
          f"within {out['refused_p99_ms']:.0f} ms (p99)")
    print(f"admitted p99 {out['admitted_p99_ms']:.0f} ms: patience {out['patience']:.2f} (wanted at most 1.00); "
          f"the client was late by {out['client_late_p99_ms']:.0f} ms (p99)")
    print(f"liveness p99 {out['live_p99_ms']:.1f} ms (wanted 10)")


if __name__ == "__main__":
    main()
