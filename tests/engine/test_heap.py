"""Runs take nothing from the heap or the system once their shapes have been seen, and plans of many shapes stay few."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from test_passes import Net

ZOO = pathlib.Path(os.environ.get("ONNXD_ZOO", pathlib.Path(__file__).resolve().parents[3] / "shared" / "zoo"))
# of different kinds: convolutions, recurrent, int8, indices, attention over windows, branches and shapes that follow from
# values, a loop, groups, transposed convolutions, a language model, samples of a grid. ONNXD_HEAP=all: the whole zoo.
MODELS = ["convnextv2_atto", "crnn_sed", "qdq_resnet", "dmpnn_chemprop", "iterref_lstm_oneshot", "geo_swin_biomass", "fasterrcnn_mobilenet_v3_320",
          "umamba_bot_loop", "diffit", "dcgan_generator", "t5_small_like", "codenet_centernet", "qdq_hybrid_vit", "squeezeformer", "mmdenselstm"]
if os.environ.get("ONNXD_HEAP") == "all" and (ZOO / "models").is_dir():
    MODELS = sorted(p.stem for p in (ZOO / "models").glob("*.onnx"))


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """The library to preload."""
    cc = shutil.which("cc") or shutil.which("gcc")
    if not cc:
        pytest.skip("no C compiler")
    out = tmp_path_factory.mktemp("heap") / "count_heap.so"
    subprocess.run([cc, "-O1", "-shared", "-fPIC", "-o", str(out), str(pathlib.Path(__file__).parent / "count_heap.c"), "-ldl"], check=True)
    return out


class Bench:
    """`onnxd bench --paced` on inputs in a folder, with its calls for memory counted."""

    def __init__(self, onnxd, counter, tmp, model, inputs, threads):
        self.number = tmp / "count"
        self.number.write_bytes(bytes(8))
        self.tmp, self.folders = tmp, 0
        env = dict(os.environ, LD_PRELOAD=str(counter), COUNT_HEAP=str(self.number))
        self.p = subprocess.Popen([onnxd, "bench", str(model), "--paced", "--threads", str(threads), "--inputs", self.write(inputs)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.read()

    def write(self, inputs):
        folder = self.tmp / ("in%d" % self.folders)
        folder.mkdir()
        self.folders += 1
        for k, x in enumerate(inputs):
            np.save(folder / ("%d.npy" % k), x)
        return str(folder)

    def read(self):
        line = self.p.stdout.readline()
        assert line, "onnxd ended"
        return json.loads(line)

    def ask(self, line):
        self.p.stdin.write("%s\n" % line)
        self.p.stdin.flush()
        return self.read()

    def taken(self, runs):
        before = self.count()
        self.ask(runs)
        return self.count() - before

    def count(self):
        return int.from_bytes(self.number.read_bytes(), "little")

    def close(self):
        self.p.stdin.close()
        assert self.p.wait(30) == 0


def check(onnxd, counter, tmp, model, inputs):
    for threads in (1, 2):
        folder = tmp / str(threads)
        folder.mkdir()
        b = Bench(onnxd, counter, folder, model, inputs, threads)
        assert b.count() > 20, "the counter does not count"
        b.ask(2)
        assert b.taken(20) == b.taken(1)  # what telling of them takes
        b.close()


def small_net(path):
    n = Net()
    x = n.add("Relu", n.add("Conv", n.input("x", "N", 8, 20, 20), n.weight(16, 8, 3, 3), pads=[1, 1, 1, 1]))  # Winograd
    x = n.add("Conv", x, n.weight(16, 1, 5, 5), group=16, pads=[2, 2, 2, 2])
    x = n.add("Concat", n.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), n.add("Conv", x, n.weight(16, 16, 2, 2), strides=[2, 2]), axis=1)
    x = n.add("Softmax", n.add("Gemm", n.add("Flatten", n.add("GlobalAveragePool", x)), n.weight(32, 10)), axis=1)
    n.save(str(path), x)
    return path


def test_runs_of_a_small_network_take_nothing(onnxd, counter, tmp_path):
    model = small_net(tmp_path / "net.onnx")
    check(onnxd, counter, tmp_path, model, [np.ones((3, 8, 20, 20), np.float32)])


def test_plans_of_many_shapes_stay_few(onnxd, counter, tmp_path):
    model = small_net(tmp_path / "net.onnx")
    image = lambda batch: [np.ones((batch, 8, 20, 20), np.float32)]
    b = Bench(onnxd, counter, tmp_path, model, image(64), 1)
    sizes = []
    for batch in list(range(1, 41)) * 2:
        b.ask(b.write(image(batch)))
        sizes.append(b.ask(3)["growth_mb"])
    b.close()
    assert sizes[-1] - sizes[39] < 1.0, sizes  # MiB: the second time through adds nothing


I = np.int64


def loop(n, x):
    info = lambda name, kind, dims=None: onnx.helper.make_tensor_value_info(name, kind, dims)
    t, node = onnx.TensorProto, onnx.helper.make_node
    nodes = [node("Identity", ["go"], ["on"]), node("Tanh", ["s"], ["e"]), node("Add", ["s", "e"], ["u"])]
    body = onnx.helper.make_graph(nodes, "body", [info("i", t.INT64, []), info("go", t.BOOL, []), info("s", t.FLOAT)],
                                  [info("on", t.BOOL, []), info("u", t.FLOAT), info("e", t.FLOAT)])
    state, kept = n.add("Loop", n.const(3, I), "", x, body=body, outputs=2)
    return n.add("Add", state, n.add("ReduceSum", kept))


OPERATORS = {
    "Einsum": lambda n, x: n.add("Einsum", x, n.weight(12, 5), equation="abcd,de->aceb"),
    "DFT": lambda n, x: n.add("DFT", n.add("Unsqueeze", x, n.const([4], I)), axis=2),
    "LSTM": lambda n, x: n.add("LSTM", n.add("Reshape", x, n.const([12, -1, 12], I)), n.weight(2, 24, 12), n.weight(2, 24, 6), hidden_size=6, direction="bidirectional"),
    "GRU": lambda n, x: n.add("GRU", n.add("Reshape", x, n.const([12, -1, 12], I)), n.weight(1, 18, 12), n.weight(1, 18, 6), hidden_size=6),
    "NonZero": lambda n, x: n.add("GatherND", x, n.add("Transpose", n.add("NonZero", n.add("Relu", x)))),
    "TopK": lambda n, x: n.add("TopK", x, n.const([5], I), outputs=2)[0],
    "Unique": lambda n, x: n.add("Unique", x),
    "CumSum": lambda n, x: n.add("CumSum", x, n.const(2, I)),
    "ScatterND": lambda n, x: n.add("ScatterND", x, n.const([[0, 1], [0, 3]], I), n.weight(2, 12, 12)),
    "GridSample": lambda n, x: n.add("GridSample", x, n.weight(3, 5, 5, 2)),
    "Resize": lambda n, x: n.add("Resize", x, "", n.const([1, 1, 1.5, 2]), mode="cubic"),
    "RoiAlign": lambda n, x: n.add("RoiAlign", x, n.const([[0, 0, 7, 7], [2, 2, 9, 9]]), n.const([0, 2], I), output_height=3, output_width=3, sampling_ratio=2),
    "Det": lambda n, x: n.add("Det", x),
    "LRN": lambda n, x: n.add("LRN", x, size=3),
    "Sequence": lambda n, x: n.add("ConcatFromSequence", n.add("SplitToSequence", x, n.const(4, I), axis=2), axis=3),
    "Loop": loop,
    "Compress": lambda n, x: n.add("Compress", x, n.const([True, False, True], bool), axis=1),
    "OneHot": lambda n, x: n.add("OneHot", n.add("ArgMax", x, axis=1), n.const(8, I), n.const([0, 1])),
    "Pow": lambda n, x: n.add("Pow", n.add("Abs", x), n.weight(12)),
    "LogSoftmax": lambda n, x: n.add("LogSoftmax", x, axis=1),
    "Hardmax": lambda n, x: n.add("Hardmax", x, axis=2),
    "MaxRoiPool": lambda n, x: n.add("MaxRoiPool", x, n.const([[0, 0, 0, 7, 7]]), pooled_shape=[2, 2]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_runs_of_an_operator_take_nothing(onnxd, counter, tmp_path, name):
    n = Net()
    y = OPERATORS[name](n, n.input("x", "N", 8, 12, 12))
    n.save(str(tmp_path / "net.onnx"), y)
    check(onnxd, counter, tmp_path, tmp_path / "net.onnx", [np.random.default_rng(1).standard_normal((3, 8, 12, 12)).astype(np.float32)])


@pytest.mark.parametrize("name", MODELS)
def test_runs_take_nothing(onnxd, counter, tmp_path, name):
    if not (ZOO / "models" / (name + ".onnx")).exists():
        pytest.skip("no zoo, or not this model")
    sys.path.insert(0, str(ZOO))
    import zooinput
    import zoolib
    model = tmp_path / "model.onnx"
    onnx.save(zoolib.fill(zoolib.load_stripped(str(ZOO / "models" / (name + ".onnx")))), str(model))
    spec = json.loads((ZOO / "inputs.json").read_text())[name]
    check(onnxd, counter, tmp_path, model, [zooinput.example(s) for s in spec["inputs"]])
