"""ai.onnx.ml against ONNX Runtime: each operator with several settings of its attributes."""
import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper

from oracle import make_model, ort, refused, same_as_ort, verify

POSTS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]
RNG = np.random.default_rng(5)


def ml(op, x, outputs=("y",), types=(TensorProto.FLOAT,), version=3, info=None, **attrs):
    node = helper.make_node(op, ["x"], list(outputs), domain="ai.onnx.ml", **attrs)
    infos = {"x": info} if info else None
    return make_model([node], {"x": x}, list(zip(outputs, types)), ml=version, infos=infos)


def classifier(op, x, label=TensorProto.INT64, **attrs):
    return ml(op, x, ("y", "z"), (label, TensorProto.FLOAT), **attrs)


def floats(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


# ---- linear models and support vectors -----------------------------------------------------


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_linear_classifier_takes_the_largest_score(onnxd, tmp_path, post, classes):
    x = floats(7, 4)
    model = classifier("LinearClassifier", x, coefficients=floats(classes * 4).tolist(), intercepts=floats(classes).tolist(),
                       classlabels_ints=list(range(10, 10 + classes)), post_transform=post)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("post", POSTS)
def test_one_row_of_coefficients_decides_between_two_classes(onnxd, tmp_path, post):
    x = floats(7, 4)
    model = classifier("LinearClassifier", x, label=TensorProto.STRING, coefficients=floats(4).tolist(), intercepts=[0.1],
                       classlabels_strings=["no", "yes"], post_transform=post)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


def test_a_linear_classifier_computes_probits(onnxd, tmp_path):
    x = RNG.uniform(0.1, 0.3, (5, 2)).astype(np.float32)
    model = classifier("LinearClassifier", x, coefficients=[1.0, 0.5, 0.25, 1.0, 0.9, 0.9], intercepts=[0.1, 0.2, 0.0],
                       classlabels_ints=[0, 1, 2], post_transform="PROBIT")
    same_as_ort(onnxd, tmp_path, model, {"x": x}, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_a_linear_classifier_takes_every_type(onnxd, tmp_path, dtype):
    x = (floats(7, 4) * 10).astype(dtype)
    model = classifier("LinearClassifier", x, coefficients=floats(12).tolist(), intercepts=floats(3).tolist(),
                       classlabels_ints=[1, 2, 3])
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("targets,post", [(1, "NONE"), (3, "NONE"), (3, "SOFTMAX"), (2, "LOGISTIC")])
def test_linear_regression(onnxd, tmp_path, targets, post):
    x = floats(6, 5)
    model = ml("LinearRegressor", x, coefficients=floats(5 * targets).tolist(), intercepts=floats(targets).tolist(),
               targets=targets, post_transform=post)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_support_vector_regression(onnxd, tmp_path, kernel, one_class):
    x = floats(6, 3)
    model = ml("SVMRegressor", x, kernel_type=kernel, kernel_params=[0.5, 0.25, 3.0], n_supports=4, one_class=one_class,
               support_vectors=floats(12).tolist(), coefficients=floats(4).tolist(), rho=[0.2])
    same_as_ort(onnxd, tmp_path, model, {"x": x})


def test_linear_support_vector_regression_has_no_vectors(onnxd, tmp_path):
    x = floats(6, 3)
    model = ml("SVMRegressor", x, kernel_type="LINEAR", kernel_params=[0.5, 0.25, 3.0], coefficients=floats(3).tolist(),
               rho=[0.2])
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("kernel,post,proba,classes", itertools.product(KERNELS, POSTS, [False, True], [2, 3, 4]))
def test_support_vector_classification(onnxd, tmp_path, kernel, post, proba, classes):
    x, pairs = floats(6, 3), classes * (classes - 1) // 2
    per_class = [2, 1, 3, 2][:classes]
    n = sum(per_class)
    attrs = dict(kernel_type=kernel, kernel_params=[0.5, 0.25, 3.0], vectors_per_class=per_class, post_transform=post,
                 support_vectors=floats(n * 3).tolist(), coefficients=floats(n * (classes - 1)).tolist(),
                 rho=floats(pairs).tolist(), classlabels_ints=list(range(classes)))
    if proba:
        attrs.update(prob_a=(-np.abs(floats(pairs))).tolist(), prob_b=floats(pairs).tolist())
    same_as_ort(onnxd, tmp_path, classifier("SVMClassifier", x, **attrs), {"x": x})


@pytest.mark.parametrize("post", POSTS)
def test_linear_support_vector_classification(onnxd, tmp_path, post):
    x = floats(6, 3)
    model = classifier("SVMClassifier", x, kernel_type="LINEAR", kernel_params=[0.5, 0.25, 3.0], post_transform=post,
                       coefficients=floats(9).tolist(), rho=[0.1, 0.2, 0.3], classlabels_ints=[4, 5, 6])
    same_as_ort(onnxd, tmp_path, model, {"x": x})


# ---- trees ---------------------------------------------------------------------------------


def forest(trees, features, modes, depth=3, missing=True, prefix="target", targets=1, weight=None):
    """Complete random trees in the attributes of the older operators."""
    nodes = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
                             "missing_value_tracks_true")}
    votes = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        for node in range(2 ** (depth + 1) - 1):
            leaf = node >= 2**depth - 1
            row = (tree, node, 0 if leaf else int(RNG.integers(features)), 0.0 if leaf else round(float(RNG.normal()), 1),
                   "LEAF" if leaf else modes[int(RNG.integers(len(modes)))], 0 if leaf else 2 * node + 1,
                   0 if leaf else 2 * node + 2, int(missing and RNG.integers(2)))
            for k, v in zip(nodes, row):
                nodes[k].append(v)
            if leaf:
                for t in range(targets) if weight is None else [weight[1]]:
                    w = float(RNG.normal()) if weight is None else abs(float(RNG.normal())) * weight[0]
                    for k, v in zip(votes, (tree, node, t, w)):
                        votes[k].append(v)
    return {**{"nodes_" + k: v for k, v in nodes.items()}, **{f"{prefix}_{k}": v for k, v in votes.items()}}


def rows_with_gaps(n, features, dtype=np.float32):
    x = np.round(RNG.standard_normal((n, features)), 1).astype(dtype)
    x[RNG.random(x.shape) < 0.15] = np.nan
    return x


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


@pytest.mark.parametrize("modes", [[m] for m in MODES] + [MODES])
def test_every_comparison_and_missing_values(onnxd, tmp_path, modes):
    x = rows_with_gaps(40, 4)
    same_as_ort(onnxd, tmp_path, ml("TreeEnsembleRegressor", x, n_targets=1, **forest(5, 4, modes)), {"x": x})


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("base", [False, True])
def test_votes_are_aggregated(onnxd, tmp_path, aggregate, targets, base):
    x = rows_with_gaps(20, 4)
    attrs = forest(7, 4, ["BRANCH_LEQ"], targets=targets)
    if base:
        attrs["base_values"] = floats(targets).tolist()
    model = ml("TreeEnsembleRegressor", x, n_targets=targets, aggregate_function=aggregate, **attrs)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("post", POSTS)
def test_a_regressor_transforms_its_scores(onnxd, tmp_path, post):
    x = rows_with_gaps(20, 4)
    model = ml("TreeEnsembleRegressor", x, n_targets=3, post_transform=post, **forest(7, 4, ["BRANCH_LT"], targets=3))
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
def test_trees_take_other_types(onnxd, tmp_path, dtype):
    """ONNX Runtime knows no integers here."""
    x = (RNG.standard_normal((20, 4)) * 2).astype(dtype)
    as_float, attrs = x.astype(np.float32), forest(7, 4, ["BRANCH_LEQ"])
    wanted = ort(ml("TreeEnsembleRegressor", as_float, n_targets=1, **attrs), {"x": as_float})
    verify(onnxd, tmp_path, ml("TreeEnsembleRegressor", x, n_targets=1, **attrs), {"x": x}, wanted)


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("base", [False, True])
def test_trees_choose_among_several_classes(onnxd, tmp_path, post, base):
    x = rows_with_gaps(20, 4)
    attrs = forest(7, 4, MODES, prefix="class", targets=4)
    if base:
        attrs["base_values"] = floats(4).tolist()
    model = classifier("TreeEnsembleClassifier", x, classlabels_int64s=[3, 5, 7, 9], post_transform=post, **attrs)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("which", [0, 1])
def test_one_class_of_two_has_votes(onnxd, tmp_path, post, sign, which):
    x = rows_with_gaps(20, 4)
    attrs = forest(3, 4, MODES, prefix="class", weight=(sign * 0.3, which))
    model = classifier("TreeEnsembleClassifier", x, label=TensorProto.STRING, classlabels_strings=["a", "b"],
                       post_transform=post, **attrs)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


def test_both_classes_of_two_have_votes_and_the_larger_wins(onnxd, tmp_path):
    """Where ONNX Runtime answers 0 or 1 whatever the labels are; the standard takes the larger score."""
    x = rows_with_gaps(20, 4)
    model = classifier("TreeEnsembleClassifier", x, classlabels_int64s=[3, 5], **forest(7, 4, MODES, prefix="class", targets=2))
    scores = ort(model, {"x": x})[1]
    verify(onnxd, tmp_path, model, {"x": x}, [np.array([3, 5])[scores.argmax(axis=1)], scores])


def ensemble(x, members=None, **attrs):
    """Two trees of one branch, and one of two, for TreeEnsemble."""
    tensor = lambda name, kind, v: helper.make_tensor(name, kind, (len(v),), v)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    modes = [0, 3, 6, 4] if members else [0, 3, 1, 5]
    base = dict(tree_roots=[0, 1, 2], n_targets=2, nodes_featureids=[0, 1, 2, 0], nodes_truenodeids=[0, 2, 3, 4],
                nodes_trueleafs=[1, 1, 0, 1], nodes_falsenodeids=[1, 3, 6, 5], nodes_falseleafs=[1, 1, 1, 1],
                nodes_modes=tensor("m", TensorProto.UINT8, modes), nodes_splits=tensor("s", kind, [0.3, -0.2, 0.5, 0.1]),
                leaf_targetids=[0, 1, 1, 0, 1, 0, 1], leaf_weights=tensor("w", kind, [0.5, -1, 2, 0.25, 1, 3, -2]), **attrs)
    if members:
        base["membership_values"] = tensor("v", kind, members)
    return ml("TreeEnsemble", x, types=(kind,), version=5, **base)


@pytest.mark.parametrize("post", range(4))
@pytest.mark.parametrize("aggregate", range(4))
def test_tree_ensembles(onnxd, tmp_path, post, aggregate):
    """1 is softmax and 2 logistic in the standard; ONNX Runtime has them the other way round."""
    x = rows_with_gaps(30, 3)
    wanted = ort(ensemble(x, post_transform=[0, 2, 1, 3][post], aggregate_function=aggregate), {"x": x})
    verify(onnxd, tmp_path, ensemble(x, post_transform=post, aggregate_function=aggregate), {"x": x}, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tree_ensembles_know_sets(onnxd, tmp_path, dtype):
    x = RNG.integers(0, 6, (30, 3)).astype(dtype)
    same_as_ort(onnxd, tmp_path, ensemble(x, members=[1.0, 2.0, 5.0, float("nan")]), {"x": x})


@pytest.mark.parametrize("change,words", [
    (dict(nodes_truenodeids=[0, 2, 1, 4], nodes_trueleafs=[1, 1, 0, 1], nodes_falsenodeids=[1, 2, 6, 5],
          nodes_falseleafs=[1, 0, 1, 1]), "cycles"),
    (dict(nodes_truenodeids=[0, 2, 30, 4]), "leads to branch 30"),
    (dict(nodes_truenodeids=[70, 2, 3, 4]), "leads to leaf 70"),
    (dict(leaf_targetids=[0, 1, 1, 0, 1, 0, 9]), "leaf_targetids"),
    (dict(tree_roots=[0, 4]), "tree_roots"),
    (dict(nodes_featureids=[0, 1, 2, 3]), "feature 3"),
])
def test_broken_trees_are_refused(onnxd, tmp_path, change, words):
    x = rows_with_gaps(3, 3)
    model = ensemble(x)
    node = model.graph.node[0]
    for name, value in change.items():
        next(a for a in node.attribute if a.name == name).CopyFrom(helper.make_attribute(name, value))
    assert words in refused(onnxd, tmp_path, model, {"x": x})


def test_a_tree_whose_nodes_meet_in_a_circle_is_refused(onnxd, tmp_path):
    x = rows_with_gaps(3, 3)
    attrs = forest(1, 3, ["BRANCH_LEQ"])
    attrs["nodes_truenodeids"][3] = 1
    assert "cycles" in refused(onnxd, tmp_path, ml("TreeEnsembleRegressor", x, n_targets=1, **attrs), {"x": x})


# ---- features ------------------------------------------------------------------------------

NUMBERS = [np.float32, np.float64, np.int32, np.int64]


@pytest.mark.parametrize("dtype", [np.float32])
def test_binarizer(onnxd, tmp_path, dtype):
    x = (floats(4, 5) * 3).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    same_as_ort(onnxd, tmp_path, ml("Binarizer", x, types=(kind,), threshold=0.5), {"x": x})


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(onnxd, tmp_path, dtype, norm):
    x = (np.abs(floats(4, 5)) * 9).astype(dtype)
    x[2] = 0
    same_as_ort(onnxd, tmp_path, ml("Normalizer", x, norm=norm), {"x": x})


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("n", [1, 5])
def test_scaler(onnxd, tmp_path, dtype, n):
    x = (floats(4, 5) * 9).astype(dtype)
    same_as_ort(onnxd, tmp_path, ml("Scaler", x, scale=floats(n).tolist(), offset=floats(n).tolist()), {"x": x})


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("replaced", [float("nan"), 2.0])
def test_imputer_of_floats(onnxd, tmp_path, n, replaced):
    x = np.array([[1, np.nan, 2], [np.nan, 2, 3]], np.float32)
    model = ml("Imputer", x, imputed_value_floats=[7.0, 8.0, 9.0][:n], replaced_value_float=replaced)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


def test_imputer_of_integers_keeps_large_ones(onnxd, tmp_path):
    x = np.array([[1, 2**60 + 1, -5], [-5, 2, 3]], np.int64)
    model = ml("Imputer", x, types=(TensorProto.INT64,), imputed_value_int64s=[7, 8, 2**60 + 3], replaced_value_int64=-5)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("x", [np.array([1, 5, 2], np.int64), np.array([[1.0, 9.0], [2.5, 3.0]], np.float32),
                               np.array(["b", "zz"], object)])
def test_one_hot_encoder(onnxd, tmp_path, x):
    cats = dict(cats_strings=["a", "b"]) if x.dtype == object else dict(cats_int64s=[1, 2, 3])
    same_as_ort(onnxd, tmp_path, ml("OneHotEncoder", x, zeros=1, **cats), {"x": x})


def test_one_hot_encoder_may_insist_on_known_categories(onnxd, tmp_path):
    x = np.array([1, 5], np.int64)
    assert "in no category" in refused(onnxd, tmp_path, ml("OneHotEncoder", x, zeros=0, cats_int64s=[1, 2]), {"x": x})


def test_feature_vectorizer(onnxd, tmp_path):
    feeds = {"a": floats(3, 2), "b": floats(3, 4)}
    node = helper.make_node("FeatureVectorizer", ["a", "b"], ["y"], domain="ai.onnx.ml", inputdimensions=[2, 4])
    same_as_ort(onnxd, tmp_path, make_model([node], feeds, [("y", TensorProto.FLOAT)]), feeds)


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, object])
def test_array_feature_extractor(onnxd, tmp_path, shape, dtype):
    x = (floats(*shape) * 9).astype(np.int64).astype(str).astype(object) if dtype is object else (floats(*shape) * 9).astype(dtype)
    feeds = {"x": x, "i": np.array([5, 0, 2], np.int64)}
    node = helper.make_node("ArrayFeatureExtractor", ["x", "i"], ["y"], domain="ai.onnx.ml")
    kind = TensorProto.STRING if dtype is object else helper.np_dtype_to_tensor_dtype(x.dtype)
    same_as_ort(onnxd, tmp_path, make_model([node], feeds, [("y", kind)]), feeds)


# ---- labels and maps -----------------------------------------------------------------------

LABELS = {
    "strings": (np.array(["a", "c", "zz", "b"], object), ["a", "b", "c"], TensorProto.STRING),
    "int64s": (np.array([1, 3, 9, 2], np.int64), [1, 2, 3], TensorProto.INT64),
    "floats": (np.array([1, 9, 2.5, -0.0], np.float32), [1.0, 2.5, 0.0], TensorProto.FLOAT),
}


@pytest.mark.parametrize("keys,values", itertools.product(LABELS, LABELS))
def test_label_encoder(onnxd, tmp_path, keys, values):
    x, names, _ = LABELS[keys]
    attrs = {"keys_" + keys: names, "values_" + values: ["x", "y", "z"] if values == "strings" else [4, 5, 6]
             if values == "int64s" else [0.5, 1.5, 2.5]}
    same_as_ort(onnxd, tmp_path, ml("LabelEncoder", x, types=(LABELS[values][2],), **attrs), {"x": x})


def test_not_a_number_is_a_label_like_another(onnxd, tmp_path):
    x = np.array([1, np.nan, 3], np.float32)
    model = ml("LabelEncoder", x, types=(TensorProto.INT64,), version=4, keys_floats=[1.0, float("nan")], values_int64s=[5, 6])
    verify(onnxd, tmp_path, model, {"x": x}, [np.array([5, 6, -1])])


@pytest.mark.parametrize("x", [np.array(["b", "q"], object), np.array([1, 7], np.int64)])
def test_the_first_label_encoder_and_category_mapper_go_both_ways(onnxd, tmp_path, x):
    kind = TensorProto.INT64 if x.dtype == object else TensorProto.STRING
    model = ml("LabelEncoder", x, types=(kind,), version=1, classes_strings=["a", "b"], default_int64=-7, default_string="?")
    same_as_ort(onnxd, tmp_path, model, {"x": x})
    model = ml("CategoryMapper", x, types=(kind,), cats_strings=["a", "b"], cats_int64s=[7, 9], default_int64=-7,
               default_string="?")
    same_as_ort(onnxd, tmp_path / "mapper", model, {"x": x})


def map_info(key, value):
    return helper.make_value_info("x", helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, None)))


@pytest.mark.parametrize("cast_to,kind", [("TO_FLOAT", TensorProto.FLOAT), ("TO_INT64", TensorProto.INT64)])
@pytest.mark.parametrize("form", ["DENSE", "SPARSE"])
def test_cast_map(onnxd, tmp_path, cast_to, kind, form):
    x = {4: 2.5, 1: -1.0, 3: 7.0}
    model = ml("CastMap", x, types=(kind,), info=map_info(TensorProto.INT64, TensorProto.FLOAT), cast_to=cast_to,
               map_form=form, max_map=6)
    same_as_ort(onnxd, tmp_path, model, {"x": x})


def test_cast_map_refuses_keys_beyond_its_width(onnxd, tmp_path):
    x = {4: 2.5}
    model = ml("CastMap", x, info=map_info(TensorProto.INT64, TensorProto.FLOAT), map_form="SPARSE", max_map=3)
    assert "max_map" in refused(onnxd, tmp_path, model, {"x": x})


def test_dict_vectorizer(onnxd, tmp_path):
    x = {"b": 2.5, "a": 1.0}
    model = ml("DictVectorizer", x, info=map_info(TensorProto.STRING, TensorProto.FLOAT), string_vocabulary=["a", "c", "b"])
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("labels", [dict(classlabels_strings=["a", "b"]), dict(classlabels_int64s=[4, 9])])
def test_zip_map(onnxd, tmp_path, labels):
    x = floats(3, 2)
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", **labels)
    key = TensorProto.STRING if "classlabels_strings" in labels else TensorProto.INT64
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    out = helper.make_value_info("y", helper.make_sequence_type_proto(kind))
    same_as_ort(onnxd, tmp_path, make_model([node], {"x": x}, [out]), {"x": x})
