"""--pack-cache: the second start maps what the first one packed, and answers the same to the bit."""
import os
import subprocess
import time

import numpy as np
import pytest

from test_passes import ONNXD, Net, feed


@pytest.fixture
def net(tmp_path):
    n = Net()
    x = n.add("Relu", n.add("Conv", n.input("x", 1, 32, 14, 14), n.weight(64, 32, 3, 3), pads=[1, 1, 1, 1]))  # Winograd
    x = n.add("Conv", x, n.weight(256, 64, 1, 1))
    x = n.add("ConvTranspose", x, n.weight(256, 32, 2, 2), strides=[2, 2])
    x = n.add("Gemm", n.add("Flatten", n.add("GlobalAveragePool", x)), n.weight(32, 1000))
    y = n.add("MatMul", x, n.weight(1000, 64))
    n.save(str(tmp_path / "net.onnx"), y)
    np.save(tmp_path / "x.npy", feed(1, 32, 14, 14))
    return tmp_path / "net.onnx"


def run(net, out, *extra, env=None):
    args = [ONNXD, "run", str(net), "--input", "x=%s" % (net.parent / "x.npy"), "--output-dir", str(net.parent / out)]
    subprocess.run(args + list(extra), check=True, timeout=60, env=dict(os.environ, **(env or {})))
    (path,) = (net.parent / out).glob("0_*.npy")
    return np.load(path)


def files(folder):
    return {f.name: (f.stat().st_mtime_ns, f.stat().st_ino) for f in folder.glob("*.pack")}


def test_the_second_start_uses_the_files_of_the_first(net):
    plain = run(net, "plain")
    cache = net.parent / "cache"
    assert np.array_equal(run(net, "first", "--pack-cache", str(cache)), plain)
    made = files(cache)
    assert len(made) == 5  # one each: all forms are above 64 KiB
    assert np.array_equal(run(net, "second", "--pack-cache", str(cache)), plain)
    assert files(cache) == made


def test_the_folder_comes_from_the_environment_too(net):
    cache = net.parent / "cache"
    run(net, "out", env={"ONNXD_PACK_CACHE": str(cache)})
    assert files(cache)


def test_a_damaged_file_is_made_anew(net):
    plain = run(net, "plain")
    cache = net.parent / "cache"
    run(net, "first", "--pack-cache", str(cache))
    for f in cache.iterdir():
        bytes_ = bytearray(f.read_bytes())
        bytes_[-100] ^= 1
        f.write_bytes(bytes_)
    damaged = files(cache)
    assert np.array_equal(run(net, "second", "--pack-cache", str(cache)), plain)
    assert all(files(cache)[name] != was for name, was in damaged.items())


def test_other_weights_find_no_files_of_these(net):
    cache = net.parent / "cache"
    run(net, "first", "--pack-cache", str(cache))
    made = files(cache)
    other = Net()
    other.rng = np.random.default_rng(8)
    other.save(str(net), other.add("Conv", other.input("x", 1, 32, 14, 14), other.weight(64, 32, 3, 3)))
    assert np.array_equal(run(net, "other", "--pack-cache", str(cache)), run(net, "plain"))
    assert len(files(cache)) == len(made) + 1


def weights(net, value):
    """The bytes of a network of one product whose weights are all `value`."""
    n = Net()
    n.save(str(net), n.add("MatMul", n.add("Flatten", n.input("x", 1, 32, 14, 14)), n.const(np.full((6272, 16), value, np.float32))))
    return net.read_bytes()


def test_a_model_whose_bytes_change_in_place_is_read_again(net):
    """Sums of weights are kept by the file's identity, once it has been still for three seconds."""
    cache = net.parent / "cache"
    one, two = weights(net, 0.25), weights(net, 0.5)
    answers = []
    for content in (one, two):
        was = net.stat()
        with open(net, "r+b") as f:
            assert f.write(content) == was.st_size
        os.utime(net, ns=(was.st_atime_ns, was.st_mtime_ns))
        assert net.stat().st_ino == was.st_ino
        time.sleep(3.5)
        for _ in range(2):
            answers.append(run(net, "out%d" % len(answers), "--pack-cache", str(cache)))
        assert list(cache.glob("*.sums"))
    assert np.array_equal(answers[0], answers[1]) and np.array_equal(answers[2], answers[3])
    assert np.allclose(answers[2], 2 * answers[0])


def test_a_file_that_lost_its_time_is_looked_through_and_gets_it_back(net):
    cache = net.parent / "cache"
    plain = run(net, "first", "--pack-cache", str(cache))
    made = files(cache)
    for f in cache.iterdir():
        os.utime(f)
    assert np.array_equal(run(net, "second", "--pack-cache", str(cache)), plain)
    assert files(cache) == made
