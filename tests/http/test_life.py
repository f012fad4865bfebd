"""A server's life: start, drain, signals, exchange of models, clients that go away, and who may come in."""
import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time

import numpy as np
import pytest

import served
from served import infer_json, post

pytestmark = pytest.mark.timed

SLOW = "/v2/models/slow/infer"
ID = "/v2/models/identity/infer"


@pytest.fixture(scope="module")
def slow_request():
    data = np.ones((1, 256, 256), np.float32).tobytes()
    head = json.dumps({"inputs": [{"name": "x", "shape": [1, 256, 256], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}]}).encode()
    return post(SLOW, head + data, inference_header_content_length=len(head))


def one():
    return {"identity": served.scaled(1)}


def counter(s, name):
    page = s.ask("GET", "/metrics")[2].decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name) and not line.startswith("#"))


# ---- start


def test_liveness_comes_before_the_models(onnxd, tmp_path):
    for k in range(3):
        served.save(tmp_path, f"slow{k}", served.slow())
    begin = time.perf_counter()
    with served.Server(onnxd, tmp_path, ready=False) as s:
        s.wait("/v2/health/live")
        alive = time.perf_counter() - begin
        s.wait("/v2/health/ready")
        assert alive < 1  # 50 ms on an idle machine; this one may be busy
        assert s.stop() == 0


def test_liveness_within_50_ms_of_the_start(onnxd, models):
    """The best of some starts: on a busy machine others take the processor away."""
    def start():
        begin = time.perf_counter()
        with served.Server(onnxd, models, ready=False) as s:
            while time.perf_counter() - begin < 10:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    assert s.ask("GET", "/v2/health/live")[0] == 200
                    return time.perf_counter() - begin
                time.sleep(0.001)

    times = []
    while len(times) < 20 and (not times or min(times) >= 0.05):
        times.append(start())
    assert min(times) < 0.05, times


def test_a_model_that_loads_is_503_and_a_broken_one_says_why(own):
    s = own(one())
    (s.folder / "broken").mkdir()
    (s.folder / "broken" / "model.onnx").write_bytes(b"not a model")
    s.process.send_signal(signal.SIGHUP)
    for _ in range(200):
        entry = [m for m in s.json("POST", "/v2/repository/index")[1] if m["name"] == "broken"]
        if entry and entry[0].get("state") == "UNAVAILABLE":
            break
        time.sleep(0.05)
    assert entry[0]["reason"]
    assert s.json("POST", "/v2/models/broken/infer", infer_json())[0] == 503
    assert s.ask("GET", "/v2/health/ready")[0] == 200, "a later model does not take readiness away"


def test_settings_come_from_flags_environment_and_file(own, onnxd, tmp_path):
    config = tmp_path / "onnxd.json"
    config.write_text(json.dumps({"max_body": 5000, "api_prefix": "/file", "max_json_depth": 50}))
    s = own(one(), "--config", config, ready=False, env={"ONNXD_API_PREFIX": "/onnx", "ONNXD_MAX_BODY": "6k"})
    s.wait("/onnx/v2/health/ready")
    assert s.ask("GET", "/v2/health/live")[0] == 404 and s.ask("GET", "/onnxx/v2/health/live")[0] == 404
    assert s.ask("POST", "/onnx" + ID, b"x" * 6100)[0] == 400 and s.ask("POST", "/onnx" + ID, b"x" * 6200)[0] == 413
    for args in (["--port", "70000"], ["--nonsense", "1"], ["--model-control", "maybe"], ["a", "b"], ["--max-body"]):
        done = subprocess.run([onnxd, "serve", *([] if args == ["a", "b"] else [str(s.folder)]), *args], capture_output=True, text=True, timeout=10)
        assert done.returncode == 2 and done.stderr, args
    assert subprocess.run([onnxd, "serve", str(tmp_path / "nowhere")], capture_output=True, timeout=10).returncode == 1
    said = subprocess.run([onnxd, "serve", "--help"], capture_output=True, text=True, timeout=10)
    assert said.returncode == 0 and "--max-body " in said.stdout and "ONNXD_MAX_BODY" in said.stdout and " max_body " in said.stdout


def test_another_server_on_the_port_is_said(own, onnxd):
    s = own(one())
    done = subprocess.run([onnxd, "serve", str(s.folder), "--port", str(s.port)], capture_output=True, text=True, timeout=10)
    assert done.returncode == 1 and "Address already in use" in done.stderr


def test_an_address_that_others_reach_warns(own, tmp_path):
    log = tmp_path / "log"
    own(one(), "--host", "0.0.0.0", log=log)
    assert "reachable from outside" in log.read_text()


def test_the_health_command(own, onnxd):
    s = own(one())
    run = lambda *a, **env: subprocess.run([onnxd, "health", *a], capture_output=True, timeout=10, env={**os.environ, **env}).returncode  # noqa: E731
    assert run(f"http://127.0.0.1:{s.port}") == 0 and run(f"127.0.0.1:{s.port}/v2/health/live") == 0 and run(ONNXD_PORT=str(s.port)) == 0
    assert run(f"http://127.0.0.1:{s.port}/v2/models/nobody/ready") == 1 and run("a", "b") == 2
    s.stop()
    assert run(f"http://127.0.0.1:{s.port}") == 1


# ---- end


def test_sigterm_finishes_what_was_admitted(own, slow_request):
    s = own({"slow": served.slow(), **one()})
    wires = [s.connect() for _ in range(6)]
    idle = s.connect()
    for w in wires:
        w.send(slow_request)
    time.sleep(0.15)
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.02)
    idle.send(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
    ready = idle.answer()
    with contextlib.suppress(OSError), s.connect() as late:
        assert late.answer()[0] == 0
    assert [w.answer()[0] for w in wires] == [200] * 6
    assert ready[0] == 503 and ready[1]["connection"].lower() == "close"
    assert s.process.wait(30) == 0


def test_sigterm_of_an_idle_server_is_quick(own):
    s = own(one())
    with s.connect() as w:
        w.send(post(ID, json.dumps(infer_json()).encode()))
        assert w.answer()[0] == 200
        begin = time.time()
        assert s.stop() == 0 and time.time() - begin < 2


def test_a_second_signal_ends_at_once(own, slow_request):
    s = own({"slow": served.slow(rounds=2000)}, "--threads", 1)
    with s.connect() as w:
        w.send(slow_request)
        time.sleep(0.1)
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert s.process.poll() is None
        assert s.stop() == 1
        assert w.answer()[0] == 0, "nobody waited for the run"


def test_ten_sigterms_under_load_lose_no_admitted_request(own):
    body = json.dumps(infer_json()).encode()
    for _ in range(10):
        s = own(one())
        lost, done = [], []

        def talk():
            with s.connect() as w:
                while True:
                    try:
                        w.send(post(ID, body))
                    except OSError:
                        return
                    status, headers, _ = w.answer()
                    done.append(status)
                    if status not in (200, 503):
                        if status:
                            lost.append(status)
                        return
                    if headers.get("connection", "").lower() == "close":
                        return

        threads = [threading.Thread(target=talk) for _ in range(4)]
        for t in threads:
            t.start()
        time.sleep(0.1)
        assert s.stop() == 0
        for t in threads:
            t.join()
        assert not lost and done.count(200) > 10 and 0 not in done


# ---- models while serving


def test_hot_swaps_fail_no_request(own):
    s = own({"m": served.scaled(1)}, "--model-control", "explicit", "--load-models", "m")
    stop, wrong, seen = threading.Event(), [], set()

    def talk():
        with s.connect() as w:
            while not stop.is_set():
                w.send(post("/v2/models/m/infer", json.dumps(infer_json(data=[1, 1, 1, 1])).encode()))
                status, _, body = w.answer()
                if status != 200:
                    wrong.append((status, body))
                    return
                seen.add(json.loads(body)["outputs"][0]["data"][0])

    threads = [threading.Thread(target=talk) for _ in range(3)]
    for t in threads:
        t.start()
    for k in range(2, 22):
        served.save(s.folder, "m", served.scaled(k))
        assert s.ask("POST", "/v2/repository/models/m/load", b"{}")[0] == 200
        assert s.json("POST", "/v2/models/m/infer", infer_json(data=[1, 1, 1, 1]))[1]["outputs"][0]["data"][0] == k
    stop.set()
    for t in threads:
        t.join()
    assert not wrong and len(seen) > 5


def test_a_model_that_loads_long_keeps_no_other_waiting(own):
    s = own({"long": served.slow(size=128, rounds=4000), **one()}, "--model-control", "explicit", "--load-threads", 2)
    done = []
    load = threading.Thread(target=lambda: done.append(s.ask("POST", "/v2/repository/models/long/load", b"{}")[0]))
    load.start()
    while {"name": "long", "version": "1", "state": "LOADING"} not in s.json("POST", "/v2/repository/index")[1]:
        assert load.is_alive()
    for _ in range(3):
        assert s.ask("POST", "/v2/repository/models/identity/load", b"{}")[0] == 200
        assert s.ask("POST", "/v2/repository/models/identity/unload", b"{}")[0] == 200
    assert not done, "it is still being loaded"
    load.join()
    assert done == [200]


# ---- clients that go away


def test_a_client_that_goes_away_cancels_its_work(own, slow_request):
    s = own({"slow": served.slow(rounds=2400)}, "--threads", 1)
    with s.connect() as first:
        first.send(slow_request)
        time.sleep(0.05)
        others = [s.connect() for _ in range(5)]
        for w in others:
            w.send(slow_request)
        time.sleep(0.1)
        for w in others:
            w.socket.close()
        assert first.answer()[0] == 200
    for _ in range(100):
        stats = s.json("GET", "/v2/models/slow/stats")[1]["model_stats"][0]
        if stats["inference_stats"]["fail"]["count"] == 5:
            break
        time.sleep(0.05)
    assert stats["inference_stats"]["fail"]["count"] == 5 and stats["execution_count"] <= 2


def test_liveness_while_all_workers_are_busy_and_many_connections_idle(own, slow_request):
    s = own({"slow": served.slow(rounds=600)})
    idle = [s.connect() for _ in range(300)]
    busy = [s.connect() for _ in range(8)]
    for w in busy:
        w.send(slow_request)
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        assert s.ask("GET", "/v2/health/live")[0] == 200
        times.append(time.perf_counter() - begin)
    assert sorted(times)[45] < 0.25  # 10 ms on a machine of one's own
    assert [w.answer()[0] for w in busy] == [200] * 8
    for w in idle + busy:
        w.socket.close()


def test_a_full_queue_is_503_at_once(own, slow_request):
    s = own({"slow": served.slow(rounds=600)}, "--max-queue", 2, "--threads", 1, "--max-batch-size", 1)
    wires = [s.connect() for _ in range(8)]
    for w in wires:
        w.send(slow_request)
    answers = [w.answer() for w in wires]
    refused = [a for a in answers if a[0] == 503]
    assert refused and {a[0] for a in answers} == {200, 503}
    assert all(int(a[1]["retry-after"]) >= 1 and json.loads(a[2])["error"] for a in refused)


def test_a_full_queue_is_said_before_a_picture_is_sent(own, slow_request):
    s = own({"slow": served.slow(rounds=1500)}, "--max-queue", 2, "--threads", 1, "--max-batch-size", 1)
    head = post("/v2/models/slow/predict", b"", content_length=100000, expect="100-continue")
    with s.connect() as w:
        w.send(head)
        assert w.answer()[0] == 100, "room enough"
    wires = [s.connect() for _ in range(6)]
    for w in wires:
        w.send(slow_request)
    assert wires[-1].answer()[0] == 503
    with s.connect() as w:
        w.send(head)
        status, headers, body = w.answer()
    assert status == 503 and int(headers["retry-after"]) >= 1 and "queue" in json.loads(body)["error"]
    assert counter(s, 'onnxd_rejected_total{reason="queue_full"}') >= 2
    with s.connect() as w:  # a client that has sent it all the same gets to read the answer, and may ask again
        w.send(post("/v2/models/slow/predict", b"x" * 100000))
        assert w.answer()[0] == 503
        w.send(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert w.answer()[0] == 200
    for w in wires:
        w.socket.close()


def test_clients_that_break_off_are_noticed_at_once_and_hold_no_memory(own):
    s = own(one(), "--threads", 1)
    for cut in (0, 1, 100000, 5000000):  # of a body of 60 MB
        wires = [s.connect() for _ in range(6)]
        for w in wires:
            w.send(post(ID, b"", content_length=60000000) + b"x" * cut)
        for w in wires:
            w.socket.close()
    for _ in range(100):
        if counter(s, "onnxd_connections") <= 1 and counter(s, "onnxd_request_body_bytes") == 0:
            break
        time.sleep(0.05)
    assert counter(s, "onnxd_connections") <= 1 and counter(s, "onnxd_request_body_bytes") == 0
    begin = time.time()
    assert s.stop() == 0 and time.time() - begin < 3, "nobody waits for their rest"


# ---- who may come in


def test_tokens_rates_and_admins(own, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("# clients\nalice alice-secret admin\nbob bob-secret-1 rate=5\n")
    s = own(one(), "--tokens", tokens, "--access-log", "json", "--access-log-file", tmp_path / "access.log")
    body = json.dumps(infer_json())
    by = lambda token: {"Authorization": f"Bearer {token}"}  # noqa: E731
    assert s.ask("GET", "/v2/health/live")[0] == 200
    for headers in ({}, by("nobody-secret"), by("alice-secre"), by("alice-secret1"), by("bob-secret-2"), {"Authorization": "Basic abc"}, by("x" * 2000)):
        status, got, said = s.ask("POST", ID, body, headers)
        assert status == 401 and got["www-authenticate"] == "Bearer" and json.loads(said)["error"]
    assert s.ask("POST", ID, body, by("alice-secret"))[0] == 200
    assert s.ask("POST", "/v2/repository/models/identity/load", "{}", by("bob-secret-1"))[0] == 403
    assert s.ask("POST", "/v2/repository/models/identity/load", "{}", by("alice-secret"))[0] == 200
    answers = [s.ask("POST", ID, body, by("bob-secret-1")) for _ in range(15)]
    assert {a[0] for a in answers} == {200, 429} and all("retry-after" in a[1] for a in answers if a[0] == 429)
    for status, headers, _ in answers:
        limit, left, reset = (int(headers["ratelimit-" + x]) for x in ("limit", "remaining", "reset"))
        assert limit == 5 and 0 <= left < 5 and reset == 1 and (left == 0 or status == 200)
    assert "ratelimit-limit" not in s.ask("POST", ID, body, by("alice-secret"))[1], "she has no rate"
    tokens.write_text("carol carol-secret\n")
    s.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert s.ask("POST", ID, body, by("carol-secret"))[0] == 200 and s.ask("POST", ID, body, by("alice-secret"))[0] == 401
    s.stop()
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert any(line.get("client") == "alice" for line in lines) and "alice-secret" not in (tmp_path / "access.log").read_text()


def test_tls(own, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj",
                           "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], capture_output=True)
    assert made.returncode == 0
    s = own(one(), "--tls-cert", cert, "--tls-key", key, ready=False)
    context = ssl.create_default_context(cafile=cert)
    for _ in range(100):
        c = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=10, context=context)
        with contextlib.suppress(OSError):
            c.request("GET", "/v2/health/ready")
            r = c.getresponse()
            if r.read() and r.status == 200:
                break
        time.sleep(0.05)
    big = json.dumps(infer_json(shape=(20000, 4), data=[0.25] * 80000))
    for _ in range(3):
        c.request("POST", ID, big)
        r = c.getresponse()
        assert r.status == 200 and json.loads(r.read())["outputs"][0]["shape"] == [20000, 4]
    c.close()


def certificate(folder, name):
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
                           "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], capture_output=True)
    assert made.returncode == 0
    return cert.read_bytes(), key.read_bytes()


def shown(s):
    """The certificate that a new connection gets."""
    return ssl.get_server_certificate(("127.0.0.1", s.port)).encode()


def test_a_renewed_certificate_is_shown_from_sighup_on_and_open_connections_go_on(own, tmp_path):
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    cert, key, log = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "log"
    cert.write_bytes(first[0]), key.write_bytes(first[1])
    s = own(one(), "--tls-cert", cert, "--tls-key", key, ready=False, log=log)
    until(lambda: "listening" in log.read_text())
    assert shown(s).split() == first[0].split()
    c = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=10, context=ssl._create_unverified_context())
    for renewed, wanted in (((second[0], first[1]), first), (second, second)):  # a pair that is none changes nothing
        cert.write_bytes(renewed[0]), key.write_bytes(renewed[1])
        said = log.read_text().count("SIGHUP")
        s.process.send_signal(signal.SIGHUP)
        until(lambda: log.read_text().count("SIGHUP") > said)
        assert shown(s).split() == wanted[0].split()
        c.request("GET", "/v2/health/live")
        assert c.getresponse().read() == b'{"live":true}'
    c.close()
    bad = subprocess.run([os.environ.get("ONNXD", "build/onnxd"), "serve", s.folder, "--tls-cert", log, "--tls-key", key], capture_output=True, text=True, timeout=10)
    assert bad.returncode == 2 and "certificate" in bad.stderr


def test_who_says_nothing_over_tls_is_dropped(own, tmp_path):
    cert, key = certificate(tmp_path, "one")
    s = own(one(), "--tls-cert", tmp_path / "one.pem", "--tls-key", tmp_path / "one.key", "--idle-timeout", 1, "--receive-timeout", 1, ready=False)
    until(lambda: not served_nobody(s))
    for said in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)):
        with s.connect() as w:
            w.send(said)
            begin = time.time()
            assert w.closed() and time.time() - begin < 8


def served_nobody(s):
    with contextlib.suppress(OSError), s.connect():
        return False
    return True


def until(what, seconds=20):
    end = time.time() + seconds
    while not what():
        assert time.time() < end
        time.sleep(0.01)


def test_sighup_changes_the_access_log_and_says_what_needs_a_new_start(own, tmp_path):
    config, lines, log = tmp_path / "onnxd.json", tmp_path / "access.log", tmp_path / "log"
    config.write_text('{"access_log_file": "%s"}' % lines)
    s = own(one(), "--config", config, log=log)
    seen = 0
    for form, other in (("text", ""), ("json", ""), ("off", ', "threads": 7, "max_body": 1000'), ("json", "")):
        config.write_text('{"access_log": "%s", "access_log_file": "%s"%s}' % (form, lines, other))
        seen = log.read_text().count("SIGHUP: log level")
        s.process.send_signal(signal.SIGHUP)
        until(lambda: log.read_text().count("SIGHUP: log level") > seen)
        before = lines.read_text() if lines.exists() else ""
        assert s.ask("GET", "/v2/health/live")[0] == 200
        if form == "off":
            time.sleep(0.2)
            assert lines.read_text() == before
            assert "a new start is needed for --threads --max-body\n" in log.read_text()
        else:
            until(lambda: len(lines.read_text()) > len(before))
            assert lines.read_text()[len(before):].startswith("{") == (form == "json")
    config.write_text('{"access_log": "loud"}')
    s.process.send_signal(signal.SIGHUP)
    until(lambda: "settings stay as they were" in log.read_text())
    assert s.ask("GET", "/v2/health/live")[0] == 200


def test_a_service_manager_is_told(own, tmp_path):
    """As systemd would be: a datagram socket, here also in the abstract namespace."""
    for name in (str(tmp_path / "notify"), "@onnxd-test-%d" % os.getpid()):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
            n.bind(name.replace("@", "\0"))
            n.settimeout(20)
            s = own(one(), ready=False, env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": ""})
            assert n.recv(1000).startswith(b"READY=1\nSTATUS=Serving ")
            assert s.ask("GET", "/v2/health/live")[0] == 200
            assert [n.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            s.process.send_signal(signal.SIGHUP)
            said = [x for x in (n.recv(1000) for _ in range(5)) if x != b"WATCHDOG=1"]
            assert said[0].startswith(b"RELOADING=1\nMONOTONIC_USEC=") and said[1] == b"READY=1"
            s.process.send_signal(signal.SIGTERM)
            assert any(n.recv(1000).startswith(b"STOPPING=1") for _ in range(20))
            assert s.process.wait(20) == 0


def test_a_server_short_of_files_goes_on(own, onnxd):
    """More connections than the system lets it have: the rest waits at the door, and comes in when others leave."""
    s = own(one(), "--max-connections", 2000, "--threads", 1)
    resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE, (80, 80))
    with s.connect() as inside:
        wires = [s.connect() for _ in range(150)]
        for _ in range(20):
            inside.send(post(ID, json.dumps(infer_json()).encode()))
            assert inside.answer()[0] == 200, "who is in is served"
        for w in wires:
            w.socket.close()
        assert s.ask("GET", "/v2/health/live")[0] == 200 and s.process.poll() is None


def test_cors(own):
    s = own(one(), "--cors-origin", "https://example.org")
    status, headers, _ = s.ask("OPTIONS", ID, headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"})
    assert status == 204 and "POST" in headers["access-control-allow-methods"] and headers["access-control-allow-origin"] == "https://example.org"
    assert s.ask("POST", ID, json.dumps(infer_json()))[1]["access-control-allow-origin"] == "https://example.org"
    plain = own(one())
    assert plain.ask("OPTIONS", ID)[0] == 405 and "access-control-allow-origin" not in plain.ask("GET", "/v2")[1]


def test_unix_socket(onnxd, tmp_path):
    served.save(tmp_path / "models", "identity", served.scaled(1))
    path = tmp_path / "onnxd.sock"
    for _ in range(2):  # the second start finds what a dead server left behind
        s = served.Server(onnxd, tmp_path / "models", "--socket", path, ready=False)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as u:
                u.connect(str(path))
                u.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
                if u.recv(1000).startswith(b"HTTP/1.1 200"):
                    break
            time.sleep(0.02)
        else:
            raise AssertionError("no answer on the socket")
        s.stop(signal.SIGKILL)
