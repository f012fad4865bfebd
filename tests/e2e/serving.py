"""A running server and models to give it, for the end-to-end tests and the server's benchmarks."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


# ---- models

def _save(path, nodes, inputs, outputs, initializers):
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("." + path.name)  # renamed when it is whole, as a careful user does
    onnx.save(model, part)
    part.rename(path)


def _floats(name, dims):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def add_model(path, constant, width=4):
    """y = x + constant: tells which file answered."""
    c = numpy_helper.from_array(np.array([constant], np.float32), "c")
    _save(path, [helper.make_node("Add", ["x", "c"], ["y"])], [_floats("x", ["N", width])], [_floats("y", ["N", width])], [c])


def identity_model(path, dims):
    _save(path, [helper.make_node("Identity", ["x"], ["y"])], [_floats("x", dims)], [_floats("y", dims)], [])


def dense_model(path, steps, width=256, batch="N"):
    """`steps` products with a width x width matrix: as slow as is wanted, on one row."""
    w = numpy_helper.from_array((np.random.default_rng(1).standard_normal((width, width)) / width ** 0.5).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", [f"s{i}" if i else "x", "w"], [f"s{i + 1}" if i + 1 < steps else "y"]) for i in range(steps)]
    _save(path, nodes, [_floats("x", [batch, width])], [_floats("y", [batch, width])], [w])


def conv_model(path, size=64, channels=32, steps=4, batch="N"):
    """A small image classifier: convolutions, normalization, pooling, a dense layer, Softmax."""
    rng = np.random.default_rng(2)
    nodes, constants, last, wide = [], [], "x", 3
    for i in range(steps):
        w = (rng.standard_normal((channels, wide, 3, 3)) / (wide * 9) ** 0.5).astype(np.float32)
        constants.append(numpy_helper.from_array(w, f"w{i}"))
        nodes += [helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
                  helper.make_node("Relu", [f"c{i}"], [f"r{i}"])]
        last, wide = f"r{i}", channels
    constants.append(numpy_helper.from_array((rng.standard_normal((channels, 10))).astype(np.float32), "d"))
    nodes += [helper.make_node("GlobalAveragePool", [last], ["p"]), helper.make_node("Flatten", ["p"], ["f"]),
              helper.make_node("MatMul", ["f", "d"], ["m"]), helper.make_node("Softmax", ["m"], ["y"], axis=1)]
    _save(path, nodes, [_floats("x", [batch, 3, size, size])], [_floats("y", [batch, 10])], constants)


# ---- the server

class Server:
    """`onnxd serve DIR ...` on a free port, ended when the `with` block is left."""

    def __init__(self, onnxd, folder, *flags, port=0, wait="ready", env=None):
        self.started = time.monotonic()
        self.process = subprocess.Popen([onnxd, "serve", str(folder), "--port", str(port), *map(str, flags)],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(env or {})})
        self.log, self.port = [], None
        self._listening = threading.Event()
        threading.Thread(target=self._read_log, daemon=True).start()
        if not self._listening.wait(20) or not self.port:
            self.kill()
            raise RuntimeError("the server does not listen: " + "".join(self.log))
        if wait == "ready":
            self.wait_until(lambda: self.get("/v2/health/ready")[0] == 200, 60)

    def _read_log(self):
        for line in self.process.stdout:
            self.log.append(line)
            at = re.search(r"listening on https?://[^:]+:(\d+)", line)
            if at:
                self.port = int(at.group(1))
                self._listening.set()
        self._listening.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait_until(self, what, seconds):
        until = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, "the server ended: " + "".join(self.log)
            assert time.monotonic() < until, "in vain: " + "".join(self.log[-20:])
            time.sleep(0.01)

    def connect(self, timeout=60):
        return Connection(self.port, timeout)

    def get(self, path):
        with self.connect() as c:
            return c.ask("GET", path)

    def post(self, path, body=b""):
        with self.connect() as c:
            return c.ask("POST", path, body)

    def load(self, name):
        return self.post(f"/v2/repository/models/{name}/load", b"{}")

    def unload(self, name):
        return self.post(f"/v2/repository/models/{name}/unload", b"{}")

    def index(self):
        return json.loads(self.post("/v2/repository/index")[1])

    def metrics(self):
        """{"name{labels}": value}"""
        text = self.get("/metrics")[1].decode()
        return {l.rpartition(" ")[0]: float(l.rpartition(" ")[2]) for l in text.splitlines() if l and l[0] != "#"}

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def threads(self):
        return len(list(pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()))

    def resident_mb(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2 ** 20


class Connection:
    """One connection that stays open."""

    def __init__(self, port, timeout=60):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self.http.connect()
        self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.headers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    def ask(self, method, path, body=None, headers={}):
        """(status, body); the answer's headers are in self.headers, by their names in lower case."""
        self.http.request(method, path, body, headers)
        answer = self.http.getresponse()
        data = answer.read()
        self.headers = {k.lower(): v for k, v in answer.getheaders()}
        return answer.status, data

    def infer(self, model, x, parameters=None):
        """(status, outputs): one float input `x`, sent and answered as bytes; an error's text instead of outputs."""
        head = {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}],
                "parameters": {"binary_data_output": True, **(parameters or {})}}
        head = json.dumps(head).encode()
        head += b" " * (-len(head) % 16)
        status, data = self.ask("POST", f"/v2/models/{model}/infer", head + x.tobytes(),
                                {"Inference-Header-Content-Length": str(len(head))})
        if status != 200:
            return status, json.loads(data)["error"]
        n = int(self.headers["inference-header-content-length"])
        shape = json.loads(data[:n])["outputs"][0]["shape"]
        return status, np.frombuffer(data[n:], np.float32).reshape(shape)


class Clients:
    """`n` threads that each call work(connection, number) again and again until stop(). What work returns is
    collected; an exception is collected as itself."""

    def __init__(self, server, n, work, timeout=60, once=False):
        self.server, self.work, self.timeout, self.once = server, work, timeout, once
        self.results, self.stopping = [], False
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(n)]
        for t in self.threads:
            t.start()

    def _run(self, number):
        try:
            with self.server.connect(self.timeout) as c:
                while not self.stopping:
                    self.results.append(self.work(c, number))
                    if self.once:
                        break
        except Exception as e:
            self.results.append(e)

    def stop(self):
        self.stopping = True
        return self.join()

    def join(self):
        for t in self.threads:
            t.join()
        return self.results
