"""The server as a client sees it: time from start to first answer, requests a second and latency of
/predict on a picture with 1 and 32 connections (wrk), resident memory. Prints a Markdown table.

    python3 tests/bench/serving.py [--onnxd build/onnxd] [--models demo] [--images DIR] [--seconds 10] [MODEL...]

Each model is served alone by a server of its own. Needs wrk. Exit code 1 when any answer was not 200."""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PICTURES = {"FastestDet": "bus", "RFB-320": "faces", "SINet": "portrait"}


def ask(port, path, body):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        c.request("POST", path, body, {"Content-Type": "image/jpeg"})
        return c.getresponse().status
    finally:
        c.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def served(onnxd, folder, path, body):
    """A server of `folder`: (port, process, milliseconds from its start to the first answer to `path`)."""
    port, begin = free_port(), time.perf_counter()
    process = subprocess.Popen([onnxd, "serve", str(folder), "--port", str(port)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and time.perf_counter() - begin < 60:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(port, path, body) == 200:
                    yield port, process, 1e3 * (time.perf_counter() - begin)
                    return
            time.sleep(0.001)
        raise SystemExit(f"{folder}: no answer within a minute")
    finally:
        process.terminate()
        process.wait(30)


def resident_mb(process):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", text).group(1)) / 1024


def wrk(port, path, picture, connections, seconds):
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(HERE / "predict.lua"),
                           f"http://127.0.0.1:{port}{path}"], env={**os.environ, "IMAGE": str(picture)},
                          capture_output=True, text=True, check=True)
    out = done.stdout
    bad, p50, p99 = re.search(r"answers other than 200: (\d+), p50 ([\d.]+) ms, p99 ([\d.]+) ms", out).groups()
    errors = re.search(r"Socket errors: (.*)", out)
    return {"requests_s": float(re.search(r"Requests/sec:\s*([\d.]+)", out).group(1)), "p50_ms": float(p50),
            "p99_ms": float(p99), "bad": int(bad) + bool(errors)}


def measure(args, model, picture):
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(model.resolve(), pathlib.Path(folder) / model.name)
        path, body = f"/v2/models/{model.name}/predict", picture.read_bytes()
        starts = []
        for _ in range(5):
            with served(args.onnxd, folder, path, body) as (_, _, ms):
                starts.append(ms)
        with served(args.onnxd, folder, path, body) as (port, process, _):
            fresh = resident_mb(process)
            runs = {n: wrk(port, path, picture, n, args.seconds) for n in (1, 32)}
            return {"start_ms": min(starts), "fresh_mb": fresh, "loaded_mb": resident_mb(process), **runs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnxd", default=str(ROOT / "build" / "onnxd"))
    parser.add_argument("--models", default=str(ROOT / "demo"), type=pathlib.Path)
    parser.add_argument("--images", default=str(ROOT.parent / "shared" / "images"), type=pathlib.Path)
    parser.add_argument("--seconds", default=10, type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("only", nargs="*", metavar="MODEL", help="of the folder (all)")
    args = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")
    models = sorted(p for p in args.models.iterdir() if (p / "model.json").exists() and p.name in (args.only or [p.name]))
    rows, bad = {}, 0
    if not args.json:
        print("| model | start to first answer | 1 connection: requests/s | p50 | p99 | 32 connections: requests/s | p50 "
              "| p99 | not 200 | memory after the first answer | after the load |\n|---|" + "--:|" * 10)
    for model in models:
        picture = args.images / (PICTURES.get(model.name, "bus") + ".jpg")
        if not picture.exists():
            raise SystemExit(f"{picture} is not there: name a folder with --images")
        r = rows[model.name] = measure(args, model, picture)
        one, many = r[1], r[32]
        bad += one["bad"] + many["bad"]
        if not args.json:
            print(f"| {model.name} | {r['start_ms']:.0f} ms | {one['requests_s']:.0f} | {one['p50_ms']:.1f} ms "
                  f"| {one['p99_ms']:.1f} ms | {many['requests_s']:.0f} | {many['p50_ms']:.1f} ms | {many['p99_ms']:.1f} ms "
                  f"| {one['bad'] + many['bad']} | {r['fresh_mb']:.0f} MB | {r['loaded_mb']:.0f} MB |", flush=True)
    if args.json:
        print(json.dumps(rows))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
