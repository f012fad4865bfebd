"""engine/schemas.c is what the installed onnx and onnxruntime say."""
import subprocess
import sys


def test_the_table_of_schemas_is_up_to_date(root):
    done = subprocess.run([sys.executable, "tools/make_schemas.py", "--check"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
