"""Many models, versions, exchange while serving, broken files: what a user of the model folder sees."""
import os
import shutil
import time

import numpy as np
import pytest

from serving import Clients, Server, add_model, conv_model, dense_model

ROW = np.zeros((1, 4), np.float32)
SWAPS = int(os.environ.get("ONNXD_SWAPS", 60))  # 500 for the whole claim


def constant(server, model="m", version=None):
    status, y = server.connect().infer(model, ROW)
    return float(y[0, 0]) if status == 200 else (status, y)


def test_models_are_exchanged_under_load_without_a_failed_request(onnxd, tmp_path):
    add_model(tmp_path / "m/model.onnx", 0)
    dense_model(tmp_path / "other/model.onnx", 10)
    x = np.zeros((1, 256), np.float32)
    newest = 0

    def work(c, number):
        if number == 0:
            return c.infer("other", x)[0] == 200
        before = newest
        status, y = c.infer("m", ROW)
        # never older than what was ready when the request was sent
        return status == 200 and before <= y[0, 0] <= newest + 1 or (status, y, before)

    with Server(onnxd, tmp_path, "--model-control", "explicit", "--load-models", "m,other") as s:
        clients = Clients(s, 4, work)
        memory = []
        for i in range(1, SWAPS + 1):
            add_model(tmp_path / "m/model.onnx", i)
            status, answer = s.load("m")
            assert status == 200, answer
            newest = i
            assert constant(s) == i
            memory.append(s.resident_mb())
        results = clients.stop()
        assert set(results) == {True}, [r for r in results if r is not True][:3]
        assert len(results) > SWAPS
        assert memory[-1] < memory[len(memory) // 4] + 20, "old models are freed"


def test_a_broken_file_changes_nothing_but_the_index(onnxd, tmp_path):
    add_model(tmp_path / "m/1/model.onnx", 1)
    with Server(onnxd, tmp_path) as s:
        (tmp_path / "m/2").mkdir()
        (tmp_path / "m/2/model.onnx").write_bytes(b"no model at all")
        s.wait_until(lambda: any(e.get("version") == "2" and e["state"] == "UNAVAILABLE" for e in s.index()), 20)
        entry = next(e for e in s.index() if e.get("version") == "2")
        assert entry["reason"]
        assert constant(s) == 1 and s.get("/v2/health/ready")[0] == 200
        add_model(tmp_path / "m/2/model.onnx", 2)
        s.wait_until(lambda: constant(s) == 2, 20)
        shutil.rmtree(tmp_path / "m/2")
        s.wait_until(lambda: constant(s) == 1, 20)


def test_half_a_file_is_not_loaded_while_it_is_being_copied(onnxd, tmp_path):
    add_model(tmp_path / "m.onnx", 1)
    dense_model(tmp_path / "big.part", 2, width=700)
    bytes = (tmp_path / "big.part").read_bytes()
    with Server(onnxd, tmp_path) as s:
        with open(tmp_path / "big.onnx", "wb", buffering=0) as f:
            for at in range(0, len(bytes), len(bytes) // 10 + 1):
                f.write(bytes[at:at + len(bytes) // 10 + 1])
                time.sleep(0.15)
        s.wait_until(lambda: s.get("/v2/models/big/ready")[0] == 200, 20)
        assert not any("cannot be loaded" in line for line in s.log)


def test_memory_comes_back_after_an_unload(onnxd, tmp_path):
    rng_width = 1600  # 10 MB of weights a matrix, and as much packed
    dense_model(tmp_path / "big/model.onnx", 2, width=rng_width)
    add_model(tmp_path / "m/model.onnx", 1)
    x = np.zeros((4, rng_width), np.float32)
    with Server(onnxd, tmp_path, "--model-control", "explicit", "--load-models", "m") as s:
        assert s.load("big")[0] == 200 and s.connect().infer("big", x)[0] == 200
        assert s.unload("big")[0] == 200
        before = s.resident_mb()
        for _ in range(5):
            assert s.load("big")[0] == 200 and s.connect().infer("big", x)[0] == 200
            assert s.resident_mb() > before + 8
            assert s.unload("big")[0] == 200
            status, error = s.connect().infer("big", x)
            assert status in (400, 404, 503) and "big" in error
        assert s.resident_mb() < before + 5


def test_odd_folders_do_not_stop_the_server(onnxd, tmp_path):
    add_model(tmp_path / "m/model.onnx", 1)
    add_model(tmp_path / "with space & more/model.onnx", 2)
    add_model(tmp_path / "dots.in.name.v2.onnx", 3)
    add_model(tmp_path / "ünïcode/model.onnx", 4)
    add_model(tmp_path / "zero/0/model.onnx", 5)
    add_model(tmp_path / "leading/007/model.onnx", 6)
    add_model(tmp_path / "deep/1/2/3/model.onnx", 7)
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.onnx").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "nothing.onnx").write_bytes(b"")
    os.symlink(tmp_path / "m", tmp_path / "linked")
    with Server(onnxd, tmp_path, wait="") as s:
        for name, value in (("m", 1), ("with%20space%20%26%20more", 2), ("dots.in.name.v2", 3), ("%C3%BCn%C3%AFcode", 4), ("linked", 1)):
            s.wait_until(lambda: s.get(f"/v2/models/{name}/ready")[0] == 200, 20)
            assert constant(s, name) == value
        names = {e["name"] for e in s.index()}
        assert {"m", "nothing"} <= names and not {"empty", "pipe", "dangling", "folder.onnx"} & names
        for path in ("..", "%2e%2e", "..%2Fm", "m%2F..%2Fm", "%00", "%FF", "x" * 300):
            assert s.get(f"/v2/models/{path}")[0] in (400, 404), path


def test_many_models_are_served_at_once(onnxd, tmp_path):
    for i in range(100):
        add_model(tmp_path / f"m{i}/model.onnx", i)
    with Server(onnxd, tmp_path) as s:
        before = s.threads()
        clients = Clients(s, 4, lambda c, n: [float(c.infer(f"m{i}", ROW)[1][0, 0]) == i for i in range(n, 100, 4)].count(False), once=True)
        assert clients.join() == [0] * 4
        assert s.threads() == before and s.resident_mb() < 100


@pytest.mark.parametrize("maker", [lambda p: conv_model(p), lambda p: dense_model(p, 4)], ids=["conv", "dense"])
def test_batched_answers_equal_single_answers(onnxd, tmp_path, maker):
    """To the bit, or where a kernel for one row adds in another order, within 1e-6 of the largest."""
    maker(tmp_path / "m/model.onnx")
    dims = (3, 64, 64) if "conv" in os.environ.get("PYTEST_CURRENT_TEST", "") else (256,)
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal((1 + i % 3, *dims)).astype(np.float32) for i in range(64)]
    with Server(onnxd, tmp_path, "--max-queue-delay-us", 20000, "--max-batch-size", 16, "--threads", 1) as s:
        with s.connect() as c:
            single = [c.infer("m", x)[1] for x in inputs]
        sizes = lambda: s.metrics().get('onnxd_inference_runs_total{model="m",version="1"}')
        before = sizes()

        def work(c, number):
            for i in range(number, len(inputs), 16):
                status, y = c.infer("m", inputs[i])
                assert status == 200, y
                assert y.shape == single[i].shape
                assert np.abs(y - single[i]).max() <= 1e-6 * np.abs(single[i]).max()
            return True

        assert Clients(s, 16, work, once=True).join() == [True] * 16
        assert sizes() - before <= 64


def test_one_run_cannot_take_all_memory_and_a_large_one_does_not_keep_it(onnxd, tmp_path):
    """Free extents: whoever asks chooses how large a run is."""
    from serving import _floats, _save
    from onnx import helper
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), helper.make_node("MatMul", ["x", "t"], ["p"]),
             helper.make_node("ReduceMax", ["p"], ["y"], axes=[2], keepdims=0)]
    _save(tmp_path / "m/model.onnx", nodes, [_floats("x", ["N", "L", 4])], [_floats("y", ["N", "L"])], [])
    with Server(onnxd, tmp_path, "--run-memory", "400m") as s, s.connect() as c:
        assert c.infer("m", np.ones((1, 8, 4), np.float32))[0] == 200
        before = s.resident_mb()
        assert c.infer("m", np.ones((1, 8000, 4), np.float32))[0] == 200  # 256 MB on the way
        assert s.resident_mb() < before + 100
        status, error = c.infer("m", np.ones((1, 40000, 4), np.float32))  # 6.4 GB
        assert status in (413, 503, 507) and "bytes" in error, (status, error)
        assert c.infer("m", np.ones((1, 8, 4), np.float32))[0] == 200
