"""What `onnxd inspect --operators` tells, and that docs/operators.md is it."""
import subprocess


def operators(onnxd, *flags):
    return subprocess.run([onnxd, "inspect", "--operators", *flags], capture_output=True, text=True, check=True).stdout


def test_the_table_of_operators_in_the_documentation_is_that_of_the_program(onnxd, root):
    assert (root / "docs" / "operators.md").read_text() == operators(onnxd, "--markdown"), "run `make docs`"


def test_each_operator_is_told_once_with_its_opsets(onnxd):
    lines = [line.split() for line in operators(onnxd).splitlines()]
    names = [tuple(line[:2]) for line in lines]
    assert len(names) == len(set(names)) > 250
    assert ["ai.onnx", "Loop", "1", "int64"] in lines
