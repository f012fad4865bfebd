"""The command line: help, exit codes, and what a model and a picture may be."""
import io
import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

COMMANDS = ["serve", "predict", "run", "verify", "bench", "inspect", "health", "load-test"]


@pytest.fixture(scope="module")
def run(onnxd):
    def run(*args, **options):
        done = subprocess.run([onnxd, *map(str, args)], capture_output=True, timeout=60, **options)
        return done.returncode, done.stdout.decode(), done.stderr.decode()
    return run


def mean_of_colours(first="red"):
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["m"]), helper.make_node("Flatten", ["m"], ["y"])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 3, 32, 32]), ("y", ["n", 3]))]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), \
        {"task": "classify", "labels": [first, "green", "blue"]}


def picture(colour):
    out = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), colour, np.uint8)).save(out, "PNG")
    return out.getvalue()


def put(folder, first="red"):
    folder.mkdir(parents=True)
    model, card = mean_of_colours(first)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def model(tmp_path):
    return put(tmp_path / "colours")


@pytest.fixture
def red(tmp_path):
    (tmp_path / "red.png").write_bytes(picture((250, 10, 10)))
    return tmp_path / "red.png"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_on_standard_output_with_exit_code_0(run, command):
    code, out, err = run(command, "--help")
    assert code == 0 and out.startswith(f"usage: onnxd {command}") and not err
    assert run("help", command) == (code, out, err)


@pytest.mark.parametrize("words", [[], ["nothing"], *[[c, "--nothing"] for c in COMMANDS], ["predict"], ["predict", "model"],
                                   ["run", "model"], ["bench"], ["inspect"], ["bench", "model", "--batch", "0"]])
def test_a_wrong_command_line_is_exit_code_2(run, words):
    code, out, err = run(*words)
    assert code == 2 and err and not out


@pytest.mark.parametrize("words", [["predict", "nowhere.onnx", "x.jpg"], ["inspect", "nowhere"], ["bench", "nowhere.onnx"],
                                   ["verify", "nowhere"], ["health", "http://127.0.0.1:1"]])
def test_work_that_fails_is_exit_code_1(run, words):
    code, _, err = run(*words)
    assert code == 1 and err.startswith("onnxd: ")


def test_predict_takes_a_folder_as_serve_does(run, model, red):
    asked = run("predict", "--json", model / "model.onnx", red)
    assert asked[0] == 0 and json.loads(asked[1])["classes"][0]["label"] == "red"
    assert run("predict", "--json", model, red) == asked


def test_of_a_folder_of_versions_the_newest_is_taken(run, tmp_path, red):
    put(tmp_path / "versions" / "2", "old")
    put(tmp_path / "versions" / "10", "new")
    code, out, _ = run("predict", "--json", tmp_path / "versions", red)
    assert code == 0 and json.loads(out)["classes"][0]["label"] == "new"


def test_a_folder_without_a_model_says_so(run, tmp_path, red):
    code, _, err = run("predict", tmp_path, red)
    assert code == 1 and "no .onnx file" in err
    for name in "ab":
        onnx.save(mean_of_colours()[0], tmp_path / f"{name}.onnx")
    code, _, err = run("predict", tmp_path, red)
    assert code == 1 and "several .onnx files" in err


def test_inspect_bench_and_run_take_a_folder_too(run, model, tmp_path):
    assert run("inspect", model) == run("inspect", model / "model.onnx")
    assert run("bench", model, "--runs", "3")[0] == 0
    np.save(tmp_path / "x.npy", np.ones((1, 3, 32, 32), np.float32))
    code, _, err = run("run", model, "--input", f"x={tmp_path / 'x.npy'}", "--output-dir", tmp_path / "out")
    assert code == 0, err
    assert np.load(tmp_path / "out" / "0_y.npy").tolist() == [[1, 1, 1]]


def test_a_dash_is_standard_input(run, model):
    code, out, _ = run("predict", "--json", model, "-", input=picture((10, 10, 250)))
    assert code == 0 and json.loads(out)["classes"][0]["label"] == "blue"


def test_several_pictures_are_answered_in_order_and_a_bad_one_does_not_end_it(run, model, red, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"text")
    (tmp_path / "blue.png").write_bytes(picture((10, 10, 250)))
    code, out, err = run("predict", "--json", model, red, tmp_path / "bad.png", tmp_path / "blue.png")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [a["classes"][0]["label"] for a in answers] == ["red", "blue"]
    assert [a["image"] for a in answers] == [str(red), str(tmp_path / "blue.png")]
    assert code == 1 and err.startswith(f"onnxd: {tmp_path / 'bad.png'}: ")
