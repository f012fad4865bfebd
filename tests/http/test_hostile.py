"""Clients, files and disks that mean no good."""
import contextlib
import json
import os
import shutil
import socket
import struct
import time
import zlib

import pytest

import served
from served import infer_json, post

PATH = "/v2/models/identity/infer"
GOOD = json.dumps(infer_json()).encode()


def alive(s):
    assert s.json("POST", PATH, infer_json())[1]["outputs"][0]["data"] == [1, 2, 3, 4]


def test_requests_in_absolute_form_and_of_http_1_0(server):
    for target in (b"http://example.org/v2/health/live", b"HTTP://x:80/v2/health/live?a=b"):
        assert server.send(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")[0] == 200
    for target in (b"http://example.org", b"http://example.org?x"):
        assert server.send(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")[0] in (200, 400, 404)
    with server.connect() as w:
        w.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        assert w.answer()[0] == 200 and w.closed()
    with server.connect() as w:
        w.send(b"POST " + PATH.encode() + b" HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD)
        assert w.answer()[0] == 200 and w.closed()


def test_methods(server):
    for method in (b"OPTIONS", b"TRACE", b"DELETE", b"PATCH", b"PUT", b"FOO", b"A" * 40):
        status, headers, body = server.send(method + b" /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status == 405 and json.loads(body)["error"] and headers["allow"] == "GET, HEAD"
    assert server.send(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n")[0] in (404, 405)
    status, headers, body = server.ask("HEAD", "/v2/models/identity")
    assert status == 200 and not body and int(headers["content-length"]) > 20


def test_trailers_extensions_of_chunks_and_bodies_of_get(server):
    with server.connect() as w:
        w.send(post(PATH, b"", content_length=None, transfer_encoding="chunked") + b"%x;a=b\r\n%s\r\n0\r\nx-late: 1\r\ncontent-length: 9\r\n\r\n" % (len(GOOD), GOOD))
        assert w.answer()[0] == 200
        w.send(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")
        assert w.answer()[0] == 200
        w.send(post(PATH, GOOD))
        assert w.answer()[0] == 200


def test_a_length_that_is_too_small_does_not_hide_a_second_request(server):
    with server.connect() as w:
        w.send(post(PATH, GOOD, content_length=len(GOOD) - 5))
        assert w.answer()[0] == 400
        w.send(b"\r\n\r\n")
        assert w.answer()[0] in (0, 400)  # the rest is no request


def test_both_kinds_of_deflate_are_taken(server):
    raw = zlib.compressobj(wbits=-15)
    for body in (zlib.compress(GOOD), raw.compress(GOOD) + raw.flush()):
        assert server.send(post(PATH, body, content_encoding="deflate"))[0] == 200


@pytest.mark.parametrize("name", ["%00", "a%00b", "..%2f..%2fetc%2fpasswd", "%2e%2e", "..", ".", "%c0%ae", "a" * 3000, "%F0%9F%98%80", "%0d%0ax:%20y", "identity%2f", "*"])
def test_names_lead_nowhere(server, name):
    for method, path in (("GET", f"/v2/models/{name}"), ("POST", f"/v2/models/{name}/infer"), ("POST", f"/v2/repository/models/{name}/load"),
                         ("POST", f"/predictions/{name}"), ("POST", f"/v1/models/{name}:predict")):
        status, headers, body = server.ask(method, path, GOOD if method == "POST" else None)
        assert status in (400, 404) and json.loads(body)["error"] and "x" not in headers
    alive(server)


@pytest.mark.parametrize("cut", [1, 10, 40, 70, 100, 150, len(post(PATH, GOOD)) - 1, len(post(PATH, GOOD))])
def test_connections_that_are_reset_at_any_point(server, cut):
    for _ in range(20):
        w = server.connect()
        w.send(post(PATH, GOOD)[:cut])
        w.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        w.socket.close()
    alive(server)


def test_clients_that_do_not_read_their_answer_hold_nobody_up(own):
    s = own({"identity": served.identity(1, ["n", 4])}, "--send-timeout", 1)
    big = json.dumps(infer_json(shape=(200000, 4), data=[0.123456] * 800000)).encode()
    wires = [s.connect() for _ in range(4)]
    for w in wires:
        w.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        w.send(post(PATH, big))
    alive(s)
    for _ in range(200):
        if "onnxd_requests_in_flight 1\n" in s.ask("GET", "/metrics")[2].decode():
            break
        time.sleep(0.05)
    assert "onnxd_requests_in_flight 1\n" in s.ask("GET", "/metrics")[2].decode(), "they are dropped"


def test_hundreds_of_slow_heads_do_not_keep_others_out(own):
    s = own({"identity": served.identity(1, ["n", 4])}, "--receive-timeout", 2)
    slow = [s.connect() for _ in range(400)]
    for w in slow:
        w.send(b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\nx-")
    begin = time.time()
    for _ in range(20):
        alive(s)
    assert time.time() - begin < 5
    for w in slow[:50]:
        assert w.closed()
    for w in slow:
        w.socket.close()


def test_a_full_disk_stops_the_log_and_nothing_else(own):
    s = own({"identity": served.identity(1, ["n", 4])}, "--access-log", "json", "--access-log-file", "/dev/full")
    for _ in range(50):
        alive(s)
    assert s.stop() == 0


def test_the_folder_of_models_may_go_and_come_back(own):
    s = own({"identity": served.identity(1, ["n", 4])})
    away = s.folder.with_name("away")
    s.folder.rename(away)
    time.sleep(1.2)
    alive(s)
    away.rename(s.folder)
    served.save(s.folder, "later", served.scaled(2))
    s.process.send_signal(1)  # SIGHUP
    s.wait("/v2/models/later/ready")
    alive(s)


def test_links_unreadable_files_and_folders_named_as_files(own, tmp_path):
    s = own({"identity": served.identity(1, ["n", 4])})
    served.save(tmp_path / "elsewhere", "real", served.scaled(3))
    (s.folder / "linked").symlink_to(tmp_path / "elsewhere" / "real")
    (s.folder / "loop").symlink_to(s.folder / "loop")
    (s.folder / "nothing.onnx").symlink_to(tmp_path / "is not there")
    (s.folder / "folder.onnx").mkdir()
    os.mkfifo(s.folder / "pipe.onnx")
    served.save(s.folder, "empty", served.scaled(1))
    (s.folder / "empty" / "model.onnx").write_bytes(b"")
    s.wait("/v2/models/linked/ready")
    alive(s)
    names = {m["name"]: m.get("state") for m in s.json("POST", "/v2/repository/index")[1]}
    assert names["linked"] == "READY" and not {"loop", "nothing", "pipe"} & set(names)


def test_a_file_that_changes_while_it_is_loaded_ends_as_the_last_one(own):
    s = own({"identity": served.identity(1, ["n", 4])})
    for k in range(2, 22):
        served.save(s.folder, "m", served.scaled(k))  # written in place, not renamed
        time.sleep(0.06)
    for _ in range(300):
        with contextlib.suppress(KeyError):
            if s.json("POST", "/v2/models/m/infer", infer_json(data=[1, 1, 1, 1]))[1]["outputs"][0]["data"][0] == 21:
                break
        time.sleep(0.05)
    assert s.json("POST", "/v2/models/m/infer", infer_json(data=[1, 1, 1, 1]))[1]["outputs"][0]["data"][0] == 21
    shutil.rmtree(s.folder / "m")
    for _ in range(200):
        if s.ask("GET", "/v2/models/m")[0] == 404:
            break
        time.sleep(0.05)
    assert s.ask("GET", "/v2/models/m")[0] == 404
    alive(s)
