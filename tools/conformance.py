#!/usr/bin/env python3
"""Run the ONNX project's test cases through onnxd and, side by side, through ONNX Runtime.

Cases: every node test of the installed onnx package, the small models that come with it, and Debian's
libonnx-testdata where it is installed, but for those of the domain of training, which are counted apart. Both
runtimes are held to the same tolerances. Prints both counts
and each case that ONNX Runtime passes and onnxd does not. Exit code 1 when onnxd fails a case that
tests/conformance/exceptions.txt does not list, or passes one that it lists.

    tools/conformance.py --onnxd build/onnxd [--cases DIR] [--only TEXT] [--no-ort] [--ops]
"""
import argparse
import collections
import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess
import sys

DEBIAN = "/usr/share/libonnx-testdata/data"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RTOL, ATOL = 1e-3, 1e-7
TRAINING = b"ai.onnx.preview.training"


# ---- making the cases ----------------------------------------------------------------------


def to_bytes(value, type_proto):
    """The wire form of a value of a test case."""
    import onnx
    from onnx import numpy_helper

    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString()
    kind = type_proto.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value).SerializeToString()
    if kind == "optional_type":
        return numpy_helper.from_optional(value).SerializeToString()
    if kind == "map_type":
        return numpy_helper.from_dict(value).SerializeToString()
    return numpy_helper.from_array(value).SerializeToString()


def write_case(case, folder):
    os.makedirs(folder)
    with open(os.path.join(folder, "model.onnx"), "wb") as f:
        f.write(case.model.SerializeToString())
    if (case.rtol, case.atol) != (RTOL, ATOL):
        with open(os.path.join(folder, "data.json"), "w") as f:
            json.dump({"rtol": case.rtol, "atol": case.atol}, f)
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = os.path.join(folder, f"test_data_set_{i}")
        os.makedirs(data)
        graph = case.model.graph
        for what, values, infos in (("input", inputs, graph.input), ("output", outputs, graph.output)):
            for j, value in enumerate(values):
                with open(os.path.join(data, f"{what}_{j}.pb"), "wb") as f:
                    f.write(to_bytes(value, infos[j].type))


def copy_light(data, target):
    """The package's full-size networks with made-up weights: one input, made as its own runner does."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    for path in sorted(glob.glob(os.path.join(data, "light", "*.onnx"))):
        name = os.path.basename(path)[: -len(".onnx")]
        wanted = path[: -len(".onnx")] + "_output_0.pb"
        if not os.path.exists(wanted):
            continue
        model = onnx.load(path)
        made = {i.name for i in model.graph.initializer}
        folder = os.path.join(target, "light", "test_" + name)
        os.makedirs(os.path.join(folder, "test_data_set_0"))
        shutil.copy(path, os.path.join(folder, "model.onnx"))
        shutil.copy(wanted, os.path.join(folder, "test_data_set_0", "output_0.pb"))
        infos = [i for i in model.graph.input if i.name not in made]
        for j, info in enumerate(infos):
            shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
            n = int(np.prod(shape))
            value = (np.arange(n).reshape(shape) / n).astype(np.float32)
            with open(os.path.join(folder, "test_data_set_0", f"input_{j}.pb"), "wb") as f:
                f.write(numpy_helper.from_array(value, info.name).SerializeToString())


def make_cases(target):
    import onnx
    from onnx.backend.test.loader import load_node_model_tests

    part = target + ".part"
    shutil.rmtree(part, ignore_errors=True)
    for case in load_node_model_tests():
        write_case(case, os.path.join(part, "node", case.name))
    data = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        if os.path.isdir(os.path.join(data, kind)):
            shutil.copytree(os.path.join(data, kind), os.path.join(part, kind))
    copy_light(data, part)
    os.rename(part, target)


def find_cases(roots, only):
    found = []
    for root in roots:
        for path in glob.glob(os.path.join(root, "**", "model.onnx"), recursive=True):
            folder = os.path.dirname(path)
            if only in folder and glob.glob(os.path.join(folder, "test_data_set*")):
                found.append(folder)
    return sorted(found)


def without_training(cases):
    """The cases whose model needs no operator of training."""
    kept = []
    for case in cases:
        with open(os.path.join(case, "model.onnx"), "rb") as f:
            if TRAINING not in f.read(1 << 20):
                kept.append(case)
    return kept


# ---- running them --------------------------------------------------------------------------


def run_onnxd(onnxd, exceptions, cases, threads):
    """{case: (verdict, reason)}; names repeat between folders, so the order of lines tells which it is."""
    results = {}
    command = [onnxd, "verify", "--threads", str(threads)]
    if os.path.exists(exceptions):
        command += ["--exceptions", exceptions]
    for at in range(0, len(cases), 500):
        part = cases[at : at + 500]
        done = subprocess.run(command + part, capture_output=True, text=True, errors="replace")
        lines = [re.match(r"(ok|FAIL|skip) ([^ :]+)(?:: )?(.*)", s) for s in done.stdout.splitlines()]
        lines = [m for m in lines if m]
        if len(lines) != len(part):
            sys.exit(f"onnxd verify told of {len(lines)} cases, not {len(part)}: {done.stderr[-500:]}")
        for case, m in zip(part, lines):
            results[case] = (m[1], m[3])
    return results


def same(got, want, rtol, atol):
    import numpy as np

    if isinstance(want, (list, tuple)):
        if len(got) != len(want):
            raise AssertionError(f"{len(got)} elements, wanted {len(want)}")
        for g, w in zip(got, want):
            same(g, w, rtol, atol)
        return
    if want is None or isinstance(want, dict):
        if got != want:
            raise AssertionError("differs")
        return
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise AssertionError(f"shape {got.shape}, wanted {want.shape}")
    if want.dtype.kind in "OUS":
        np.testing.assert_array_equal(got.astype(object), want.astype(object))
        return
    if want.dtype.name.startswith(NARROW) and got.dtype.kind == "u" and got.dtype.itemsize == want.dtype.itemsize:
        got = got.view(want.dtype)
    if got.dtype != want.dtype:
        raise AssertionError(f"type {got.dtype}, wanted {want.dtype}")
    if want.dtype.name == "bfloat16":
        rtol, got, want = max(rtol, 2**-6), got.astype(np.float32), want.astype(np.float32)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def load_value(path, info):
    import onnx
    from onnx import numpy_helper

    with open(path, "rb") as f:
        data = f.read()
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    if kind == "map_type":
        return numpy_helper.to_dict(onnx.MapProto.FromString(data))
    return onnx.TensorProto.FromString(data)


NARROW = ("bfloat16", "float8")  # types that NumPy and ONNX Runtime share no name for: passed as bits


def to_ort(value):
    """A value as ONNX Runtime's own, or as NumPy's where it has no need of that."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    if not isinstance(value, onnx.TensorProto):
        return value
    array = numpy_helper.to_array(value)
    if array.dtype.name.startswith(SMALL):
        return value
    if not array.dtype.name.startswith(NARROW):
        return array
    bits = array.view(np.uint16 if array.dtype.itemsize == 2 else np.uint8)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, value.data_type)


def from_ort(got):
    import ctypes

    import numpy as np
    from onnx import helper

    if not hasattr(got, "is_tensor") or not got.is_tensor():
        return got
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(got.element_type()))
    if not dtype.name.startswith(NARROW):
        return got.numpy()
    data = ctypes.string_at(got.data_ptr(), got.tensor_size_in_bytes())
    return np.frombuffer(data, dtype).reshape(got.shape())


def ort_run(session, feed):
    """Plain NumPy where that works; the narrow types only pass as ONNX Runtime's own values."""
    import numpy as np
    import onnxruntime

    own = onnxruntime.OrtValue
    try:
        if not any(isinstance(v, own) for v in feed.values()):
            return session.run(None, feed)
    except Exception:
        if not all(isinstance(v, np.ndarray) and v.dtype.kind not in "OUS" for v in feed.values()):
            raise
    values = {k: v if isinstance(v, own) else own.ortvalue_from_numpy(v) for k, v in feed.items()}
    return [from_ort(v) for v in session.run_with_ort_values(None, values)]


SMALL = ("int4", "uint4", "int2", "uint2", "float4")  # types that its Python interface cannot pass at all


def without_small(model, feed):
    """The same model with inputs of such types as initializers, and a Cast behind such outputs."""
    import numpy as np
    from onnx import TensorProto, helper

    graph = model.graph
    for info in list(graph.input):
        if info.name in feed and isinstance(feed[info.name], TensorProto):
            graph.initializer.append(feed.pop(info.name))
            graph.initializer[-1].name = info.name
            graph.input.remove(info)
    for info in graph.output:
        kind = info.type.tensor_type.elem_type
        if info.type.WhichOneof("value") != "tensor_type" or not kind:
            continue
        name = np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name
        if name.startswith(SMALL):
            wide = TensorProto.FLOAT if name.startswith("float") else TensorProto.INT32
            graph.node.append(helper.make_node("Cast", [info.name], [info.name + "_wide"], to=wide))
            info.name += "_wide"
            info.type.tensor_type.elem_type = wide
    return model


def ort_check(folder):
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    path = os.path.join(folder, "model.onnx")
    rtol, atol = RTOL, ATOL
    if os.path.exists(os.path.join(folder, "data.json")):
        with open(os.path.join(folder, "data.json")) as f:
            data = json.load(f)
        rtol, atol = data.get("rtol", rtol), data.get("atol", atol)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    for data in sorted(glob.glob(os.path.join(folder, "test_data_set*"))):
        model = onnx.load(path)
        made = {i.name for i in model.graph.initializer} if model.ir_version < 4 else set()
        feed = {}
        for i, info in enumerate(i for i in model.graph.input if i.name not in made):
            value = os.path.join(data, f"input_{i}.pb")
            if os.path.exists(value):
                feed[info.name] = to_ort(load_value(value, info))
        wanted = [load_value(os.path.join(data, f"output_{i}.pb"), v) for i, v in enumerate(model.graph.output)]
        bytes_ = without_small(model, feed).SerializeToString()
        source = bytes_ if len(bytes_) < 1 << 30 else path
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        for got, want in zip(ort_run(session, feed), wanted, strict=True):
            want = numpy_helper.to_array(want) if isinstance(want, onnx.TensorProto) else want
            if getattr(want, "dtype", np.dtype("f4")).name.startswith(SMALL):
                want = want.astype(np.float32 if want.dtype.name.startswith("float") else np.int32)
            same(got, want, rtol, atol)


def ort_case(folder):
    """ONNX Runtime's verdict on one case: "" or the reason."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        ort_check(folder)
        return ""
    except Exception as e:  # the runtime and NumPy raise many kinds
        return f"{type(e).__name__}: {str(e)[:300]}"


def ort_alone(case):
    code = "import conformance, sys; print(conformance.ort_case(sys.argv[1]))"
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        done = subprocess.run([sys.executable, "-c", code, case], cwd=here, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return "not done after 300 seconds"
    return done.stdout.strip() if done.returncode == 0 else f"crashed ({done.returncode})"


def run_ort(cases, jobs):
    """{case: reason}. Some cases crash the runtime, so processes work through parts of the list; what is
    left of a part that crashed is run one by one."""
    results = {}
    parts = [cases[i : i + 50] for i in range(0, len(cases), 50)]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for part, done in zip(parts, pool.map(ort_part, parts)):
            results.update(done)
            for case in part:
                if case not in results:
                    results[case] = ort_alone(case)
    return results


def ort_part(part):
    code = (
        "import conformance, json, sys\n"
        "for case in sys.argv[1:]: print(json.dumps([case, conformance.ort_case(case)]), flush=True)"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run([sys.executable, "-c", code, *part], cwd=here, capture_output=True, text=True)
    return dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


# ---- telling -------------------------------------------------------------------------------


def operators(folder):
    import onnx

    model = onnx.load(os.path.join(folder, "model.onnx"), load_external_data=False)
    return sorted({n.op_type for n in model.graph.node})


def report(cases, ours, theirs, by_operator):
    counts = collections.Counter(verdict for verdict, _ in ours.values())
    for case in cases:
        verdict, reason = ours[case]
        if verdict == "FAIL":
            beside = "" if theirs is None else ("  [ort passes]" if not theirs[case] else "  [ort fails too]")
            print(f"FAIL {os.path.relpath(case, os.path.dirname(os.path.dirname(case)))}: {reason}{beside}")
    if by_operator:
        failing = collections.Counter(op for c in cases if ours[c][0] == "FAIL" for op in operators(c))
        for op, n in failing.most_common():
            print(f"{n:5} failing cases use {op}")
    if theirs is not None:
        ort_passed = sum(not r for r in theirs.values())
        missed = sum(ours[c][0] != "ok" and not theirs[c] for c in cases)
        ahead = sum(ours[c][0] == "ok" and bool(theirs[c]) for c in cases)
        print(f"onnxd passes {counts['ok']} of {len(cases)}, ONNX Runtime {ort_passed}")
        print(f"ONNX Runtime alone passes {missed}, onnxd alone {ahead}")
    print(f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    return 1 if counts["FAIL"] else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--onnxd", default=os.path.join(ROOT, "build", "onnxd"))
    p.add_argument("--cases", default=os.path.join(ROOT, "build", "conformance"), help="made when absent")
    p.add_argument("--only", default="", help="cases whose path has this in it")
    p.add_argument("--no-ort", action="store_true", help="onnxd alone")
    p.add_argument("--ops", action="store_true", help="count failures by operator")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    args = p.parse_args()
    if not os.path.isdir(args.cases):
        make_cases(args.cases)
    roots = [args.cases] + ([DEBIAN] if os.path.isdir(DEBIAN) else [])
    cases = find_cases(roots, args.only)
    if not cases:
        sys.exit(f"no cases with '{args.only}' in their path")
    found, cases = len(cases), without_training(cases)
    if len(cases) < found:
        print(f"{found - len(cases)} cases of {TRAINING.decode()} left out: onnxd does not train")
    exceptions = os.path.join(ROOT, "tests", "conformance", "exceptions.txt")
    ours = run_onnxd(args.onnxd, exceptions, cases, args.threads)
    theirs = None if args.no_ort else run_ort(cases, args.jobs)
    sys.exit(report(cases, ours, theirs, args.ops))


if __name__ == "__main__":
    main()
