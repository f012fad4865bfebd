"""tools/bad_inputs.py, which tries bad models, cards, pictures, tensors and requests, finds every one refused."""
import subprocess
import sys


def test_every_bad_input_is_refused_and_the_server_goes_on(root, onnxd):
    done = subprocess.run([sys.executable, "tools/bad_inputs.py", "--onnxd", onnxd], cwd=root, capture_output=True, text=True)
    wrong = [line for line in done.stdout.splitlines() if "**wrong**" in line]
    assert done.returncode == 0 and not wrong, "\n".join(wrong) + done.stdout[-500:] + done.stderr[-500:]
