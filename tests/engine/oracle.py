"""Single operators and small graphs through `onnxd verify`, against what ONNX Runtime or NumPy says."""
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(4)


def tensor_info(name, value):
    kind = TensorProto.STRING if value.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, value.shape)


def make_model(nodes, feeds, outputs, opset=17, ml=3, infos=None, initializers=()):
    """A model of `nodes`; inputs are declared as `feeds` are, or by `infos`; outputs are (name, type or None)."""
    inputs = [(infos or {}).get(k) or tensor_info(k, v) for k, v in feeds.items()]
    outs = [o if isinstance(o, onnx.ValueInfoProto) else helper.make_tensor_value_info(*o, None) for o in outputs]
    graph = helper.make_graph(nodes, "g", inputs, outs, list(initializers))
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ml)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def ort(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def map_proto(value):
    """A dictionary of floats; NumPy's own way to MapProto knows no text as keys."""
    m = onnx.MapProto()
    if isinstance(next(iter(value)), str):
        m.key_type = TensorProto.STRING
        m.string_keys.extend(k.encode() for k in value)
    else:
        m.key_type = TensorProto.INT64
        m.keys.extend(value)
    values = [numpy_helper.from_array(np.array(v, np.float32)) for v in value.values()]
    m.values.CopyFrom(onnx.SequenceProto(elem_type=onnx.SequenceProto.TENSOR, tensor_values=values))
    return m


def value_bytes(value):
    if isinstance(value, dict):
        return map_proto(value).SerializeToString()
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            maps = [map_proto(d) for d in value]
            return onnx.SequenceProto(elem_type=onnx.SequenceProto.MAP, map_values=maps).SerializeToString()
        return numpy_helper.from_list(value).SerializeToString()
    value = np.asarray(value)
    if value.dtype.kind in "US":
        value = value.astype(object)
    return numpy_helper.from_array(value).SerializeToString()


def verify(onnxd, folder, model, feeds, wanted, rtol=1e-4, atol=1e-6):
    """Assert that onnxd gives `wanted` for `feeds`."""
    data = pathlib.Path(folder) / "case" / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (data.parent / "model.onnx").write_bytes(model.SerializeToString())
    (data.parent / "data.json").write_text('{"rtol": %g, "atol": %g}' % (rtol, atol))
    for i, value in enumerate(feeds.values()):
        (data / f"input_{i}.pb").write_bytes(value_bytes(value))
    for i, value in enumerate(wanted):
        (data / f"output_{i}.pb").write_bytes(value_bytes(value))
    done = subprocess.run([onnxd, "verify", str(data.parent)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def refused(onnxd, folder, model, feeds):
    """onnxd's words on a model or input that it must refuse."""
    data = pathlib.Path(folder) / "case" / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (data.parent / "model.onnx").write_bytes(model.SerializeToString())
    for i, value in enumerate(feeds.values()):
        (data / f"input_{i}.pb").write_bytes(value_bytes(value))
    (data / "output_0.pb").write_bytes(value_bytes(np.zeros(1, np.float32)))
    done = subprocess.run([onnxd, "verify", str(data.parent)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "element 0" not in done.stdout, done.stdout + done.stderr
    return done.stdout


def same_as_ort(onnxd, folder, model, feeds, **tolerance):
    verify(onnxd, folder, model, feeds, ort(model, feeds), **tolerance)
