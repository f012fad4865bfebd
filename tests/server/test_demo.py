"""tools/serve_demo.sh, which `make run` ends in: what it prints can be typed."""
import re
import socket
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image


def small_model():
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["m"]), helper.make_node("Flatten", ["m"], ["y"])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 3, 32, 32]), ("y", ["n", 3]))]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def models(tmp_path):
    for place in ("plain", "versions/1"):
        (tmp_path / place).mkdir(parents=True)
        onnx.save(small_model(), tmp_path / place / "model.onnx")
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "images" / "bus.jpg")
    return tmp_path


def test_the_demonstration_prints_a_line_that_works_for_each_model(root, onnxd, models):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    script = subprocess.Popen(["sh", "tools/serve_demo.sh", onnxd, str(models), str(port)], cwd=root, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        lines = []
        while not lines or "/metrics" not in lines[-1]:
            lines.append(script.stdout.readline())
            assert lines[-1], "it ended: " + "".join(lines)
        said = [line.strip() for line in lines if "--data-binary" in line]
        assert sorted(re.findall(r"models/(\w+)/predict", " ".join(said))) == ["plain", "versions"]
        for line in said:
            answer = subprocess.run(["sh", "-c", line.replace("curl", "curl -sSf")], capture_output=True, text=True, cwd=root)
            assert '"classes":' in answer.stdout, answer.stdout + answer.stderr
    finally:
        script.terminate()
        assert script.wait(30) == 143
