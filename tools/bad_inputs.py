"""Try bad inputs on a running onnxd and on its loader, and print what each got as Markdown tables.

    python3 tools/bad_inputs.py [--onnxd build/onnxd] [--models demo]

A server is started on a free port with a small model made here, with --models also with those (the
first of them takes the pictures). Every bad input must be refused with a 4xx (501 or 503 where said)
and a JSON {"error": ...}, and a bad model file with exit code 1 and one line of message; after each
the server must still answer a good request. Exit code 1 when one does not. Needs numpy, onnx, pillow."""
import argparse
import contextlib
import http.client
import io
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

# ---- the small model: the mean of each colour of a picture, as three classes


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def small_model():
    nodes = [helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]),
             helper.make_node("Flatten", ["mean"], ["scores"])]
    graph = helper.make_graph(nodes, "small", [value("pixels", ["n", 3, 32, 32])], [value("scores", ["n", 3])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SMALL_CARD = {"task": "classify", "labels": ["red", "green", "blue"]}

# ---- pictures


def encode(kind, size=(64, 48), mode="RGB", **options):
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def jpeg_saying(width, height):
    """A small JPEG whose frame header claims other dimensions."""
    data = bytearray(encode("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5:at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_saying(width, height, bits=8, colour=2, body=None):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) +
            png_chunk(b"IDAT", body if body is not None else zlib.compress(bytes(1000))) + png_chunk(b"IEND", b""))


def flipped(data, start, count):
    out = bytearray(data)
    rng = np.random.default_rng(2)
    for at in rng.integers(start, len(out) - 2, count):
        out[at] ^= 0x5a
    return bytes(out)


def zeros_png(side):
    """A file of kilobytes that is `side` squared black pixels."""
    pack = zlib.compressobj(9)
    row = bytes(1 + side * 3)
    return png_saying(side, side, body=b"".join([pack.compress(row) for _ in range(side)] + [pack.flush()]))


def bad_pictures():
    jpeg, png = encode("JPEG"), encode("PNG")
    yield "no bytes", b""
    yield "one byte", b"\xff"
    yield "text", b"this is not a picture\n" * 50
    yield "JPEG's first two bytes", jpeg[:2]
    yield "JPEG cut in its header", jpeg[:100]
    yield "JPEG of 65500 x 65500 in its header", jpeg_saying(65500, 65500)
    yield "JPEG of 0 x 0 in its header", jpeg_saying(0, 0)
    yield "JPEG with all tables overwritten", jpeg[:20] + bytes(len(jpeg) - 20)
    yield "GIF", encode("GIF")
    yield "PNG's signature only", png[:8]
    yield "PNG cut in half", png[:len(png) // 2]
    yield "PNG with a wrong checksum", png[:20] + bytes([png[20] ^ 1]) + png[21:]
    yield "PNG of 2147483647 x 2147483647 in its header", png_saying(2**31 - 1, 2**31 - 1)
    yield "PNG of 0 x 5 in its header", png_saying(0, 5)
    yield "PNG of 100000 x 100000 in its header", png_saying(100000, 100000)
    yield "PNG bomb: 20000 x 20000 black pixels in %d kB" % (len(zeros_png(20000)) // 1000), zeros_png(20000)
    yield "PNG with too few pixels", png_saying(64, 64, body=zlib.compress(bytes(10)))
    yield "PNG with an impossible colour type", png_saying(4, 4, colour=5)
    yield "PNG whose data are no zlib stream", png_saying(8, 8, body=b"\x00" * 64)


# Damage that a decoder may well see through: an answer of 200 is as good as a refusal.
def damaged_pictures():
    jpeg = encode("JPEG", (200, 150))
    yield "JPEG cut in half", jpeg[:len(jpeg) // 2]
    yield "JPEG with forty bytes flipped in its data", flipped(jpeg, 700, 40)
    yield "JPEG with rubbish behind it", jpeg + os.urandom(5000)
    yield "JPEG with a broken EXIF block", jpeg[:2] + b"\xff\xe1\x00\x10Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff" + jpeg[2:]
    yield "PNG with forty bytes flipped in its data", flipped(encode("PNG"), 60, 40)


# ---- tensors as JSON


def infer(**changes):
    one = {"name": "pixels", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": [0.5] * 3072}
    one.update(changes)
    return json.dumps({"inputs": [one]}).encode()


def bad_tensors():
    yield "no bytes", b""
    yield "text", b"hello"
    yield "an array", b"[]"
    yield "null", b"null"
    yield "cut JSON", infer()[:500]
    yield "100000 open brackets", b"[" * 100000
    yield "100000 nested objects", b'{"a":' * 100000
    yield "no inputs", b"{}"
    yield "inputs: a number", b'{"inputs": 3}'
    yield "inputs: an array of numbers", b'{"inputs": [3]}'
    yield "an input twice", json.dumps({"inputs": json.loads(infer())["inputs"] * 2}).encode()
    yield "an unknown input", infer(name="pixel")
    yield "no name", b'{"inputs": [{"datatype": "FP32", "shape": [1], "data": [1]}]}'
    yield "an unknown datatype", infer(datatype="FP33")
    yield "another datatype than the model's", infer(datatype="INT64", data=[1] * 3072)
    yield "another rank", infer(shape=[3072])
    yield "another extent", infer(shape=[1, 3, 16, 64])
    yield "a negative extent", infer(shape=[-1, 3, 32, 32])
    yield "extents whose product overflows", infer(shape=[2**40, 3, 2**30, 32])
    yield "an extent beyond 64 bits", infer(shape=[10**30, 3, 32, 32])
    yield "a shape of 1000 extents", infer(shape=[1] * 1000)
    yield "an extent that is text", infer(shape=["1", 3, 32, 32])
    yield "an extent of 1.5", infer(shape=[1.5, 3, 32, 32])
    yield "too few numbers", infer(data=[0.5] * 3071)
    yield "too many numbers", infer(data=[0.5] * 3073)
    yield "no data", json.dumps({"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 3, 32, 32]}]}).encode()
    yield "text among the numbers", infer(data=[0.5] * 3071 + ["x"])
    yield "an object among the numbers", infer(data=[0.5] * 3071 + [{}])
    yield "bytes that are no UTF-8", infer().replace(b"pixels", b"pix\xff\xfels")
    yield "an unknown output", json.dumps({**json.loads(infer()), "outputs": [{"name": "nothing"}]}).encode()


# ---- the wire


def raw_requests(path):
    body = b"0123456789"
    yield "rubbish in place of a request", b"\x00\x01\x02\x03\r\n\r\n"
    yield "a method that nobody knows", b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "Content-Length: -1", b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" % path
    yield "Content-Length: text", b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n" % path
    yield "Content-Length: 100 GB", (b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
                                     b"Content-Length: 100000000000\r\n\r\n" % path) + body
    yield "chunks that are none", (b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
                                   b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n" % path)
    yield "a path of 100 kB", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "a header of 1 MB", b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 1000000 + b"\r\n\r\n"
    yield "10000 headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 10000 + b"\r\n"


def bad_requests(name):
    """(what, method, path, headers, body)"""
    predict, jpeg = f"/v2/models/{name}/predict", encode("JPEG")
    picture = {"Content-Type": "image/jpeg"}
    yield "an unknown path", "GET", "/nothing/here", {}, None
    yield "an unknown model", "POST", "/v2/models/nobody/predict", picture, jpeg
    yield "a version that is not there", "POST", f"/v2/models/{name}/versions/99/predict", picture, jpeg
    yield "a model's name that climbs", "GET", "/v2/models/..%2f..%2fetc%2fpasswd", {}, None
    yield "a percent sign without digits", "GET", "/v2/models/%zz", {}, None
    yield "GET where POST is wanted", "GET", predict, {}, None
    yield "DELETE", "DELETE", predict, {}, None
    yield "a picture as application/pdf", "POST", predict, {"Content-Type": "application/pdf"}, jpeg
    yield "multipart without a boundary", "POST", predict, {"Content-Type": "multipart/form-data"}, jpeg
    for query in ("top_k=0", "top_k=-1", "top_k=many", "top_k=99999999999999999999", "score_threshold=2",
                  "score_threshold=x", "iou_threshold=-1", "max_detections=-5", "mask=ascii", "tpo_k=3"):
        yield f"query {query}", "POST", f"{predict}?{query}", picture, jpeg


# ---- model files


def tensor(name, dims, raw, kind=TensorProto.FLOAT):
    return TensorProto(name=name, data_type=kind, dims=dims, raw_data=raw)


def external(location, offset="0", length="16"):
    t = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", offset), ("length", length)):
        t.external_data.add(key=key, value=text)
    return t


def add_model(initializer=None, nodes=None, opset=17, inputs=None, outputs=None):
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"], name="plus")]
    inputs = inputs if inputs is not None else [value("x", [4])]
    outputs = outputs if outputs is not None else [value("y", [4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [initializer] if initializer else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def field(number, body):
    """A length-delimited protobuf field."""
    length, size = b"", len(body)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + body


def nested_ifs(depth):
    """Written byte by byte: the Python library refuses to make such a model."""
    graph = b""
    for _ in range(depth):
        branch = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"  # type: GRAPH
        graph = field(1, field(1, b"c") + field(2, b"y") + field(4, b"If") + field(5, branch)) + field(2, b"g")
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")  # IR 8, opset 17


def recursive_function():
    call = helper.make_node("Again", ["x"], ["y"], domain="own")
    model = add_model(nodes=[call])
    model.functions.append(helper.make_function("own", "Again", ["x"], ["y"], [call], [helper.make_opsetid("own", 1)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def attribute_twice():
    softmax = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    softmax.attribute.append(helper.make_attribute("axis", 0))
    return add_model(nodes=[softmax])


def bad_models():
    good = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    whole = add_model(good).SerializeToString()
    big = add_model(numpy_helper.from_array(np.zeros(100000, np.float32), "w")).SerializeToString()
    node = helper.make_node
    yield "no bytes", b""
    yield "text", b"this is not a model\n" * 20
    yield "random bytes", np.random.default_rng(3).bytes(5000)
    yield "cut in half", big[:len(big) // 2]
    yield "cut by one byte", whole[:-1]
    yield "no graph", onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
    yield "no opset", onnx.ModelProto(ir_version=8, graph=add_model(good).graph)
    yield "opset 9999", add_model(good, opset=9999)
    yield "weights missing: the value has no source", add_model()
    yield "weights missing: the external file is not there", add_model(external("weights.bin"))
    yield "external data at ../../../etc/passwd", add_model(external("../../../etc/passwd"))
    yield "external data at /etc/passwd", add_model(external("/etc/passwd"))
    yield "external data beyond the file's end", add_model(external("model.onnx", "1000000", "16"))
    yield "external data with an offset that overflows", add_model(external("model.onnx", str(2**64 - 8), "16"))
    yield "external data with a negative length", add_model(external("model.onnx", "0", "-16"))
    yield "an initializer with too few bytes", add_model(tensor("w", [4], bytes(12)))
    yield "an initializer with too many bytes", add_model(tensor("w", [4], bytes(20)))
    yield "an initializer of negative extent", add_model(tensor("w", [-4], bytes(16)))
    yield "an initializer whose size overflows", add_model(tensor("w", [2**40, 2**40], bytes(16)))
    yield "an initializer of 10^15 elements and no bytes", add_model(tensor("w", [10**15], b""))
    yield "an initializer of rank 100", add_model(tensor("w", [1] * 100, bytes(4)))
    yield "an initializer of unknown type", add_model(tensor("w", [4], bytes(16), 99))
    yield "an unknown operator, and another", add_model(good, nodes=[
        node("Frobnicate", ["x"], ["a"]), node("Defenestrate", ["a", "w"], ["y"])])
    yield "an unknown domain", add_model(good, nodes=[node("Add", ["x", "w"], ["y"], domain="com.example")])
    yield "a cycle", add_model(good, nodes=[node("Add", ["x", "b"], ["a"]), node("Add", ["a", "w"], ["b"]),
                                           node("Add", ["a", "b"], ["y"])])
    yield "a node that feeds itself", add_model(good, nodes=[node("Add", ["y", "w"], ["y"])])
    yield "a value made twice", add_model(good, nodes=[node("Add", ["x", "w"], ["y"]), node("Mul", ["x", "w"], ["y"])])
    yield "an output that nobody makes", add_model(good, outputs=[value("z", [4])])
    yield "too few inputs to a node", add_model(good, nodes=[node("Add", ["x"], ["y"])])
    yield "too many inputs to a node", add_model(good, nodes=[node("Relu", ["x", "w", "x"], ["y"])])
    yield "an attribute of the wrong kind", add_model(nodes=[node("Softmax", ["x"], ["y"], axis="last")])
    yield "a list where a number belongs", add_model(nodes=[node("Softmax", ["x"], ["y"], axis=[0])])
    yield "kernel_shape as a float", add_model(nodes=[node("MaxPool", ["x"], ["y"], kernel_shape=2.0)],
                                               inputs=[value("x", [1, 1, 4, 4])], outputs=[value("y", [1, 1, 3, 3])])
    yield "an attribute that the operator lacks", add_model(nodes=[node("Softmax", ["x"], ["y"], axes=0)])
    yield "an attribute twice", attribute_twice()
    yield "no kernel_shape", add_model(nodes=[node("MaxPool", ["x"], ["y"])], inputs=[value("x", [1, 1, 4, 4])])
    yield "too many outputs of a node", add_model(nodes=[node("Relu", ["x"], ["y", "z"])])
    yield "an axis out of range", add_model(nodes=[node("Softmax", ["x"], ["y"], axis=7)])
    yield "shapes that do not fit", add_model(good, inputs=[value("x", [5])], outputs=[value("y", [5])])
    yield "a function that calls itself", recursive_function()
    yield "2000 If nodes inside one another", nested_ifs(2000)


def bad_cards():
    yield "not JSON", "{task: classify}"
    yield "an array", "[]"
    yield "an unknown key", json.dumps({**SMALL_CARD, "colour": "red"})
    yield "an unknown task", json.dumps({"task": "juggle"})
    yield "labels that are a number", json.dumps({**SMALL_CARD, "labels": 3})
    yield "a labels file that climbs", json.dumps({**SMALL_CARD, "labels": "../../../etc/passwd"})
    yield "a labels file that is not there", json.dumps({**SMALL_CARD, "labels": "nowhere.txt"})
    yield "100000 open brackets", "[" * 100000


# ---- trying them


class Server:
    def __init__(self, program, models):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([program, "serve", str(models), "--port", str(self.port)], stderr=self.log,
                                        stdout=self.log, stdin=subprocess.DEVNULL)
        deadline = time.time() + 60
        while time.time() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, body = self.ask("POST", "/v2/repository/index")
                states = [m.get("state") for m in json.loads(body)] if status == 200 else []
                if states and not set(states) & {None, "UNKNOWN", "LOADING"}:  # the broken one never gets ready
                    return
            time.sleep(0.05)
        raise SystemExit("the server did not become ready:\n" + self.said()[-2000:])

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def ask(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def send(self, data):
        """Raw bytes; the first line and body of what comes back before the connection closes or 3 s pass."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=3) as s:
            got = b""
            with contextlib.suppress(OSError):
                s.sendall(data)
            with contextlib.suppress(OSError):
                while piece := s.recv(65536):
                    got += piece
                    if b"\r\n\r\n" in got and len(got) > 4096:
                        break
        if not got:
            return 0, b""
        head, _, body = got.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def memory_mb(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "killed: it did not stop in 30 s"


def shown(body):
    """The error text of a reply, or None when it is not {"error": text}."""
    with contextlib.suppress(ValueError):
        said = json.loads(body)
        if isinstance(said, dict) and isinstance(said.get("error"), str):
            return said["error"]
    return None


class Report:
    def __init__(self):
        self.wrong = []

    def head(self, title, *columns):
        print(f"\n### {title}\n\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)

    def line(self, fine, *cells):
        cells = [str(c).replace("|", "\\|").replace("\n", " ")[:200] for c in cells]
        print("| " + " | ".join(cells) + (" |" if fine else " | **wrong** |"), flush=True)
        if not fine:
            self.wrong.append(cells[0])


def still_well(server, name):
    status, _ = server.ask("POST", f"/v2/models/{name}/predict", encode("JPEG"), {"Content-Type": "image/jpeg"})
    return status == 200


def try_server(server, name, report):
    predict = f"/v2/models/{name}/predict"

    def refuse(title, cases, also=()):
        report.head(title, "input", "status", "message")
        for what, ask in cases:
            try:
                status, body = ask()
            except (OSError, http.client.HTTPException) as e:
                status, body = 0, str(e).encode()
            text = shown(body)
            fine = (400 <= status < 500 and text is not None) or status in also
            report.line(fine and still_well(server, name), what, status or "closed", text or body[:80])

    def post(path, kind, body):
        return lambda: server.ask("POST", path, body, {"Content-Type": kind})

    refuse("Pictures to /predict", [(w, post(predict, "image/jpeg", b)) for w, b in bad_pictures()])
    refuse("Damaged pictures, where an answer is as good as a refusal",
           [(w, post(predict, "image/jpeg", b)) for w, b in damaged_pictures()], also=(200,))
    refuse("Tensors to /infer", [(w, post("/v2/models/small/infer", "application/json", b)) for w, b in bad_tensors()])
    refuse("Requests", [(w, lambda m=m, p=p, b=b, h=h: server.ask(m, p, b, h)) for w, m, p, h, b in bad_requests(name)])
    # libmicrohttpd answers what is no HTTP by itself or closes the connection
    refuse("Raw bytes on the socket", [(w, lambda d=d: server.send(d)) for w, d in raw_requests(predict.encode())],
           also=(0, *range(400, 500), 501))


def run_quietly(args):
    try:
        done = subprocess.run(args, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        return done.returncode, (done.stderr or done.stdout).decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        return "timeout", ""


def try_models(program, folder, report):
    report.head("Model files to `onnxd inspect`", "model", "exit code", "message")
    for what, model in bad_models():
        path = folder / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        code, said = run_quietly([program, "inspect", str(path)])
        report.line(code == 1 and said != "", what, code, said.replace(str(folder), "DIR"))


def try_cards(program, folder, report):
    picture = folder / "picture.jpg"
    picture.write_bytes(encode("JPEG"))
    onnx.save(small_model(), folder / "model.onnx")
    report.head("Model cards to `onnxd predict`", "model.json", "exit code", "message")
    for what, card in bad_cards():
        (folder / "model.json").write_text(card)
        code, said = run_quietly([program, "predict", str(folder / "model.onnx"), str(picture)])
        report.line(code == 1 and said != "", what, code, said.replace(str(folder), "DIR"))


def repository(folder, models):
    """A folder to serve: the small model, a broken one, and links to the given ones."""
    (folder / "small").mkdir()
    onnx.save(small_model(), folder / "small" / "model.onnx")
    (folder / "small" / "model.json").write_text(json.dumps(SMALL_CARD))
    (folder / "broken").mkdir()
    (folder / "broken" / "model.onnx").write_bytes(b"not a model")
    for path in sorted(pathlib.Path(models).iterdir()) if models else []:
        if path.is_dir() and any(path.rglob("*.onnx")):
            shutil.copytree(path, folder / path.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnxd", default="build/onnxd")
    parser.add_argument("--models", help="a folder of models to serve as well")
    args = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for name in ("served", "models", "cards"):
            (scratch / name).mkdir()
        try_models(args.onnxd, scratch / "models", report)
        try_cards(args.onnxd, scratch / "cards", report)
        repository(scratch / "served", args.models)
        server = Server(args.onnxd, scratch / "served")
        before = server.memory_mb()
        names = sorted(p.name for p in (scratch / "served").iterdir() if p.name not in ("small", "broken"))
        try:
            try_server(server, names[0] if names else "small", report)
            status, body = server.ask("GET", "/v2/models/broken")
            report.head("A broken model in the served folder", "asked", "status", "message")
            report.line(status in (400, 404, 503) and shown(body) is not None, "its metadata", status, shown(body) or body)
            after = server.memory_mb()
        finally:
            code = server.stop()
        print(f"\nThe server's memory: {before:.0f} MB before, {after:.0f} MB after; its exit code on SIGTERM: {code}.")
        if code != 0:
            report.wrong.append("exit code")
            print(server.said()[-1500:])
    print(f"\n{len(report.wrong)} wrong" + (": " + "; ".join(report.wrong) if report.wrong else ""))
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
