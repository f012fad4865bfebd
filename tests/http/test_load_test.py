"""onnxd load-test measures what is there."""
import csv
import io
import json
import subprocess

import served


def run(onnxd, *args):
    done = subprocess.run([onnxd, "load-test", *map(str, args)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_closed_and_open_loop(onnxd, server, tmp_path):
    body = tmp_path / "b.json"
    body.write_text(json.dumps(served.infer_json()))
    url = f"http://{server.url}/v2/models/identity/infer"
    code, out, _ = run(onnxd, url, "--body", body, "--seconds", 0.5, "--warmup", 0.1, "--connections", 4, "--json")
    said = json.loads(out)
    assert code == 0 and said["ok"] == said["answers"] > 50 and said["statuses"] == {"200": said["ok"]} and said["errors"] == 0
    assert 0 < said["p50_ms"] <= said["p90_ms"] <= said["p99_ms"] <= said["max_ms"] and said["server_ms"]["compute"] >= 0
    code, out, _ = run(onnxd, url, "--body", body, "--seconds", 1, "--warmup", 0, "--rate", 200, "--csv")
    row = next(csv.DictReader(io.StringIO(out)))
    assert code == 0 and float(row["ok"]) + float(row["unanswered"]) == 200


def test_open_loop_counts_from_when_a_request_was_due(onnxd, own, tmp_path):
    s = own({"slow": served.slow(rounds=1200)}, "--threads", 1, "--max-batch-size", 1)
    body = tmp_path / "b.json"
    body.write_text(json.dumps(served.infer_json(shape=(1, 256, 256), data=[0] * 65536)))
    _, out, _ = run(onnxd, f"{s.url}/v2/models/slow/infer", "--body", body, "--rate", 100, "--seconds", 1, "--warmup", 0, "--connections", 1, "--json")
    said = json.loads(out)
    assert said["p99_ms"] > 300, "one slow connection makes those behind it wait, and that is seen"


def test_what_goes_wrong_is_told(onnxd, server):
    code, out, _ = run(onnxd, f"{server.url}/v2/models/nobody", "--seconds", 0.2, "--warmup", 0, "--json")
    assert code == 1 and json.loads(out)["statuses"].keys() == {"404"}
    assert run(onnxd, f"127.0.0.1:{served.free_port()}")[0] == 1
    assert run(onnxd)[0] == 2 and run(onnxd, "https://x")[0] == 2 and run(onnxd, server.url, "--rate", "x")[0] == 2
    assert run(onnxd, server.url, "--body", "/nowhere")[0] == 1
