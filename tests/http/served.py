"""A server of small models for the tests of this folder, and raw sockets to it."""
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import time

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper
from PIL import Image


def model(nodes, inputs, outputs, initializer=()):
    values = [[helper.make_tensor_value_info(*v) for v in side] for side in (inputs, outputs)]
    nodes = [helper.make_node(op, i, o, **a) for op, i, o, a in nodes]
    graph = helper.make_graph(nodes, "g", values[0], values[1], list(initializer))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def identity(kind, shape):
    return model([("Identity", ["x"], ["y"], {})], [("x", kind, shape)], [("y", kind, shape)])


def scaled(factor):
    w = helper.make_tensor("w", T.FLOAT, [], [factor])
    return model([("Mul", ["x", "w"], ["y"], {})], [("x", T.FLOAT, ["n", 4])], [("y", T.FLOAT, ["n", 4])], [w])


def slow(size=256, rounds=300):
    """Tens of milliseconds a run on any machine."""
    nodes = [("MatMul", ["x" if k == 0 else f"h{k}", "w"], [f"h{k + 1}"], {}) for k in range(rounds)]
    nodes.append(("ReduceMean", [f"h{rounds}"], ["y"], {"axes": [1, 2], "keepdims": 0}))
    w = helper.make_tensor("w", T.FLOAT, [size, size], (np.eye(size, dtype=np.float32)).ravel())
    return model(nodes, [("x", T.FLOAT, ["n", size, size])], [("y", T.FLOAT, ["n"])], [w])


def small_models():
    add = model([("Add", ["a", "b"], ["sum"], {}), ("Sub", ["a", "b"], ["difference"], {})],
                [("a", T.INT32, ["n", 16]), ("b", T.INT32, ["n", 16])],
                [("sum", T.INT32, ["n", 16]), ("difference", T.INT32, ["n", 16])])
    colours = model([("GlobalAveragePool", ["pixels"], ["m"], {}), ("Flatten", ["m"], ["scores"], {})],
                    [("pixels", T.FLOAT, ["n", 3, 32, 32])], [("scores", T.FLOAT, ["n", 3])])
    yield "identity", identity(T.FLOAT, ["n", 4])
    yield "scores", identity(T.FLOAT, ["n", "k"])
    yield "text", identity(T.STRING, ["n"])
    yield "add", add
    yield "colours", colours
    yield "a name with spaces", identity(T.FLOAT, ["n", 4])
    for name, kind in (("fp16", T.FLOAT16), ("bf16", T.BFLOAT16), ("fp64", T.DOUBLE), ("bool", T.BOOL), ("int8", T.INT8),
                       ("uint8", T.UINT8), ("int16", T.INT16), ("uint16", T.UINT16), ("int64", T.INT64),
                       ("uint32", T.UINT32), ("uint64", T.UINT64)):
        yield name, identity(kind, ["n", 2])


def red_finder():
    """One detection per cell of an 8x8 grid in YOLOv8's form: the mean of red (label 0) and of blue (label 1) is its score."""
    cells, n = 8, 64
    centres = (np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), 0).reshape(2, n) * 8 + 4).astype(np.float32)
    boxes = np.concatenate([centres, np.full((2, n), 8, np.float32)])[None]
    pick = np.zeros((2, 3, 1, 1), np.float32)
    pick[0, :, 0, 0], pick[1, :, 0, 0] = (1, -1, -1), (-1, -1, 1)
    constants = [onnx.numpy_helper.from_array(boxes, "boxes"), onnx.numpy_helper.from_array(pick, "pick"),
                 onnx.numpy_helper.from_array(np.array([1, 2, n]), "shape")]
    nodes = [helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[8, 8], strides=[8, 8]), helper.make_node("Conv", ["p", "pick"], ["c"]),
             helper.make_node("Reshape", ["c", "shape"], ["s"]), helper.make_node("Concat", ["boxes", "s"], ["y"], axis=1)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", T.FLOAT, [1, 3, 64, 64])],
                              [helper.make_tensor_value_info("y", T.FLOAT, [1, 6, n])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


RED_CARD = {"task": "detect", "decoder": "yolov8", "labels": ["red", "blue"], "score_threshold": 0.5,
            "preprocess": {"colors": "rgb", "fit": "stretch", "width": 64, "height": 64, "rescale": 1 / 255}}


def coloured_picture():
    """Red of three strengths (1, 0.7, 0.3) in a row of cells, blue below, on black."""
    x = np.zeros((64, 64, 3), np.uint8)
    x[0:8, 0:8, 0], x[0:8, 24:32, 0], x[0:8, 48:56, 0] = 255, 178, 76
    x[40:48, 16:24, 2] = 255
    out = io.BytesIO()
    Image.fromarray(x).resize((256, 256), Image.NEAREST).save(out, "PNG")
    return out.getvalue()


COLOURS_CARD = {"task": "classify", "decoder": "probabilities", "labels": ["red", "green", "blue"]}


def save(folder, name, proto, card=None, version=None):
    place = folder / name / (str(version) if version else "")
    place.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, place / "model.onnx")
    if card:
        (place / "model.json").write_text(json.dumps(card))


def picture(kind="JPEG", colour=(250, 120, 10), size=(40, 30)):
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return out.getvalue()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A running onnxd. `ready=False`: do not wait for the models."""

    def __init__(self, onnxd, folder, *flags, ready=True, env=None, log=None):
        self.port = free_port()
        self.url = f"127.0.0.1:{self.port}"
        self.log = log
        self.process = subprocess.Popen([onnxd, "serve", str(folder), "--port", str(self.port), *map(str, flags)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(log, "wb") if log else subprocess.DEVNULL, env={**os.environ, **(env or {})})
        if ready:
            self.wait("/v2/health/ready")

    def wait(self, path, seconds=120, headers=None):
        end = time.time() + seconds
        while time.time() < end and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", path, headers=headers)[0] == 200:
                    return
            time.sleep(0.005)
        raise AssertionError(f"{path} did not become 200")

    def ask(self, method, path, body=None, headers=None):
        """(status, headers by lower-case name, body)"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            c.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers or {})
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        finally:
            c.close()

    def json(self, method, path, body=None, headers=None):
        status, _, answer = self.ask(method, path, body, headers)
        return status, json.loads(answer)

    def connect(self):
        return Wire(self.port)

    def send(self, data):
        with self.connect() as w:
            w.send(data)
            return w.answer()

    def stop(self, by=signal.SIGTERM, seconds=30):
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Wire:
    """One connection, byte by byte."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.left = b""

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        """(status, headers, body) of the next answer; (0, {}, b"") when the connection ends without one."""
        while b"\r\n\r\n" not in self.left:
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                return 0, {}, b""
            self.left += piece
        head, _, rest = self.left.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(rest) < length:
            rest += self.socket.recv(65536)
        self.left = rest[length:]
        return int(lines[0].split()[1]), headers, rest[:length]

    def closed(self):
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def post(path, body, **headers):
    """A request's bytes; underscores in header names become dashes, None leaves Content-Length out."""
    headers = {"host": "x", "content_length": len(body), **headers}
    lines = [f"POST {path} HTTP/1.1"] + [f"{k.replace('_', '-')}: {v}" for k, v in headers.items() if v is not None]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def infer_json(name="x", kind="FP32", shape=(1, 4), data=(1, 2, 3, 4), **more):
    return {"inputs": [{"name": name, "datatype": kind, "shape": list(shape), "data": list(data)}], **more}
