"""--tune: forms of convolutions are measured, kept with the packed weights, and change nothing but rounding."""
import subprocess

import numpy as np
import pytest

from test_passes import ONNXD, Net, feed


@pytest.fixture
def net(tmp_path):
    n = Net()
    x = n.add("Relu", n.add("Conv", n.input("x", 1, 16, 24, 24), n.weight(32, 16, 3, 3), pads=[1, 1, 1, 1]))
    x = n.add("Conv", x, n.weight(32, 32, 3, 3), pads=[1, 1, 1, 1])
    x = n.add("Conv", x, n.weight(8, 32, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])  # has one form
    n.save(str(tmp_path / "net.onnx"), x)
    np.save(tmp_path / "x.npy", feed(1, 16, 24, 24))
    return tmp_path / "net.onnx"


def run(net, out, *extra):
    args = [ONNXD, "run", str(net), "--input", "x=%s" % (net.parent / "x.npy"), "--output-dir", str(net.parent / out)]
    subprocess.run(args + list(extra), check=True, timeout=60)
    (path,) = (net.parent / out).glob("0_*.npy")
    return np.load(path)


def lines(cache):
    (path,) = cache.glob("tune_*.txt")
    return path, path.read_text().splitlines()


def test_tuned_answers_are_those_of_the_table_but_for_rounding(net):
    plain, tuned = run(net, "plain"), run(net, "tuned", "--tune")
    assert np.abs(plain - tuned).max() < 1e-4 * np.abs(plain).max()


def test_what_was_found_is_kept_and_used(net):
    cache = net.parent / "cache"
    first = run(net, "first", "--tune", "--pack-cache", str(cache), "--threads", "1")
    path, found = lines(cache)
    assert sorted(line.rsplit(" ", 1)[0] for line in found) == ["1 24 24 16 32 1", "1 24 24 32 32 1"]
    assert np.array_equal(run(net, "second", "--tune", "--pack-cache", str(cache), "--threads", "1"), first)
    assert lines(cache)[1] == found


@pytest.mark.parametrize("form", [0, 2, 4])
def test_the_file_decides(net, form):
    cache = net.parent / "cache"
    run(net, "first", "--tune", "--pack-cache", str(cache), "--threads", "1")
    path, found = lines(cache)
    path.write_text("".join("%s %d\n" % (line.rsplit(" ", 1)[0], form) for line in found))
    before = {f.name for f in cache.iterdir()}
    out = run(net, "second", "--tune", "--pack-cache", str(cache), "--threads", "1")
    plain = run(net, "plain")
    assert np.abs(plain - out).max() < 1e-4 * np.abs(plain).max()
    assert lines(cache)[1] == path.read_text().splitlines() and before <= {f.name for f in cache.iterdir()}


def test_a_file_of_nonsense_is_measured_anew(net):
    cache = net.parent / "cache"
    run(net, "first", "--tune", "--pack-cache", str(cache), "--threads", "1")
    path, found = lines(cache)
    path.write_text("1 24 24 16 32 1 3\n1 24 24 32 32 1 -7\nwhat is this\n")
    plain, out = run(net, "plain"), run(net, "second", "--tune", "--pack-cache", str(cache), "--threads", "1")
    assert np.abs(plain - out).max() < 1e-4 * np.abs(plain).max()
    assert len(lines(cache)[1]) == 5
