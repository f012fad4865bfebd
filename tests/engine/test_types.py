"""Every operator of ai.onnx and ai.onnx.ml, in every version and every type that its schema allows, runs; and the
newest version gives what the onnx package's reference evaluator gives, where that one can.

Each case is one node, made from the onnx package's own node test of that operator (or from MORE below) by turning
the inputs of one type constraint into another type and the attributes and inputs into the form of that version.
What does not run must be listed, with its reason, in types.txt. Alone, `tests/engine/test_types.py [--only TEXT]`
prints what is missing."""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
from onnx import TensorProto, checker, defs, helper, numpy_helper, shape_inference

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
LISTED = HERE / "types.txt"
DOMAINS = ("", "ai.onnx.ml")
# The package's test to start from, where not the one with the most inputs.
PREFERRED = {"Pad": "test_constant_pad", "Reshape": "test_reshape_reordered_all_dims", "ScatterND": "test_scatternd", "PRelu": "test_prelu_example",
             "TfIdfVectorizer": "test_tfidfvectorizer_tf_only_bigrams_skip0", "Resize": "test_resize_upsample_scales_nearest",
             "GridSample": "test_gridsample_nearest", "Dropout": "test_dropout_default_ratio", "ScatterElements": "test_scatter_elements_without_axis"}
# What the evaluator itself gets wrong, or answers in another type than the schema's; random numbers.
NOT_COMPARED = [r"AffineGrid-.*", r"Det-.*bfloat16.*", r"ai.onnx.ml.(DictVectorizer|FeatureVectorizer|Linear.*|Normalizer|SVM.*|Scaler)-.*",
                r"LayerNormalization-.* T=.*", r"ReduceSumSquare-.*int32.*", r"DequantizeLinear-.*float4.*", r"SequenceMap-.*", r"(If|Optional)-.*optional.*", r"QLinearMatMul-.*fnuz.*"]
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
TYPES = {s.lower(): n for s, n in TensorProto.DataType.items()}
NARROW = {"bfloat16": 5e-2, "float16": 1e-2, "float": 1e-3, "double": 1e-6}


# ---- where the cases come from -------------------------------------------------------------


def f(*values):
    return np.array(values, np.float32)


def node(op, feeds, outputs=("y",), domain="", **attrs):
    return helper.make_node(op, list(feeds), list(outputs), domain=domain, **attrs), list(feeds.values())


SEQUENCE = [f(1, 2, 3), f(4, 5, 6)]
TREE = dict(nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.5, 0.0, 0.0],
            nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0])
X = f(1, 2, 3, 4, 5, 6).reshape(3, 2)
I64 = np.array


def more():
    """Operators for which the package has no test of one node."""
    ml = "ai.onnx.ml"
    yield node("ConcatFromSequence", {"s": SEQUENCE}, axis=0)
    yield node("SequenceAt", {"s": SEQUENCE, "i": I64(1)})
    yield node("SequenceErase", {"s": SEQUENCE, "i": I64(1)})
    yield node("SequenceLength", {"s": SEQUENCE})
    yield node("SequenceConstruct", {"a": f(1, 2), "b": f(3)})
    yield node("SequenceEmpty", {}, dtype=TensorProto.FLOAT)
    yield node("Optional", {"x": f(1, 2)})
    yield node("GlobalLpPool", {"x": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)})
    yield node("MaxRoiPool", {"x": np.arange(72, dtype=np.float32).reshape(1, 2, 6, 6), "r": f(0, 0, 0, 3, 4).reshape(1, 5)}, pooled_shape=[2, 2])
    yield node("Multinomial", {"x": f(0.5, 0.5).reshape(1, 2)})
    for op in ("RandomNormal", "RandomUniform"):
        yield node(op, {}, shape=[2, 3], dtype=1)
        yield node(op + "Like", {"x": X}, dtype=1)
    yield node("FeatureVectorizer", {"a": X, "b": X}, domain=ml, inputdimensions=[2, 2])
    yield node("Imputer", {"x": X}, domain=ml, imputed_value_floats=[7.0], replaced_value_float=3.0, imputed_value_int64s=[7], replaced_value_int64=3)
    yield node("LinearClassifier", {"x": X}, ("y", "z"), domain=ml, coefficients=[0.5, 1, -1, 1], intercepts=[0.0, 1], classlabels_ints=[0, 1])
    yield node("LinearRegressor", {"x": X}, domain=ml, coefficients=[0.5, 1], intercepts=[2.0])
    yield node("Normalizer", {"x": X}, domain=ml, norm="L2")
    yield node("OneHotEncoder", {"x": f(1, 2, 3)}, domain=ml, cats_int64s=[1, 2, 3], cats_strings=["1", "2", "3"])
    yield node("Scaler", {"x": X}, domain=ml, offset=[1.0, 2], scale=[0.5, 2])
    yield node("SVMRegressor", {"x": X}, domain=ml, coefficients=[0.5, -1], support_vectors=[1.0, 2, 3, 4], n_supports=2, rho=[0.5],
               kernel_type="LINEAR", kernel_params=[1.0, 0, 3])
    yield node("SVMClassifier", {"x": X}, ("y", "z"), domain=ml, coefficients=[0.5, -1], support_vectors=[1.0, 2, 3, 4], vectors_per_class=[1, 1],
               rho=[0.5], classlabels_ints=[0, 1], kernel_type="LINEAR", kernel_params=[1.0, 0, 3])
    yield node("TreeEnsembleRegressor", {"x": X}, domain=ml, target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0],
               target_weights=[1.0, 2], n_targets=1, **TREE)
    yield node("TreeEnsembleClassifier", {"x": X}, ("y", "z"), domain=ml, class_treeids=[0, 0], class_nodeids=[1, 2], class_ids=[0, 1],
               class_weights=[1.0, 2], classlabels_int64s=[0, 1], **TREE)
    yield node("CategoryMapper", {"x": I64([1, 2])}, domain=ml, cats_int64s=[1, 2], cats_strings=["a", "b"])
    yield node("ZipMap", {"x": X}, domain=ml, classlabels_int64s=[1, 2])
    yield node("CastMap", {"x": {1: 0.5, 3: 2.0}}, domain=ml)
    yield node("DictVectorizer", {"x": {1: 0.5, 3: 2.0}}, domain=ml, int64_vocabulary=[1, 2, 3], string_vocabulary=["1", "2", "3"])


def templates():
    """(domain, operator) -> a node and the values of its inputs."""
    from onnx.backend.test.loader import load_node_model_tests

    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_node_model_tests()
    for case in cases:
        n = case.model.graph.node
        if len(n) != 1 or n[0].domain not in DOMAINS:
            continue
        key = (n[0].domain, n[0].op_type)
        values = [numpy_helper.to_array(v) if isinstance(v, TensorProto) else v for v in case.data_sets[0][0]]
        size = sum(np.size(v) for v in values if not isinstance(v, list))
        floats = any(getattr(v, "dtype", None) == np.float32 for v in values)
        rank = (case.name != PREFERRED.get(n[0].op_type, case.name), not floats, size > 4096, -len([i for i in n[0].input if i]), size)
        if key not in found or rank < found[key][0]:
            given = [i.name for i in case.model.graph.input]
            found[key] = (rank, n[0], dict(zip(given, values)))
    made = {k: (n, [feeds.get(i) for i in n.input]) for k, (_, n, feeds) in found.items()}
    for n, values in more():
        made[n.domain, n.op_type] = (n, values)
    return made


# ---- one case ------------------------------------------------------------------------------


def np_type(name):
    return np.dtype(helper.tensor_dtype_to_np_dtype(TYPES[name]))


def turned(value, name):
    """The values of an array in another type, sensible for it."""
    value = np.asarray(value)
    kind = np_type(name)
    if name == "string":
        return value.astype(np.float64).round(2).astype(str).astype(object) if value.dtype.kind not in "OUS" else value
    if value.dtype.kind in "OUS":
        value = np.arange(value.size, dtype=np.float64).reshape(value.shape)
    wide = value.astype(np.complex128 if value.dtype.kind == "c" else np.float64)
    if kind.kind == "b":
        return wide.real > 0
    if name.startswith("complex"):
        return wide.astype(kind)
    wide = np.nan_to_num(wide.real, nan=0, posinf=1, neginf=-1)
    if kind.kind in "iu" or name.startswith(("int", "uint")):
        bits = int(re.sub(r"\D", "", name))
        lo, hi = (0, 2 ** min(bits, 31) - 1) if name[0] == "u" else (-(2 ** (min(bits, 32) - 1)), 2 ** (min(bits, 32) - 1) - 1)
        wide = np.clip(wide.round(), lo, hi)
    return wide.astype(kind)


class NotMade(Exception):
    pass


def retyped(value, kind):
    """`value` as the type that a schema writes as tensor(float), seq(tensor(float)) and so on."""
    inner = re.fullmatch(r"tensor\((\w+)\)", kind)
    if inner:
        while isinstance(value, list):
            value = value[0]
        return value if isinstance(value, np.ndarray) and np_type(inner[1]) == value.dtype else turned(value, inner[1])
    inner = re.fullmatch(r"seq\((tensor\(\w+\))\)", kind)
    if inner:
        return [retyped(v, inner[1]) for v in (value if isinstance(value, list) else [value])]
    inner = re.fullmatch(r"optional\((.+)\)", kind)
    if inner:
        return retyped(value, inner[1])
    raise NotMade("a value of type " + kind)


def type_proto(value, kind=None):
    if kind and kind.startswith("optional("):
        return helper.make_optional_type_proto(type_proto(value, kind[9:-1]))
    if isinstance(value, list):
        return helper.make_sequence_type_proto(type_proto(value[0]))
    if isinstance(value, dict):
        key = TensorProto.STRING if isinstance(next(iter(value)), str) else TensorProto.INT64
        return helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    value = np.asarray(value)
    kind = TensorProto.STRING if value.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_type_proto(kind, value.shape)


def formal(ports, i):
    """The declaration of input or output i; the last may repeat."""
    return ports[i] if i < len(ports) else ports[-1] if ports and ports[-1].option == defs.OpSchema.FormalParameterOption.Variadic else None


ATTR_OF_INPUT = {"k": "k", "pads": "pads", "repeats": "repeats"}


def as_attribute(schema, newest, i, value):
    """(name, value) of the attribute that an input was in an older version, or None."""
    port = formal(newest.inputs, i)
    name = port.name.lower() if port else ""
    for attr in schema.attributes.values():
        if attr.name.lower() in (name, "paddings" if name == "pads" else name):
            value = np.asarray(value)
            kind = attr.type
            T = defs.OpSchema.AttrType
            if kind in (T.INTS, T.INT):
                ints = [int(x) for x in value.reshape(-1)]
                return attr.name, ints if kind == T.INTS else ints[0]
            if kind in (T.FLOATS, T.FLOAT):
                floats = [float(x) for x in value.reshape(-1)]
                return attr.name, floats if kind == T.FLOATS else floats[0]
    return None


WANTED_TYPE = ("to", "dtype", "output_dtype", "output_datatype")


def make_case(schema, newest, template, choice):
    """A model of one node of `schema` with its type constraints bound as in `choice`, and its inputs."""
    n, values = template
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    attrs = {a.name: helper.get_attribute_value(a) for a in n.attribute if a.name in schema.attributes}
    attrs = {k: float(v) if schema.attributes[k].type == defs.OpSchema.AttrType.FLOAT else v for k, v in attrs.items()}
    if "consumed_inputs" in schema.attributes: # the first versions' hint which inputs may be overwritten
        attrs["consumed_inputs"] = [0] * len(values)
    names, feeds, kinds = [], {}, {}
    bound = dict(choice)
    for i, value in enumerate(values):
        port = formal(schema.inputs, i)
        if value is None:
            names.append("")
            continue
        was = formal(newest.inputs, i)
        if port is None or (was and port.name.lower() != was.name.lower() and as_attribute(schema, newest, i, value)):
            pair = as_attribute(schema, newest, i, value)
            if pair:
                attrs[pair[0]] = pair[1]
            continue
        param = port.type_str
        kind = bound.get(param)
        if kind is None and param in constraints:
            own = str(type_text(value))
            kind = own if own in constraints[param] else sorted(constraints[param])[0] if "tensor(float)" not in constraints[param] else "tensor(float)"
            bound[param] = kind
        elif kind is None:
            kind = param if "(" in param else "tensor(int64)"
        name = f"x{i}"
        names.append(name)
        feeds[name] = value if isinstance(value, dict) else retyped(value, kind)
        kinds[name] = kind
    while names and not names[-1]:
        names.pop()
    outputs = [o for i, o in enumerate(n.output) if formal(schema.outputs, i)]
    infos = []
    taken = {p.type_str for i, p in enumerate(schema.inputs) if i < len(names) and names[i]}
    for i, name in enumerate(outputs):
        param = formal(schema.outputs, i).type_str
        kind = bound.get(param)
        if kind is None and param in constraints and len(constraints[param]) == 1:
            kind = next(iter(constraints[param]))
        if kind and param in choice and param not in taken:
            inner = re.search(r"tensor\((\w+)\)", kind)
            attr = next((a for a in WANTED_TYPE if a in schema.attributes), None)
            if inner and attr:
                attrs[attr] = TYPES[inner[1]]
                if schema.attributes[attr].type == defs.OpSchema.AttrType.STRING:
                    attrs[attr] = inner[1].upper()
            elif inner and "value" in schema.attributes:
                attrs["value"] = numpy_helper.from_array(turned(np.array([2]), inner[1]))
        infos.append(onnx.ValueInfoProto(name=name) if name else None)
    if schema.name == "Upsample" and schema.since_version == 1:
        attrs.update(height_scale=2.0, width_scale=3.0)
    for a in WANTED_TYPE: # an output of a type that its constraint forbids in this version
        if a in attrs and a not in ("output_dtype", "output_datatype") and isinstance(attrs[a], int):
            text = "tensor(%s)" % next((k for k, v in TYPES.items() if v == attrs[a]), "?")
            out = constraints.get(schema.outputs[0].type_str)
            if out and text not in out and not any(text in o for o in out):
                raise NotMade("its type attribute")
    made = helper.make_node(schema.name, names, outputs, domain=schema.domain, **attrs)
    inputs = [helper.make_value_info(k, type_proto(v, kinds[k])) for k, v in feeds.items()]
    graph = helper.make_graph([made], "g", inputs, [i for i in infos if i is not None])
    imports = [helper.make_opsetid(schema.domain, schema.since_version)]
    if schema.domain:
        imports.append(helper.make_opsetid("", 17))
    model = helper.make_model(graph, opset_imports=imports, ir_version=11)
    try:
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        checker.check_model(inferred)
    except Exception as e:
        if "Field 'shape' of 'type'" in str(e) or "Field 'type' of 'value_info'" in str(e): # old schemas infer nothing
            return model, feeds, kinds
        raise NotMade(str(e).strip().splitlines()[-1][:150]) from None
    return model, feeds, kinds


def type_text(value):
    if isinstance(value, list):
        return f"seq({type_text(value[0])})"
    if isinstance(value, dict):
        return "map(string, tensor(float))" if isinstance(next(iter(value)), str) else "map(int64, tensor(float))"
    value = np.asarray(value)
    kind = TensorProto.STRING if value.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(value.dtype)
    return "tensor(%s)" % TensorProto.DataType.Name(kind).lower()


def value_bytes(value, kind):
    from oracle import map_proto

    if isinstance(value, dict):
        return map_proto(value).SerializeToString()
    if kind and kind.startswith("optional("):
        return numpy_helper.from_optional(value).SerializeToString()
    if isinstance(value, list):
        return numpy_helper.from_list(value).SerializeToString()
    value = np.asarray(value)
    return numpy_helper.from_array(value.astype(object) if value.dtype.kind in "US" else value).SerializeToString()


def output_kinds(schema, kinds, count):
    """The types of the outputs as the schema writes them; None where they follow from something else."""
    bound = {formal(schema.inputs, int(k[1:])).type_str: v for k, v in kinds.items()}
    return [bound.get(formal(schema.outputs, i).type_str) for i in range(count)]


def reference(model, feeds):
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return ReferenceEvaluator(model).run(None, {k: np.asarray(v) if not isinstance(v, (list, dict)) else v for k, v in feeds.items()})


def cases(only=""):
    """(name, schema, choice) of everything that the schemas allow, with one constraint away from its usual type."""
    for s in sorted(defs.get_all_schemas_with_history(), key=lambda s: (s.domain, s.name, s.since_version)):
        if s.domain not in DOMAINS or s.deprecated or only not in s.name:
            continue
        seen = set()
        for c in s.type_constraints:
            for kind in sorted(c.allowed_type_strs):
                if c.type_param_str in ("I", "B") and len(c.allowed_type_strs) == 1:
                    continue
                name = f"{s.domain + '.' if s.domain else ''}{s.name}-{s.since_version} {c.type_param_str}={kind}"
                if name not in seen:
                    seen.add(name)
                    yield name, s, {c.type_param_str: kind}


def newest_schemas():
    found = {}
    for s in defs.get_all_schemas_with_history():
        key = (s.domain, s.name)
        if key not in found or s.since_version > found[key].since_version:
            found[key] = s
    return found


def write(folder, only=""):
    """Write all cases below `folder`: {name: (path, compared)}, and {name: why} of those that cannot be made."""
    made, unmade = {}, {}
    newest, source = newest_schemas(), templates()
    for number, (name, schema, choice) in enumerate(cases(only)):
        key = (schema.domain, schema.name)
        if key not in source:
            unmade[name] = "no template"
            continue
        try:
            model, feeds, kinds = make_case(schema, newest[key], source[key], choice)
        except NotMade as e:
            unmade[name] = str(e)
            continue
        except Exception as e:
            unmade[name] = f"{type(e).__name__}: {e}"
            continue
        path = pathlib.Path(folder) / f"{number:05}"
        data = path / "test_data_set_0"
        data.mkdir(parents=True)
        (path / "model.onnx").write_bytes(model.SerializeToString())
        for i, (k, v) in enumerate(feeds.items()):
            (data / f"input_{i}.pb").write_bytes(value_bytes(v, kinds[k]))
        compared = False
        if schema.since_version == newest[key].since_version and schema.name not in RANDOM and not explained(name, NOT_COMPARED):
            try:
                wanted = reference(model, feeds)
                kinds_out = output_kinds(schema, kinds, len(wanted))
                texts = [value_bytes(w, k) for w, k in zip(wanted, kinds_out)]
                narrow = [n for n in NARROW if any(n in v for v in list(choice.values()) + [type_text(w) for w in wanted] + list(kinds.values()))]
                rtol = max([NARROW[n] for n in narrow if not (n == "float" and any("double" in v for v in choice.values()))], default=1e-3)
                (path / "data.json").write_text('{"rtol": %g, "atol": %g}' % (rtol, rtol / 10))
                for i, text in enumerate(texts):
                    (data / f"output_{i}.pb").write_bytes(text)
                compared = True
            except Exception as e:
                if os.environ.get("DEBUG"): print(name, repr(e)[:200])
                for left in data.glob("output_*"):
                    left.unlink()
        made[name] = (path, compared)
    return made, unmade


def run(onnxd, made):
    """{name: what went wrong}"""
    wrong = {}
    names = sorted(made, key=lambda n: made[n][0])
    for at in range(0, len(names), 500):
        part = names[at : at + 500]
        done = subprocess.run([onnxd, "verify", *(str(made[n][0]) for n in part)], capture_output=True, text=True, errors="replace")
        lines = [m for m in (re.match(r"(ok|FAIL|skip) ([^ :]+)(?:: )?(.*)", s) for s in done.stdout.splitlines()) if m]
        assert len(lines) == len(part), f"onnxd verify told of {len(lines)} cases, not {len(part)}: {done.stderr[-400:]}"
        for name, m in zip(part, lines):
            if m[1] != "ok" and "no output_0.pb" not in m[3]:
                wrong[name] = m[3]
    return wrong


def listed():
    """{start of a case's name: reason}"""
    lines = [s for s in LISTED.read_text().splitlines() if s and not s.startswith("#")]
    return dict(s.split(": ", 1) for s in lines)


def explained(name, known):
    return next((k for k in known if re.fullmatch(k, name)), None)


def audit(onnxd, only=""):
    folder = tempfile.mkdtemp()
    try:
        made, unmade = write(folder, only)
        return made, unmade, run(onnxd, made)
    finally:
        shutil.rmtree(folder)


def test_every_operator_runs_in_every_version_and_type(onnxd):
    made, unmade, wrong = audit(onnxd)
    known = listed()
    new = {n: w for n, w in wrong.items() if not explained(n, known)}
    assert not new, "\n".join(f"{n}: {w}" for n, w in new.items())
    stale = [k for k in known if not any(re.fullmatch(k, n) for n in wrong)]
    assert not stale, f"listed in {LISTED.name}, but right: {stale}"
    assert len(made) > 7500 and sum(c for _, c in made.values()) > 2300


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--onnxd", default=str(ROOT / "build" / "onnxd"))
    p.add_argument("--only", default="")
    p.add_argument("--unmade", action="store_true", help="print what cases could not be made, and why")
    p.add_argument("--all", action="store_true", help="print what types.txt lists too")
    a = p.parse_args()
    made, unmade, wrong = audit(a.onnxd, a.only)
    known = {} if a.all else listed()
    if a.unmade:
        for name, why in unmade.items():
            print(f"not made: {name}: {why}")
    for name, why in wrong.items():
        if not explained(name, known):
            print(f"{name}: {why}")
    print(f"{len(made)} cases made, {sum(c for _, c in made.values())} of them compared, {len(unmade)} not made, {len(wrong)} wrong")


if __name__ == "__main__":
    main()
