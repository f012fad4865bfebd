"""Metrics, access log, names of requests: what an operator sees of the work."""
import json
import math
import re
import time

import numpy as np
import pytest

from serving import Clients, Server, add_model

ROW = np.zeros((1, 4), np.float32)


@pytest.fixture()
def models(tmp_path):
    add_model(tmp_path / "models/add/model.onnx", 1)
    add_model(tmp_path / 'models/odd "name"/model.onnx', 1)
    return tmp_path / "models"


def families(text):
    """{family: type}, [(name, labels, value)]: as Prometheus reads the text, strictly."""
    types, samples, seen, last = {}, [], set(), None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            last = line.split(" ")[2]
            assert last not in types, f"{last} twice"
        elif line.startswith("# TYPE "):
            _, _, name, type = line.split(" ")
            assert name == last and type in ("counter", "gauge", "histogram")
            types[name] = type
        else:
            m = re.fullmatch(r'([a-z_:][a-z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\]|\\["\\n])*",?)*)\})? (\S+)', line)
            assert m, line
            labels = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', m.group(2) or ""))
            family = last if m.group(1) == last else re.sub(r"_(bucket|sum|count)$", "", m.group(1))
            assert family == last, f"{line} stands below {last}"
            key = (m.group(1), tuple(sorted(labels.items())))
            assert key not in seen, line
            seen.add(key)
            samples.append((m.group(1), labels, float(m.group(3))))
    return types, samples


def test_the_page_is_what_prometheus_reads(onnxd, models):
    with Server(onnxd, models) as s:
        Clients(s, 4, lambda c, n: [c.infer("add", ROW)[0] for _ in range(50)], once=True).join()
        s.connect().infer("odd%20%22name%22", ROW)
        s.connect().infer("none", ROW)
        s.connect().infer("add", np.zeros((1, 5), np.float32))
        time.sleep(0.1)
        with s.connect() as c:
            status, body = c.ask("GET", "/metrics")
            assert status == 200 and c.headers["content-type"].startswith("text/plain; version=0.0.4")
    types, samples = families(body.decode())
    for name, type in types.items():
        if type == "counter":
            assert name.endswith("_total"), name
        assert not name.endswith(("_ms", "_us", "_kb", "_mb")), f"{name}: base units"
    value = lambda name, **labels: sum(v for n, l, v in samples if n == name and labels.items() <= l.items())
    assert value("onnxd_requests_total", model="add", outcome="ok") == 200
    assert value("onnxd_requests_total", model="add", outcome="failed") == 1
    assert value("onnxd_requests_total", model='odd \\"name\\"', outcome="ok") == 1
    assert not [l for _, l, _ in samples if l.get("model") == "none"], "whoever asks for names makes no series"
    assert value("onnxd_http_requests_total", code="404") == 1
    assert value("onnxd_inference_rows_total", model="add") == 200
    assert value("onnxd_model_state", model="add", state="READY") == 1
    assert value("onnxd_ready") == 1 and value("onnxd_build_info") == 1
    assert value("process_resident_memory_bytes") > 1e6 and value("process_open_fds") > 5
    assert abs(value("process_start_time_seconds") - time.time()) < 60
    for family in (n for n, t in types.items() if t == "histogram"):
        series = {}
        for name, labels, v in samples:
            if name == family + "_bucket":
                key = tuple(sorted((k, x) for k, x in labels.items() if k != "le"))
                series.setdefault(key, []).append((math.inf if labels["le"] == "+Inf" else float(labels["le"]), v))
        for key, buckets in series.items():
            assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets), family
            assert buckets[-1] == (math.inf, value(family + "_count", **dict(key)))


def test_counters_only_grow_through_an_exchange_of_the_model(onnxd, models):
    with Server(onnxd, models, "--model-control", "explicit", "--load-models", "add") as s, s.connect() as c:
        for i in range(3):
            assert c.infer("add", ROW)[0] == 200
            time.sleep(0.05)
            assert s.metrics()['onnxd_requests_total{model="add",version="1",outcome="ok"}'] == i + 1
            assert s.load("add")[0] == 200


def test_each_request_is_a_line_of_the_access_log(onnxd, models):
    with Server(onnxd, models, "--access-log", "json") as s, s.connect() as c:
        c.ask("GET", "/v2/health/live", headers={"X-Request-Id": "probe-1"})
        assert c.headers["x-request-id"] == "probe-1"
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        c.ask("GET", '/v2/models/odd%20%22name%22?q="x"', headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        assert trace in c.headers.get("traceparent", "")
        assert c.infer("add", ROW)[0] == 200
        assert re.search(r"\bcompute;dur=[0-9.]+", c.headers["server-timing"])
        c.ask("GET", "/v2/health/live", headers={"X-Request-Id": "bad id \x01"})
        assert c.headers["x-request-id"] != "bad id \x01"
        c.ask("GET", "/nowhere")
        mine = lambda: [json.loads(l) for l in s.log if l.startswith("{") and "/health/ready" not in l]
        s.wait_until(lambda: len(mine()) == 5, 5)
        lines = mine()
        assert [l["status"] for l in lines] == [200, 200, 200, 200, 404]
        assert lines[0]["id"] == "probe-1" and lines[0]["target"] == "/v2/health/live"
        assert trace in lines[1]["traceparent"]
        assert lines[2]["model"] == "add" and lines[2]["version"] == 1 and lines[2]["compute_ms"] >= 0 and lines[2]["batch"] == 1
        assert len({l["id"] for l in lines}) == 5


def test_a_log_that_nobody_reads_does_not_stop_the_server(onnxd, models):
    import subprocess
    p = subprocess.Popen([onnxd, "serve", str(models), "--port", "0", "--access-log", "text"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    try:
        port = None
        while port is None:
            at = re.search(r"listening on http://[^:]+:(\d+)", p.stderr.readline())
            port = at and int(at.group(1))
        import http.client
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for _ in range(3000):  # some 400 KB of lines; the pipe holds 64 KB
            c.request("GET", "/v2/health/live")
            assert c.getresponse().read()
        c.request("GET", "/metrics")
        assert b"onnxd_access_log_dropped_total" in c.getresponse().read()
    finally:
        p.kill()
        p.wait()
