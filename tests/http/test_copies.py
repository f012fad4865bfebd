"""How often a tensor's bytes are copied on their way from the socket into the engine."""
import json
import pathlib
import subprocess

import numpy as np
import pytest
from onnx import TensorProto as T

import served
from served import post

N = 3 * 224 * 224


def copied(onnxd, folder, counter, out, requests):
    data = np.ones(N, np.float32).tobytes()
    head = json.dumps({"inputs": [{"name": "x", "shape": [1, 3, 224, 224], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}]}).encode()
    with served.Server(onnxd, folder, "--threads", 1, env={"LD_PRELOAD": str(counter), "COUNT_COPIES": str(out)}) as s:
        with s.connect() as w:
            for _ in range(requests):
                w.send(post("/v2/models/mean/infer", head + data, inference_header_content_length=len(head)))
                status, _, body = w.answer()
                assert status == 200 and json.loads(body)["outputs"][0]["data"] == [1]
    return int(out.read_text())


def test_a_binary_tensor_is_copied_at_most_once(onnxd, root, tmp_path):
    if b"__asan_init" in pathlib.Path(onnxd).read_bytes():
        pytest.skip("the address sanitizer counts copies itself, and wants to be the first library")
    counter = tmp_path / "count.so"
    built = subprocess.run(["cc", "-O2", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC", "-o", counter,
                            root / "tests/bench/count_copies.c", "-ldl"], capture_output=True)
    if built.returncode:
        pytest.skip("no compiler")
    served.save(tmp_path / "models", "mean", served.model([("ReduceMean", ["x"], ["y"], {"axes": [1, 2, 3], "keepdims": 0})],
                                                          [("x", T.FLOAT, ["n", 3, 224, 224])], [("y", T.FLOAT, ["n"])]))
    few, many = (copied(onnxd, tmp_path / "models", counter, tmp_path / "copied", n) for n in (2, 12))
    times = (many - few) / 10 / (4 * N)
    print(f"copied {times:.3f} times")
    assert 0.5 < times <= 1.05
