"""What perf_analyzer and Triton's C++ client look at, each of which ends them when it is otherwise."""
import json
import struct

import numpy as np
import pytest
import tritonclient.http as triton

import served
from served import infer_json, post

NAMES = ["identity", "add", "colours", "text", "fp16"]
LEAVES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


@pytest.mark.parametrize("name", NAMES)
def test_perf_analyzer_can_read_the_configuration(server, name):
    meta, config = (server.json("GET", f"/v2/models/{name}{more}")[1] for more in ("", "/config"))
    assert config["name"] == name and type(config["max_batch_size"]) is int and config["platform"] != "ensemble"
    assert not {"sequence_batching", "model_transaction_policy", "response_cache", "ensemble_scheduling"} & set(config)
    assert ("dynamic_batching" in config) == (config["max_batch_size"] > 0) and isinstance(config.get("dynamic_batching", {}), dict)
    for side in ("input", "output"):
        assert {v["name"] for v in config[side]} == {v["name"] for v in meta[side + "s"]}
        for v in config[side]:
            shape = next(m["shape"] for m in meta[side + "s"] if m["name"] == v["name"])
            if config["max_batch_size"] > 0:
                assert shape[0] == -1 and v["dims"] == shape[1:], "the batch leads in the metadata and is left out here"
            else:
                assert v["dims"] == shape


def test_perf_analyzer_finds_the_extensions_and_counters_that_grow(server):
    assert {"statistics", "model_configuration", "binary_tensor_data"} <= set(server.json("GET", "/v2")[1]["extensions"])
    counts = []
    for k in range(4):
        stats = server.json("GET", "/v2/models/add/stats")[1]["model_stats"][0]
        assert stats["version"].isdecimal() and type(stats["last_inference"]) is int
        for leaf in LEAVES:
            value = stats["inference_stats"][leaf]
            assert set(value) == {"count", "ns"} and all(type(v) is int and v >= 0 for v in value.values())
        for size in stats["batch_stats"]:
            assert type(size["batch_size"]) is int and all(set(size[x]) == {"count", "ns"} for x in ("compute_input", "compute_infer", "compute_output"))
        counts.append([stats["inference_stats"][leaf]["count"] for leaf in ("success", "queue", "compute_infer")] + [stats["inference_count"]])
        body = {"inputs": [{"name": n, "datatype": "INT32", "shape": [1, 16], "data": list(range(16))} for n in "ab"], "id": str(k)}
        assert server.json("POST", "/v2/models/add/infer", body)[1]["id"] == str(k)
    assert all(b[i] == a[i] + 1 for a, b in zip(counts, counts[1:]) for i in range(4)), "one a request, also when it did not wait"


def test_the_c_client_s_requests_and_what_it_reads(server):
    """Key order, an empty id, flat data of several dimensions, the header also when all is JSON, an empty Expect."""
    body = (b'{"id":"","inputs":[{"name":"x","datatype":"FP32","shape":[2,4],"data":[1,2,3,4,5,6,7,8]}],'
            b'"outputs":[{"name":"y","parameters":{"binary_data":false}}]}')
    status, headers, answer = server.send(
        b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nUser-Agent: libcurl-agent/1.0\r\nAccept: */*\r\nExpect:\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (len(body), len(body)) + body)
    said = json.loads(answer)
    assert status == 200 and said["id"] == "" and "inference-header-content-length" not in headers
    assert said["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2, 4], "data": [1, 2, 3, 4, 5, 6, 7, 8]}]
    assert int(headers["content-length"]) == len(answer) and said["model_version"] == "1"


def test_the_c_client_s_binary_requests(server):
    data = struct.pack("<8f", *range(8))
    head = (b'{"id":"","inputs":[{"name":"x","datatype":"FP32","shape":[2,4],"parameters":{"binary_data_size":32}}],'
            b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}')
    status, headers, answer = server.send(
        b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nUser-Agent: libcurl-agent/1.0\r\nAccept: */*\r\nExpect:\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
        % (len(head), len(head) + 32) + head + data)
    n = int(headers["inference-header-content-length"])
    said = json.loads(answer[:n])
    assert status == 200 and int(headers["content-length"]) == n + 32 and answer[n:] == data
    assert said["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": 32}}]


def test_perf_analyzer_s_session(server):
    """What it asks, in its order, on one connection; then requests whose ids are decimal numbers, many on their way at a time."""
    data = bytes(64)
    with server.connect() as w:
        for path in ("/v2/health/ready", "/v2/models/add", "/v2/models/add/config", "/v2", "/v2/models/add/stats"):
            w.send(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
            status, headers, answer = w.answer()
            assert status == 200 and headers["content-type"] == "application/json" and json.loads(answer)
        before = json.loads(answer)["model_stats"][0]["inference_stats"]
        for k in range(20):
            head = json.dumps({"id": str(k), "inputs": [{"name": n, "datatype": "INT32", "shape": [1, 16], "parameters": {"binary_data_size": 64}} for n in "ab"],
                               "outputs": [{"name": "sum", "parameters": {"binary_data": True}}]}).encode()
            w.send(post("/v2/models/add/infer", head + data * 2, inference_header_content_length=len(head)))
        for k in range(20):
            status, headers, answer = w.answer()
            said = json.loads(answer[:int(headers["inference-header-content-length"])])
            assert status == 200 and said["id"] == str(k) and len(said["outputs"]) == 1
        w.send(b"GET /v2/models/add/stats HTTP/1.1\r\nhost: x\r\n\r\n")
        after = json.loads(w.answer()[2])["model_stats"][0]["inference_stats"]
    for leaf in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after[leaf]["count"] == before[leaf]["count"] + 20 and after[leaf]["ns"] >= before[leaf]["ns"]


def test_the_python_client_finds_outputs_wherever_it_looks_for_bytes(server):
    """Also where there are none: it reads what the header announces and then "outputs"."""
    with server.connect() as w:
        head = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[0,4],"parameters":{"binary_data_size":0}}],"parameters":{"binary_data_output":true}}'
        w.send(post("/v2/models/identity/infer", head, inference_header_content_length=len(head)))
        _, headers, answer = w.answer()
        assert int(headers["inference-header-content-length"]) == len(answer)
        assert json.loads(answer)["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [0, 4], "parameters": {"binary_data_size": 0}}]


def test_the_python_client_below_a_base_path(own):
    s = own({"identity": served.scaled(2)}, "--api-prefix", "/models/here", ready=False)
    s.wait("/models/here/v2/health/ready")
    x = triton.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.ones((1, 4), np.float32))
    with triton.InferenceServerClient(f"{s.url}/models/here") as c:
        assert c.is_server_live() and c.is_server_ready() and c.get_model_metadata("identity")["name"] == "identity"
        assert c.infer("identity", [x]).as_numpy("y").tolist() == [[2, 2, 2, 2]] and c.get_model_repository_index()[0]["state"] == "READY"


def test_only_200_is_success_and_errors_are_objects(server):
    for method, path, body in (("POST", "/v2/models/identity/infer", b"{"), ("GET", "/v2/models/nobody", None), ("GET", "/nowhere", None),
                               ("POST", "/v2/models/nobody/infer", json.dumps(infer_json()))):
        status, headers, answer = server.ask(method, path, body)
        assert status >= 400 and headers["content-type"] == "application/json" and json.loads(answer)["error"]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/identity/ready", "/v2/models/stats"):
        assert server.ask("GET", path)[0] == 200
    for path in ("/v2/repository/models/nobody/load", "/v2/repository/models/nobody/unload"):
        assert server.ask("POST", path, b"{}")[0] == 404


def test_a_model_that_is_being_loaded_is_503_in_json_not_404(own):
    """The C++ client takes a live server for a ready one."""
    s = own({"long": served.slow(size=128, rounds=3000)}, ready=False)
    s.wait("/v2")
    status, headers, answer = s.send(post("/v2/models/long/infer", b"{}"))
    assert status in (503, 400) and json.loads(answer)["error"]  # 400: it was quick
