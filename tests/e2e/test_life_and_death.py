"""Start, idling, ending: what an operator sees of the process."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import pytest

from serving import Clients, Server, add_model, dense_model

pytestmark = pytest.mark.timed

ROW = np.zeros((1, 4), np.float32)


@pytest.fixture()
def models(tmp_path):
    add_model(tmp_path / "add/model.onnx", 1)
    dense_model(tmp_path / "dense/model.onnx", 400)
    return tmp_path


def test_liveness_is_answered_before_models_are_loaded(onnxd, models):
    dense_model(models / "large/model.onnx", 30, width=1500)
    with Server(onnxd, models, wait="") as s:
        status, body = s.get("/v2/health/live")
        took = time.monotonic() - s.started
        assert (status, body) == (200, b'{"live":true}')
        ready = s.get("/v2/health/ready")[0]
        status, answer = s.connect().infer("large", np.zeros((1, 1500), np.float32))
        assert ready != 200 and status == 503, (ready, status, answer)
        s.wait_until(lambda: s.get("/v2/health/ready")[0] == 200, 60)
        assert took < 1, took  # the target is 50 ms; a loaded machine starts processes slowly


def test_an_idle_server_uses_no_processor_and_few_threads(onnxd, models):
    with Server(onnxd, models, "--threads", 3) as s:
        assert s.connect().infer("add", ROW)[0] == 200
        time.sleep(1)
        before = s.cpu_seconds()
        time.sleep(2)
        assert s.cpu_seconds() - before <= 0.02
        few = s.threads()
        assert 3 < few <= 3 + 8
        clients = Clients(s, 16, lambda c, i: c.infer("add", ROW)[0])
        time.sleep(0.5)
        many = s.threads()
        assert set(clients.stop()) == {200}
        assert many == few, "connections and requests need no threads"
        assert any("3 workers" in line for line in s.log)


def slow_model(models):
    """A model whose run takes a second or so, and its input."""
    dense_model(models / "slow/model.onnx", 300, width=512, batch=512)
    return np.zeros((512, 512), np.float32)


def taken_without_an_answer(s):
    """The other end read all that was sent, ended the connection and never answered: its end came, and no reset, which a socket
    with unread bytes or one that is closed already sends."""
    time.sleep(0.05)
    closed_by_peer = 8  # TCP_CLOSE_WAIT
    return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == closed_by_peer


class Talker:
    """Sends requests over one connection until that ends, in two pieces and with pauses where it is told to."""

    def __init__(self, port, request, first=0.0, pause=0.0):
        self.port, self.request, self.first, self.pause = port, request, first, pause
        self.statuses, self.lost = [], []
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self):
        with self.socket as s:
            time.sleep(self.first)
            while True:
                data = b""
                try:
                    head, body = self.request
                    s.sendall(head if self.pause else head + body)
                    if self.pause:
                        time.sleep(self.pause)
                        s.sendall(body)
                    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < int(re.search(rb"(?i)content-length: (\d+)", data).group(1)):
                        more = s.recv(65536)
                        if not more:
                            break
                        data += more
                    else:
                        self.statuses.append(int(data.split()[1]))
                        if re.search(rb"(?i)\r\nconnection: close", data):
                            return
                        continue
                except ConnectionError:
                    if data:
                        self.lost.append(("an answer that broke off", data[:200]))
                    return  # what was not read is sent again by any client
                if data or taken_without_an_answer(s):
                    self.lost.append(("no whole answer", data[:200]))
                return


@pytest.mark.parametrize("round", range(int(os.environ.get("ONNXD_TERMS", 6))))
def test_sigterm_under_load_loses_no_request_that_was_read(onnxd, models, round):
    """Under load, with requests whose body comes later than their head, and with some that come just when the server ends: each is
    answered in full, 200 or 503, unless the server has read nothing of it."""
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32", "data": [0.5] * 256}]}).encode()
    request = b"POST /v2/models/dense/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body), body
    rng = np.random.default_rng(round)
    with Server(onnxd, models) as s:
        before = 0.3 + 0.05 * (round % 8)
        talkers = [Talker(s.port, request, pause=[0, 0.005, 0.02][i % 3]) for i in range(9)]
        talkers += [Talker(s.port, request, first=before + t, pause=[0, 0.003][i % 2]) for i, t in enumerate(rng.uniform(0, 0.15, 40))]
        threads = [threading.Thread(target=t.run) for t in talkers]
        for t in threads:
            t.start()
        time.sleep(before)
        s.process.send_signal(signal.SIGTERM)
        code = s.process.wait(20)
        for t in threads:
            t.join()
    lost = [x for t in talkers for x in t.lost]
    statuses = [x for t in talkers for x in t.statuses]
    assert code == 0 and not lost, (lost, s.log[-5:])
    assert not any("cut off" in line for line in s.log), s.log[-5:]
    assert statuses.count(200) > 5 and 503 in statuses and set(statuses) <= {200, 503}, set(statuses)


def test_a_request_that_runs_at_sigterm_is_answered_and_new_ones_are_refused(onnxd, models):
    x = slow_model(models)
    with Server(onnxd, models) as s:
        other = s.connect()
        assert other.infer("add", ROW)[0] == 200
        clients = Clients(s, 2, lambda c, i: c.infer("slow", x)[0], once=True)
        s.wait_until(lambda: sum(v for k, v in s.metrics().items() if k.startswith("onnxd_running{")) == 2, 20)
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        try:
            assert other.infer("add", ROW)[0] == 503
        except (ConnectionError, http.client.HTTPException):
            pass  # its idle connection was closed
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", s.port), 1)
        assert clients.join() == [200, 200]
        assert s.process.wait(20) == 0


def test_a_second_signal_ends_at_once(onnxd, models):
    x = slow_model(models)
    with Server(onnxd, models) as s:
        clients = Clients(s, 1, lambda c, i: c.infer("slow", x)[0], once=True)
        s.wait_until(lambda: sum(v for k, v in s.metrics().items() if k.startswith("onnxd_running{")) == 1, 20)
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        s.process.send_signal(signal.SIGTERM)
        from_ = time.monotonic()
        s.process.wait(5)
        assert time.monotonic() - from_ < 1
        clients.join()


def test_a_killed_server_can_be_started_again_on_its_port(onnxd, models):
    with Server(onnxd, models) as s:
        keep = [s.connect() for _ in range(20)]
        assert all(c.infer("add", ROW)[0] == 200 for c in keep)
        s.kill()
        with Server(onnxd, models, port=s.port) as again:
            assert again.connect().infer("add", ROW)[0] == 200


def test_a_folder_that_is_not_there_and_a_port_in_use_are_said_in_one_line(onnxd, models):
    run = subprocess.run([onnxd, "serve", "/no/such/folder"], capture_output=True, text=True, timeout=20)
    assert run.returncode != 0 and "/no/such/folder" in run.stderr and len(run.stderr.splitlines()) <= 2
    with Server(onnxd, models) as s:
        run = subprocess.run([onnxd, "serve", str(models), "--port", str(s.port)], capture_output=True, text=True, timeout=20)
        assert run.returncode != 0 and any(str(s.port) in line and "in use" in line for line in run.stderr.splitlines())
