"""Triton's own HTTP client, unmodified: every call that it has, sync and asyncio."""
import asyncio
import json

import ml_dtypes
import numpy as np
import pytest

import served

client = pytest.importorskip("tritonclient.http")
aio = pytest.importorskip("tritonclient.http.aio")
from tritonclient.utils import InferenceServerException  # noqa: E402


@pytest.fixture()
def triton(server):
    with client.InferenceServerClient(server.url) as c:
        yield c


def tensor(name, data, kind=None, binary=True):
    kind = kind or {"float32": "FP32", "int32": "INT32", "float64": "FP64", "float16": "FP16", "bool": "BOOL", "object": "BYTES"}.get(
        data.dtype.name, data.dtype.name.upper())
    t = client.InferInput(name, list(data.shape), kind)
    t.set_data_from_numpy(data, binary_data=binary)
    return t


X = np.array([[1, 2.5, -0.1, 1e-20], [5, 6, 7, 8]], np.float32)


def test_health_and_metadata(triton):
    assert triton.is_server_live() and triton.is_server_ready() and triton.is_model_ready("identity")
    assert triton.is_model_ready("identity", "1") and not triton.is_model_ready("identity", "7")
    assert not triton.is_model_ready("nobody")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    about = triton.get_model_metadata("add")
    assert about["inputs"][0] == {"name": "a", "datatype": "INT32", "shape": [-1, 16]} and about["versions"] == ["1"]
    config = triton.get_model_config("add")
    assert config["name"] == "add" and config["input"][1]["name"] == "b" and config["max_batch_size"] > 1
    assert config["input"][0]["dims"] == [16] and "dynamic_batching" in config


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_floats_come_back_to_the_bit(triton, binary_in, binary_out):
    r = triton.infer("identity", [tensor("x", X, binary=binary_in)], request_id="7",
                     outputs=[client.InferRequestedOutput("y", binary_data=binary_out)])
    assert r.as_numpy("y").tobytes() == X.tobytes() and r.get_response()["id"] == "7"


def test_no_outputs_named_means_all_of_them_binary(triton):
    a, b = np.arange(16, dtype=np.int32)[None], np.full((1, 16), 3, np.int32)
    r = triton.infer("add", [tensor("a", a), tensor("b", b, binary=False)])
    assert (r.as_numpy("sum") == a + b).all() and (r.as_numpy("difference") == a - b).all()
    r = triton.infer("add", [tensor("b", b), tensor("a", a)], outputs=[client.InferRequestedOutput("difference")])
    assert (r.as_numpy("difference") == a - b).all() and r.as_numpy("sum") is None


@pytest.mark.parametrize("name, kind", [("fp64", "float64"), ("bool", "bool"), ("int8", "int8"), ("uint8", "uint8"), ("int16", "int16"),
                                        ("uint16", "uint16"), ("int64", "int64"), ("uint32", "uint32"), ("uint64", "uint64")])
@pytest.mark.parametrize("binary", [True, False])
def test_every_type_passes_in_both_forms(triton, name, kind, binary):
    data = np.array([[0, 1]], bool) if kind == "bool" else np.array([[np.iinfo(kind).min, np.iinfo(kind).max]], kind) \
        if kind != "float64" else np.array([[0.1, -1e300]])
    r = triton.infer(name, [tensor("x", data, binary=binary)], outputs=[client.InferRequestedOutput("y", binary_data=binary)])
    assert r.as_numpy("y").tobytes() == data.tobytes()


def test_half_types_pass_in_binary_form(triton):
    half = np.array([[1.5, -65504]], np.float16)
    assert triton.infer("fp16", [tensor("x", half)]).as_numpy("y").tobytes() == half.tobytes()
    t = client.InferInput("x", [1, 2], "BF16")
    t.set_data_from_numpy(np.array([[1.5, -2]], ml_dtypes.bfloat16))
    assert triton.infer("bf16", [t]).as_numpy("y").astype(np.float32).tolist() == [[1.5, -2]]


@pytest.mark.parametrize("binary", [True, False])
def test_texts_pass(triton, binary):
    data = np.array(["a", "Grüße", ""], object)
    r = triton.infer("text", [tensor("x", data, binary=binary)], outputs=[client.InferRequestedOutput("y", binary_data=binary)])
    assert [t if isinstance(t, str) else t.decode() for t in r.as_numpy("y")] == list(data)


def test_zero_rows_pass(triton):
    empty = np.zeros((0, 4), np.float32)
    assert triton.infer("identity", [tensor("x", empty)]).as_numpy("y").shape == (0, 4)


@pytest.mark.parametrize("binary", [True, False])
def test_classification(triton, binary):
    scores = np.array([[0.1, 0.7, 0.2], [3, 1, 2]], np.float32)
    out = [client.InferRequestedOutput("y", class_count=2, binary_data=binary)]
    got = triton.infer("scores", [tensor("x", scores)], outputs=out).as_numpy("y")
    assert [[c if isinstance(c, str) else c.decode() for c in row] for row in got] == [["0.700000:1", "0.200000:2"], ["3.000000:0", "2.000000:2"]]


def test_classes_have_the_card_s_labels(triton):
    data = np.zeros((1, 3, 32, 32), np.float32)
    data[0, 1] = 1
    out = [client.InferRequestedOutput("scores", class_count=1)]
    assert triton.infer("colours", [tensor("pixels", data)], outputs=out).as_numpy("scores").tolist() == [[b"1.000000:1:green"]]


def test_pictures_as_bytes_stand_for_a_4_d_input(triton):
    data = np.array([served.picture("PNG", (255, 0, 0)), served.picture("PNG", (0, 0, 255))], object)
    got = triton.infer("colours", [tensor("pixels", data)]).as_numpy("scores")
    assert got.shape == (2, 3) and got[0].argmax() == 0 and got[1].argmax() == 2


@pytest.mark.parametrize("into", [None, "gzip", "deflate"])
@pytest.mark.parametrize("out", [None, "gzip", "deflate"])
@pytest.mark.parametrize("rows", [1, 5000])
def test_compression(triton, into, out, rows):
    data = np.tile(np.arange(4, dtype=np.float32), (rows, 1))
    r = triton.infer("identity", [tensor("x", data)], request_compression_algorithm=into, response_compression_algorithm=out)
    assert r.as_numpy("y").tobytes() == data.tobytes()


def test_parameters_and_priorities(triton):
    r = triton.infer("identity", [tensor("x", X)], priority=1, timeout=5000000, parameters={"mine": "x", "n": 3}, query_params={"a": 1},
                     headers={"X-Request-Id": "abc"})
    assert r.as_numpy("y").shape == (2, 4)


def test_async_infer(triton):
    waiting = [triton.async_infer("identity", [tensor("x", X * k)], request_id=str(k)) for k in range(20)]
    for k, w in enumerate(waiting):
        r = w.get_result()
        assert r.get_response()["id"] == str(k) and r.as_numpy("y").tobytes() == (X * np.float32(k)).tobytes()


def test_quoted_names(triton):
    assert triton.is_model_ready("a name with spaces")
    assert triton.infer("a name with spaces", [tensor("x", X)]).as_numpy("y").shape == (2, 4)


def test_errors_are_told(triton):
    for name, inputs, words in (("nobody", [tensor("x", X)], "nobody"), ("identity", [tensor("z", X)], "no such input"),
                                ("identity", [tensor("x", X.astype(np.float64))], "FP64"), ("identity", [tensor("x", X[:, :3])], "")):
        with pytest.raises(InferenceServerException) as e:
            triton.infer(name, inputs)
        assert words in str(e.value) and e.value.status() in ("400", "404")
    with pytest.raises(InferenceServerException, match="no output"):
        triton.infer("identity", [tensor("x", X)], outputs=[client.InferRequestedOutput("z")])


def test_statistics_grow(triton):
    before = triton.get_inference_statistics("identity")["model_stats"][0]
    for _ in range(3):
        triton.infer("identity", [tensor("x", X)])
    after = triton.get_inference_statistics("identity", "1")["model_stats"][0]
    assert after["version"] == "1" and after["inference_count"] == before["inference_count"] + 6
    for key in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][key]["count"] == before["inference_stats"][key]["count"] + 3
    for key in ("success", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][key]["ns"] > before["inference_stats"][key]["ns"]
    assert after["inference_stats"]["success"]["ns"] >= sum(after["inference_stats"][k]["ns"] for k in ("compute_input", "compute_infer", "compute_output"))
    assert {m["name"] for m in triton.get_inference_statistics()["model_stats"]} >= {"identity", "add"}


def test_what_is_not_offered_is_said(triton):
    assert triton.get_trace_settings()["trace_level"] == ["OFF"]
    assert triton.get_system_shared_memory_status() == [] and triton.get_cuda_shared_memory_status() == []
    triton.unregister_system_shared_memory()
    triton.unregister_cuda_shared_memory("a")
    for call in (lambda: triton.update_trace_settings(settings={"trace_rate": "5"}),
                 lambda: triton.register_system_shared_memory("a", "/a", 64),
                 lambda: triton.register_cuda_shared_memory("a", b"1234", 0, 64)):
        with pytest.raises(InferenceServerException, match="not offered"):
            call()


def test_logging(triton):
    assert triton.get_log_settings()["log_info"] is True
    assert triton.update_log_settings({"log_info": False})["log_info"] is False
    assert triton.update_log_settings({"log_info": True, "log_verbose_level": 0})["log_info"] is True
    with pytest.raises(InferenceServerException):
        triton.update_log_settings({"log_colour": "red"})


def test_model_control(own):
    s = own({"one": served.scaled(1), "two": served.scaled(2)}, "--model-control", "explicit")
    with client.InferenceServerClient(s.url) as triton:
        assert {m["name"] for m in triton.get_model_repository_index()} == {"one", "two"}
        assert not triton.is_model_ready("one")
        triton.load_model("one")
        assert triton.is_model_ready("one") and triton.infer("one", [tensor("x", X)]).as_numpy("y").tobytes() == X.tobytes()
        assert {"name": "one", "version": "1", "state": "READY"} in triton.get_model_repository_index()
        served.save(s.folder, "one", served.scaled(3))
        triton.load_model("one", config=json.dumps({"task": "none"}))
        assert triton.infer("one", [tensor("x", X)]).as_numpy("y")[1, 0] == 15
        triton.unload_model("one")
        assert not triton.is_model_ready("one")
        with pytest.raises(InferenceServerException, match="nobody"):
            triton.load_model("nobody")


def test_a_model_comes_with_the_request(own, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    s = own({"one": served.scaled(1)}, "--model-control", "explicit", env={"TMPDIR": str(temporary)})
    with client.InferenceServerClient(s.url) as triton:
        fresh = served.scaled(7).SerializeToString()
        triton.load_model("fresh", config=json.dumps({"backend": "onnxruntime", "max_batch_size": 4}), files={"file:1/model.onnx": fresh})
        assert triton.infer("fresh", [tensor("x", X)]).as_numpy("y").tobytes() == (X * np.float32(7)).tobytes()
        assert triton.get_model_config("fresh")["max_batch_size"] == 4
        with pytest.raises(InferenceServerException):
            triton.load_model("fresh", config="{}", files={"file:1/model.onnx": b"abc"})
        assert triton.infer("fresh", [tensor("x", X)]).as_numpy("y")[1, 0] == 35, "what was served goes on"
        for name in ("file:../model.onnx", "file:1/../../model.onnx", "file:x/model.onnx"):
            with pytest.raises(InferenceServerException, match="FILE or VERSION/FILE"):
                triton.load_model("two", config="{}", files={name: fresh})
        triton.unload_model("fresh")
        assert not list(temporary.iterdir())
    plain = own({"one": served.scaled(1)})
    with client.InferenceServerClient(plain.url) as triton, pytest.raises(InferenceServerException, match="explicit"):
        triton.load_model("fresh", config="{}", files={"file:1/model.onnx": fresh})


def test_versions_and_batches_as_triton_s_configuration_says(own):
    s = own({"other": served.scaled(1)}, "--model-control", "explicit", "--load-threads", 2)
    for v in (1, 2, 3):
        served.save(s.folder, "m", served.scaled(v), version=v)
    with client.InferenceServerClient(s.url) as triton:
        triton.load_model("m")
        assert triton.get_model_metadata("m")["versions"] == ["3"]
        config = triton.get_model_config("m")
        config |= {"version_policy": {"specific": {"versions": ["1", 2]}}, "max_batch_size": 2,
                   "dynamic_batching": {"max_queue_delay_microseconds": "500"}}
        triton.load_model("m", config=json.dumps(config))
        assert triton.get_model_metadata("m")["versions"] == ["2", "1"]
        assert triton.infer("m", [tensor("x", X)], model_version="1").as_numpy("y").tobytes() == X.tobytes()
        assert not triton.is_model_ready("m", "3") and triton.is_model_ready("m", "1")
        said = triton.get_model_config("m", "1")
        assert said["version_policy"] == {"specific": {"versions": [1, 2]}} and said["max_batch_size"] == 2
        assert said["dynamic_batching"] == {"max_queue_delay_microseconds": 500}
        triton.load_model("m", config=json.dumps({"version_policy": {"all": {}}}))
        assert triton.get_model_metadata("m")["versions"] == ["3", "2", "1"] and triton.get_model_config("m")["version_policy"] == {"all": {}}
        with pytest.raises(InferenceServerException, match="none of the versions"):
            triton.load_model("m", config=json.dumps({"version_policy": {"specific": {"versions": [8]}}}))


def test_asyncio_client(server):
    async def talk():
        async with aio.InferenceServerClient(server.url) as c:
            assert await c.is_server_live() and await c.is_server_ready() and await c.is_model_ready("identity")
            assert (await c.get_model_metadata("identity"))["name"] == "identity"
            assert (await c.get_model_config("identity"))["name"] == "identity"
            assert await c.get_server_metadata() and await c.get_model_repository_index() and await c.get_inference_statistics("identity")
            assert await c.get_log_settings() and await c.get_trace_settings()
            results = await asyncio.gather(*(c.infer("identity", [tensor("x", X * k)]) for k in range(32)))
            for k, r in enumerate(results):
                assert r.as_numpy("y").tobytes() == (X * np.float32(k)).tobytes()
            big = np.tile(X, (4000, 1))
            for compression in (None, "gzip"):
                r = await c.infer("identity", [tensor("x", big)], request_compression_algorithm=compression)
                assert r.as_numpy("y").tobytes() == big.tobytes()
            with pytest.raises(InferenceServerException):
                await c.infer("nobody", [tensor("x", X)])

    asyncio.run(talk())
