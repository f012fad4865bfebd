"""TensorFlow Serving's and TorchServe's paths."""
import base64
import json

import pytest

import served

JSON = {"Content-Type": "application/json"}


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def tfs(server, model, body):
    return server.json("POST", f"/v1/models/{model}:predict", body, JSON)


def test_rows_and_columns_of_one_input(server):
    rows = [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert tfs(server, "identity", {"instances": rows}) == (200, {"predictions": rows})
    assert tfs(server, "identity", {"inputs": rows}) == (200, {"outputs": rows})
    assert tfs(server, "identity", {"inputs": {"x": rows}}) == (200, {"outputs": rows})
    assert tfs(server, "identity", {"instances": [{"x": r} for r in rows], "signature_name": "serving_default"}) == (200, {"predictions": rows})
    assert server.json("POST", "/v1/models/identity/versions/1:predict", {"instances": rows}) == (200, {"predictions": rows})


def test_several_inputs_and_outputs_go_by_name(server):
    a, b = list(range(16)), [2] * 16
    s, d = [x + 2 for x in a], [x - 2 for x in a]
    assert tfs(server, "add", {"instances": [{"a": a, "b": b}, {"b": b, "a": a}]}) == (200, {"predictions": [{"sum": s, "difference": d}] * 2})
    assert tfs(server, "add", {"inputs": {"a": [a], "b": [b]}}) == (200, {"outputs": {"sum": [s], "difference": [d]}})


def test_bytes_come_as_b64(server):
    assert tfs(server, "text", {"instances": [b64(b"a"), "b"]}) == (200, {"predictions": ["a", "b"]})
    assert tfs(server, "text", {"instances": [{"x": b64(b"a")}, {"x": "b"}]}) == (200, {"predictions": ["a", "b"]})
    red, blue = served.picture("PNG", (255, 0, 0)), served.picture("PNG", (0, 0, 255))
    for instances in ([b64(red), b64(blue)], [{"pixels": b64(red)}, {"pixels": b64(blue)}]):
        status, said = tfs(server, "colours", {"instances": instances})
        assert status == 200 and [p.index(max(p)) for p in said["predictions"]] == [0, 2]


@pytest.mark.parametrize("model, body", [
    ("identity", {}), ("identity", {"instances": []}), ("identity", {"instances": [[1, 2], [3]]}), ("identity", {"instances": [[1, 2, 3]]}),
    ("identity", {"instances": [{"z": [1]}]}), ("identity", {"instances": [["a"] * 4]}), ("identity", {"instances": [[1, 2, 3, [4]]]}),
    ("identity", {"instances": [[1] * 4], "inputs": [[1] * 4]}), ("identity", {"instances": [[1] * 4], "signature_name": "other"}),
    ("identity", {"examples": []}), ("add", {"instances": [[1] * 16]}), ("add", {"instances": [{"a": [1] * 16}]}),
    ("add", {"instances": [{"a": [1] * 16, "b": [1] * 16}, {"a": [1] * 16}]}), ("identity", {"inputs": 3}), ("text", {"instances": [{"b64": "%"}]}),
    ("identity", {"instances": [{"x": [1] * 4}, {"x": [1] * 5}]}), ("identity", {"instances": [{"x": [1] * 4}, [1] * 4]}),
])
def test_bad_requests_are_400(server, model, body):
    status, said = tfs(server, model, body)
    assert status == 400 and said["error"]


def test_status_and_metadata(server):
    assert server.json("GET", "/v1/models/add")[1]["model_version_status"][0]["state"] == "AVAILABLE"
    said = server.json("GET", "/v1/models/add/metadata")[1]
    signature = said["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert said["model_spec"]["name"] == "add" and signature["inputs"]["a"]["tensor_shape"]["dim"][1]["size"] == "16"
    assert server.json("GET", "/v1/models/nobody")[0] == 404


def test_torchserve(server):
    assert server.json("GET", "/ping") == (200, {"status": "Healthy"})
    status, said = server.json("POST", "/predictions/colours?top_k=2", served.picture())
    assert status == 200 and list(said) == ["red", "green"] and said["green"] < said["red"]
    assert server.json("POST", "/predictions/colours/1", served.picture())[0] == 200
    status, said = server.json("POST", "/predictions/colours", {"images": [b64(served.picture())] * 2}, JSON)
    assert status == 200 and [list(r)[0] for r in said] == ["red", "red"]
    assert server.json("POST", "/predictions/nobody", served.picture())[0] == 404
