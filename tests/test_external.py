"""Weights in files beside the model: they stay there until they are packed, and the answer is that of one file to the bit."""
import os
import subprocess
import time

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import set_external_data

from test_passes import ONNXD, Net, feed

LAYERS = 20


@pytest.fixture
def plain(tmp_path):
    n = Net()
    x = n.add("Conv", n.input("x", 1, 32, 14, 14), n.weight(64, 32, 3, 3), n.weight(64), pads=[1, 1, 1, 1])
    x = n.add("Flatten", n.add("GlobalAveragePool", x))
    for _ in range(LAYERS):
        x = n.add("Tanh", n.add("MatMul", x, n.weight(64, 300, scale=0.1)))
        x = n.add("Gemm", x, n.weight(64, 300, scale=0.1), transB=1)
    n.save(str(tmp_path / "net.onnx"), n.add("Add", x, n.add("ReduceSum", n.weight(64, 320), n.const([1], np.int64), keepdims=0)))
    np.save(tmp_path / "x.npy", feed(1, 32, 14, 14))
    return tmp_path / "net.onnx"


def run(net, *extra):
    out = net.parent / ("out%d" % len(list(net.parent.glob("out*"))))
    args = [ONNXD, "run", str(net), "--input", "x=%s" % (net.parent / "x.npy"), "--output-dir", str(out)]
    subprocess.run(args + list(extra), check=True, timeout=60)
    (path,) = out.glob("0_*.npy")
    return np.load(path)


def outside(net, name, place):
    """The model with each initializer's bytes in the file, and at the offset, that place(index) says; None: behind the last."""
    model, ends = onnx.load(str(net)), {}
    for i, t in enumerate(model.graph.initializer):
        file, offset = place(i)
        path = net.parent / file
        offset = ends.get(file, 0) if offset is None else offset
        with open(path, "r+b" if path.exists() else "w+b") as f:
            f.seek(offset)
            f.write(t.raw_data)
        ends[file] = offset + len(t.raw_data)
        set_external_data(t, file, offset, len(t.raw_data))
        t.ClearField("raw_data")
    onnx.save(model, str(net.parent / name))
    return net.parent / name


def test_one_file_for_all(plain):
    assert np.array_equal(run(outside(plain, "one.onnx", lambda i: ("w.bin", None))), run(plain))


def test_a_file_each_more_than_are_kept_open(plain):
    assert np.array_equal(run(outside(plain, "many.onnx", lambda i: ("w%d.bin" % i, None))), run(plain))


def test_offsets_that_no_float_may_lie_at(plain):
    place = lambda i: ("w.bin", 300000 * i + i % 5)
    assert np.array_equal(run(outside(plain, "odd.onnx", place)), run(plain))


def test_offsets_that_go_down(plain):
    place = lambda i: ("w.bin", 300000 * (100 - i))
    assert np.array_equal(run(outside(plain, "down.onnx", place)), run(plain))


def test_weights_that_share_bytes(tmp_path):
    """Two initializers that are parts of a third, and one that is another."""
    values = np.random.default_rng(3).standard_normal((600, 64)).astype(np.float32)
    (tmp_path / "w.bin").write_bytes(values.tobytes())
    n = Net()
    parts = [(0, 600), (100, 500), (300, 600), (100, 500)]
    x, total = n.input("x", 1, 64), []
    for first, last in parts:
        total.append(n.add("ReduceMean", n.add("Gemm", x, n.const(values[first:last]), transB=1), axes=[1]))
    n.save(str(tmp_path / "net.onnx"), n.add("Sum", *total))
    np.save(tmp_path / "x.npy", feed(1, 64))
    model = onnx.load(str(tmp_path / "net.onnx"))
    for t, (first, last) in zip(model.graph.initializer, parts):
        set_external_data(t, "w.bin", first * 256, (last - first) * 256)
        t.ClearField("raw_data")
    onnx.save(model, str(tmp_path / "shared.onnx"))
    assert np.array_equal(run(tmp_path / "shared.onnx"), run(tmp_path / "net.onnx"))


def test_bytes_that_change_beside_a_model_that_does_not(plain):
    """The pack cache knows weights by the identity of all files."""
    net, cache = outside(plain, "one.onnx", lambda i: ("w.bin", None)), str(plain.parent / "cache")
    time.sleep(3.5)
    was = [run(net, "--pack-cache", cache) for _ in range(2)]
    assert np.array_equal(was[0], was[1]) and list((plain.parent / "cache").glob("*.sums"))
    values = np.fromfile(plain.parent / "w.bin", np.uint8)
    stat = os.stat(plain.parent / "w.bin")
    with open(plain.parent / "w.bin", "r+b") as f:
        f.write((np.frombuffer(values.tobytes()[: 64 * 32 * 36], np.float32) * 2).tobytes())
    os.utime(plain.parent / "w.bin", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    time.sleep(3.5)
    now = [run(net, "--pack-cache", cache) for _ in range(2)]
    assert np.array_equal(now[0], now[1]) and np.array_equal(now[0], run(net)) and not np.array_equal(now[0], was[0])
