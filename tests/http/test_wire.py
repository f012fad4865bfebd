"""What goes over the wire, byte by byte: framing, limits, the traps that particular clients set."""
import contextlib
import gzip
import json
import struct
import threading
import time
import zlib

import numpy as np
import pytest

import served
from served import infer_json, post

pytestmark = pytest.mark.timed

PATH = "/v2/models/identity/infer"
GOOD = json.dumps(infer_json()).encode()


def error_of(answer):
    status, headers, body = answer
    assert headers["content-type"] == "application/json"
    said = json.loads(body)
    assert set(said) == {"error"} and said["error"]
    return status


def binary(rows=1, **more):
    data = np.arange(rows * 4, dtype=np.float32).tobytes()
    head = json.dumps({"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}],
                       "parameters": {"binary_data_output": True}, **more}).encode()
    return head, data


# ---- framing


@pytest.mark.parametrize("lines", [
    b"content-length: %d\r\ncontent-length: %d" % (len(GOOD), len(GOOD)),
    b"content-length: %d\r\ncontent-length: 5" % len(GOOD),
    b"content-length: %d\r\ntransfer-encoding: chunked" % len(GOOD),
    b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"content-length: +%d" % len(GOOD),
    b"content-length: 0x10",
    b"content-length : %d" % len(GOOD),
    b"content-length: 1 2",
    b"content-length: 99999999999999999999",
    b"host: y\r\ncontent-length: %d" % len(GOOD),
])
def test_ambiguous_framing_is_refused_and_ends_the_connection(server, lines):
    with server.connect() as w:
        w.send(b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\n" + lines + b"\r\n\r\n" + GOOD)
        status = w.answer()[0]
        assert status in (0, 400, 413, 501) and w.closed()


def test_a_request_without_length_has_an_empty_body(server):
    with server.connect() as w:
        w.send(b"POST /v2/repository/index HTTP/1.1\r\nhost: x\r\n\r\n")
        status, _, body = w.answer()
        assert status == 200 and {"name": "add", "version": "1", "state": "READY"} in json.loads(body)
        w.send(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")  # and the connection goes on
        assert w.answer()[0] == 200


def test_chunked_bodies_are_taken(server):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (GOOD[:10], GOOD[10:11], GOOD[11:])) + b"0\r\n\r\n"
    with server.connect() as w:
        w.send(post(PATH, b"", content_length=None, transfer_encoding="chunked") + chunks)
        assert w.answer()[0] == 200


def test_requests_in_a_row_on_one_connection_are_answered_in_order(server):
    with server.connect() as w:
        w.send(b"".join(post(PATH, json.dumps(infer_json(id=str(k))).encode()) for k in range(20)))
        assert [json.loads(w.answer()[2])["id"] for k in range(20)] == [str(k) for k in range(20)]


def test_a_body_that_comes_byte_by_byte(server):
    with server.connect() as w:
        for b in post(PATH, GOOD):
            w.send(bytes([b]))
        assert w.answer()[0] == 200


def test_expect_100_continue_is_answered_before_the_body(server):
    with server.connect() as w:
        w.send(post(PATH, b"", content_length=len(GOOD), expect="100-continue"))
        assert w.answer()[0] == 100
        w.send(GOOD)
        assert w.answer()[0] == 200


def test_paths(server):
    assert server.ask("GET", "/v2/")[0] == 200
    assert server.ask("GET", "/v2/health/live/")[0] == 200
    assert server.ask("HEAD", "/v2")[2] == b""
    assert server.ask("GET", "/v2/models/%61dd")[0] == 200
    for path in ("/nothing", "/v2//models", "/v2/models/a/b/c/d/e/f", "/v3", "/v2/models", "/v2/models/..%2fadd"):
        assert error_of(server.ask("GET", path)) == 404, path
    for path in ("/v2/models/%zz", "/v2/models/%ff", "/v2/models/a%00"):
        assert error_of(server.ask("GET", path)) == 400, path
    assert error_of(server.ask("GET", "/v2/models/add/versions/x")) == 400
    assert error_of(server.ask("GET", "/v2/models/add/versions/2")) == 404
    status, headers, _ = server.ask("DELETE", "/v2/health/live")
    assert status == 405 and headers["allow"] == "GET, HEAD"
    assert server.ask("GET", PATH)[1]["allow"] == "POST"
    assert error_of(server.ask("POST", "/v2/repository/other/index")) == 501


# ---- limits


@pytest.fixture(scope="module")
def tight(onnxd, models):
    with served.Server(onnxd, models, "--max-body", 100000, "--max-header", 2000, "--max-inflate-ratio", 20, "--max-json-depth", 10) as s:
        yield s


def test_a_body_above_the_bound_is_413_and_the_connection_goes_on(tight):
    with tight.connect() as w:
        w.send(post(PATH, b"x" * 150000))
        assert error_of(w.answer()) == 413
        w.send(post(PATH, GOOD))
        assert w.answer()[0] == 200
    with tight.connect() as w:
        w.send(post(PATH, b"", content_length=100000000000))
        assert error_of(w.answer()) == 413
    with tight.connect() as w:
        w.send(post(PATH, b"", content_length=None, transfer_encoding="chunked") + b"186a1\r\n" + b"x" * 100001 + b"\r\n0\r\n\r\n")
        assert error_of(w.answer()) == 413


def test_headers_above_the_bound_are_431(tight):
    assert tight.send(b"GET /v2 HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 3000 + b"\r\n\r\n")[0] == 431


def test_nesting_and_inflating_are_bounded(tight):
    assert error_of(tight.ask("POST", PATH, b"[" * 50000)) == 400
    deep = json.dumps({"deep": eval("[" * 12 + "]" * 12), **infer_json()})
    assert error_of(tight.ask("POST", PATH, deep)) == 400
    bomb = gzip.compress(b" " * 50000000)
    assert error_of(tight.ask("POST", PATH, bomb, {"Content-Encoding": "gzip"})) == 413


def test_models_runs_and_requests_share_a_budget(own):
    s = own({"identity": served.identity(1, ["n", 4]), "colours": dict(served.small_models())["colours"]}, "--memory-budget", "40m", "--threads", 1)
    used = lambda: int(float(s.ask("GET", "/metrics")[2].decode().split("\nonnxd_memory_used_bytes ")[1].split()[0]))  # noqa: E731
    head, data = binary(1600000)  # 25 MB in and 25 MB out: more than there is
    for _ in range(3):
        answer = s.send(post(PATH, head + data, inference_header_content_length=len(head)))
        assert error_of(answer) == 503
    wires = [s.connect() for _ in range(6)]
    for w in wires:  # bodies that do not come count as far as they have come
        w.send(post(PATH, b"", content_length=60000000))
        w.send(b"x" * 5000000)
    for _ in range(200):
        if used() > 20000000:
            break
        time.sleep(0.01)
    assert 20000000 < used() <= 42000000
    for w in wires:
        w.socket.close()
    head, data = binary(10)
    for _ in range(200):
        if used() < 2000000:
            break
        time.sleep(0.01)
    assert used() < 2000000 and s.send(post(PATH, head + data, inference_header_content_length=len(head)))[0] == 200
    refused = s.ask("GET", "/metrics")[2].decode().split('onnxd_rejected_total{reason="memory"} ')[1].split()[0]
    assert int(refused) >= 3


def test_connections_above_the_bound_are_503_at_once(own):
    s = own({"identity": served.identity(1, ["n", 4])}, "--max-connections", 8)
    for _ in range(100):  # the one that asked for readiness may not be gone yet
        if '\nonnxd_connections 1\n' in s.ask("GET", "/metrics")[2].decode():
            break
    time.sleep(0.05)
    wires = [s.connect() for _ in range(20)]
    begin = time.time()
    for w in wires[8:]:
        status, headers, body = w.answer()  # also to those that ask nothing
        assert status == 503 and int(headers["retry-after"]) >= 1 and json.loads(body)["error"] and w.closed()
    assert time.time() - begin < 1
    for w in wires[:8]:
        w.send(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    assert [w.answer()[0] for w in wires[:8]].count(200) >= 7
    for w in wires:
        w.socket.close()
    s.wait("/v2/health/live")
    page = s.ask("GET", "/metrics")[2].decode()
    assert int(page.split('onnxd_rejected_total{reason="connections"} ')[1].split()[0]) >= 12


@pytest.mark.parametrize("request_, statuses", [
    (b"GET /v2 HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 500000 + b"\r\n\r\n", (431, 413)),
    (b"GET /" + b"a" * 500000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", (414, 431)),
    (b"GET /v2 HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x-%d: y\r\n" % k for k in range(50000)) + b"\r\n", (431, 413)),
    (b"GET /v2 HTTP/1.1\r\n\r\n", (400,)),
    (b"GET /v2 HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n", (400,)),
    (b"GET /v2 HTTP/0.9\r\nhost: x\r\n\r\n", (505, 400)),
    (b"GET /v2 HTTP/3.0\r\nhost: x\r\n\r\n", (505, 400)),
    (b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", (400,)),
    (b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", (400, 413)),
    (b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n", (400, 413)),
    (b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n", (400,)),
])
def test_what_is_no_http_is_answered_in_json_too(server, request_, statuses):
    with server.connect() as w:
        with contextlib.suppress(OSError):  # it may answer and close before it has all
            w.send(request_)
        assert error_of(w.answer()) in statuses and w.closed()


def test_slow_and_silent_clients_are_dropped(own):
    s = own({"identity": served.identity(1, ["n", 4])}, "--idle-timeout", 1, "--receive-timeout", 1)
    with s.connect() as idle, s.connect() as slow, s.connect() as trickle:
        slow.send(post(PATH, b"", content_length=1000))
        begin = time.time()
        with pytest.raises(OSError):
            for _ in range(100):  # each byte shows life, but the whole takes too long
                trickle.send(b"G")
                time.sleep(0.05)
        assert idle.closed() and slow.closed() and time.time() - begin < 4


# ---- binary tensors


def test_binary_in_binary_out(server):
    head, data = binary(2)
    status, headers, body = server.send(post(PATH, head + data, inference_header_content_length=len(head)))
    n = int(headers["inference-header-content-length"])
    said = json.loads(body[:n])
    assert status == 200 and body[n:] == data and "data" not in said["outputs"][0]
    assert said["outputs"][0]["parameters"] == {"binary_data_size": 32} and headers["content-type"] == "application/octet-stream"


def test_json_outputs_have_no_parameters_and_flat_data(server):
    status, said = server.json("POST", PATH, infer_json(shape=(2, 4), data=[[1, 2, 3, 4], [5, 6, 7, 8]]))
    assert status == 200 and said["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2, 4], "data": [1, 2, 3, 4, 5, 6, 7, 8]}]
    assert said["model_version"] == "1" and "id" not in said


def test_a_header_length_of_the_whole_body_is_all_json(server):
    assert server.send(post(PATH, GOOD, Inference_Header_Content_Length=len(GOOD)))[0] == 200


def test_raw_binary_request(server):
    data = np.arange(12, dtype=np.float32).tobytes()
    status, headers, body = server.send(post(PATH, data, inference_header_content_length=0))
    n = int(headers["inference-header-content-length"])
    assert status == 200 and body[n:] == data and json.loads(body[:n])["outputs"][0]["shape"] == [3, 4]
    assert error_of(server.send(post(PATH, data[:-1], inference_header_content_length=0))) == 400
    assert error_of(server.send(post("/v2/models/add/infer", data, inference_header_content_length=0))) == 400


@pytest.mark.parametrize("change", ["short", "long", "size", "both", "header", "negative", "words"])
def test_binary_parts_must_add_up(server, change):
    head, data = binary(2)
    length = len(head)
    if change == "short":
        data = data[:-1]
    elif change == "long":
        data += b"\0"
    elif change == "size":
        head = head.replace(b": 32}", b": 28}")
    elif change == "both":
        head = head.replace(b'"parameters": {"binary_data_size"', b'"data": [1], "parameters": {"binary_data_size"')
        length = len(head)
    elif change == "header":
        length = len(head) + len(data) + 1
    elif change == "negative":
        length = -1
    else:
        length = "ten"
    assert error_of(server.send(post(PATH, head + data, inference_header_content_length=length))) == 400


def test_binary_text_lengths_are_checked(server):
    for data in (struct.pack("<I", 5) + b"abc", struct.pack("<I", 2) + b"abc", b"\1", struct.pack("<I", 0xffffffff)):
        head = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}]}).encode()
        assert error_of(server.send(post("/v2/models/text/infer", head + data, inference_header_content_length=len(head)))) == 400


@pytest.mark.parametrize("coding, pack", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_lengths_are_those_before_compression(server, coding, pack):
    head, data = binary(1)
    status, headers, body = server.send(post(PATH, pack(head + data), content_encoding=coding, inference_header_content_length=len(head)))
    assert status == 200 and body.endswith(data)
    for bad in (pack(head + data)[:-3], pack(head + data) + b"x", b"", b"hello"):
        assert error_of(server.send(post(PATH, bad, content_encoding=coding, inference_header_content_length=len(head)))) == 400
    assert error_of(server.send(post(PATH, GOOD, content_encoding="br"))) == 415


def test_replies_are_compressed_when_asked_and_worth_it(server):
    head, data = binary(5000)
    tensors = post(PATH, head + data, inference_header_content_length=len(head))
    assert "content-encoding" not in server.send(tensors)[1]
    ask = lambda what: server.send(post(PATH, head + data, inference_header_content_length=len(head), accept_encoding=what))  # noqa: E731
    assert "content-encoding" not in ask("gzip, deflate")[1], "a client that names both with every request does not want tensors packed"
    for coding, unpack in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        _, headers, body = ask(coding)
        plain = unpack(body)
        assert headers["content-encoding"] == coding and plain.endswith(data)
        assert json.loads(plain[:int(headers["inference-header-content-length"])])["model_name"] == "identity"
    assert "content-encoding" not in ask("gzip;q=0")[1]
    big = json.dumps(infer_json(shape=(5000, 4), data=[0.5] * 20000)).encode()
    _, headers, body = server.send(post(PATH, big, accept_encoding="gzip, deflate"))
    assert headers["content-encoding"] == "gzip" and len(json.loads(gzip.decompress(body))["outputs"][0]["data"]) == 20000
    assert "content-encoding" not in server.send(post(PATH, GOOD, accept_encoding="gzip"))[1]


# ---- what clients look at


def test_the_id_is_echoed_exactly(server):
    for given in ("12345", "", 'a"\\\n', "é\U0001F600"):
        assert server.json("POST", PATH, infer_json(id=given))[1]["id"] == given


def test_numbers_that_are_not_finite_are_null(server):
    status, _, body = server.ask("POST", PATH, '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[null,NaN,-Infinity,1]}]}')
    assert status == 200 and json.loads(body, parse_constant=pytest.fail)["outputs"][0]["data"] == [None, None, None, 1]


def test_data_may_come_before_what_explains_it(server):
    body = '{"inputs":[{"data":[1,2,3,4],"shape":[1,4],"datatype":"FP32","name":"x"}]}'
    assert json.loads(server.ask("POST", PATH, body)[2])["outputs"][0]["data"] == [1, 2, 3, 4]


def test_headers_of_a_request_come_back(server):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    _, headers, _ = server.ask("POST", PATH, GOOD, {"X-Request-Id": "mine-1", "traceparent": trace})
    assert headers["x-request-id"] == "mine-1" and headers["traceparent"][:36] == trace[:36] and headers["traceparent"] != trace
    for name in ("queue", "decode", "compute", "postprocess"):
        assert f"{name};dur=" in headers["server-timing"]
    _, headers, _ = server.ask("POST", PATH, GOOD, {"X-Request-Id": "x y"})
    assert len(headers["x-request-id"]) == 32 and "traceparent" not in headers


@pytest.mark.parametrize("body", [
    b"", b"[]", b"null", b"{", b'{"inputs":[]}', b'{"inputs":[{}]}', GOOD + b"x",
    GOOD.replace(b'"FP32"', b'"FP64"'), GOOD.replace(b'"FP32"', b'"F"'), GOOD.replace(b"[1, 4]", b"[1, 5]"), GOOD.replace(b"[1, 4]", b"[4]"),
    GOOD.replace(b"[1, 4]", b"[-1, 4]"), GOOD.replace(b'"x"', b'"z"'), GOOD.replace(b"}]}", b'}],"parameters":{"triton_x":1}}'),
    GOOD.replace(b"}]}", b'}],"parameters":{"timeout":-1}}'), GOOD.replace(b"}]}", b'}],"parameters":{"a":[]}}'),
    GOOD.replace(b"}]}", b'}],"outputs":[{"name":"y"},{"name":"y"}]}'), GOOD.replace(b"}]}", b'}],"outputs":[{"name":"n"}]}'),
])
def test_bad_requests_are_400(server, body):
    assert error_of(server.ask("POST", PATH, body)) == 400


def test_a_deadline_that_passes_is_503(own):
    s = own({"slow": served.slow()})
    body = infer_json(shape=(1, 256, 256), data=[0] * 256 * 256, parameters={"timeout": 1})
    body = json.dumps(body)
    others = [threading.Thread(target=s.ask, args=("POST", "/v2/models/slow/infer", json.dumps({**json.loads(body), "parameters": {}})))
              for _ in range(8)]
    for t in others:
        t.start()
    time.sleep(0.1)
    answers = [s.ask("POST", "/v2/models/slow/infer", body)[0] for _ in range(3)]
    for t in others:
        t.join()
    assert 503 in answers


# ---- pictures


def test_predict_takes_every_form(server):
    import base64
    jpeg, png = served.picture(), served.picture("PNG", (0, 0, 255))
    path = "/v2/models/colours/predict"
    one = server.json("POST", path, jpeg, {"Content-Type": "image/jpeg"})
    assert one[0] == 200 and one[1]["classes"][0]["label"] == "red" and one[1]["model_name"] == "colours"
    assert server.json("POST", path + "?top_k=1", png, {"Content-Type": "image/png"})[1]["classes"][0]["label"] == "blue"
    assert len(server.json("POST", path + "?top_k=1", png)[1]["classes"]) == 1
    text = base64.b64encode(jpeg).decode()
    for image in (text, {"b64": text}, "data:image/jpeg;base64," + text):
        assert server.json("POST", path, {"image": image}, {"Content-Type": "application/json"}) == one
    status, said = server.json("POST", path, {"images": [text, base64.b64encode(png).decode()], "parameters": {"top_k": 1}},
                               {"Content-Type": "application/json"})
    assert status == 200 and [r["classes"][0]["label"] for r in said["results"]] == ["red", "blue"] and len(said["results"][0]["classes"]) == 1
    parts = b"".join(b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % p for p in (
        (b"a", b'; filename="a.jpg"\r\nContent-Type: image/jpeg', jpeg), (b"top_k", b"", b"1"), (b"b", b'; filename="b.png"', png))) + b"--b--\r\n"
    status, said = server.json("POST", path, parts, {"Content-Type": "multipart/form-data; boundary=b"})
    assert status == 200 and [r["classes"][0]["label"] for r in said["results"]] == ["red", "blue"]
    _, headers, _ = server.ask("POST", path, jpeg)
    assert all(f"{name};dur=" in headers["server-timing"] for name in ("queue", "decode", "preprocess", "compute", "postprocess"))


@pytest.mark.parametrize("kind, body, status", [
    ("image/jpeg", b"", 400), ("image/jpeg", b"hello", 415), ("application/pdf", served.picture(), 415), ("text/plain", b"x", 415),
    ("image/jpeg", served.picture()[:200], 400), ("application/json", b"{}", 400), ("application/json", b'{"image":"%%%"}', 400),
    ("application/json", b'{"images":[]}', 400), ("application/json", b'{"picture":""}', 400), ("multipart/form-data", b"x", 400),
    ("multipart/form-data; boundary=b", b"--b--\r\n", 400), ("multipart/form-data; boundary=b", b"--b\r\n\r\nabc", 400),
    ("multipart/form-data; boundary=b", b"--b", 400), ("multipart/form-data; boundary=b", b"nothing", 400),
])
def test_bad_pictures_are_refused(server, kind, body, status):
    assert error_of(server.ask("POST", "/v2/models/colours/predict", body, {"Content-Type": kind})) == status


def test_queries_are_checked(server):
    for query in ("top_k=0", "top_k=x", "score_threshold=2", "mask=ascii", "tpo_k=3", "top_k=%zz"):
        assert error_of(server.ask("POST", "/v2/models/colours/predict?" + query, served.picture())) == 400
    assert error_of(server.ask("POST", "/v2/models/add/predict", served.picture())) == 400
