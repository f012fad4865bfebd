"""If, Loop, Scan, sequences and optionals against ONNX Runtime and NumPy."""
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from oracle import make_model, ort, refused, same_as_ort, verify

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name, kind=F, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def sequence(name, kind=F):
    return helper.make_tensor_sequence_value_info(name, kind, None)


def const(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value), name + "_v"))


def node(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs.split(","), outputs.split(","), **attrs)


def loop(nodes, ins, outs, feeds, outputs, node_in, opset=17, name="Loop", **attrs):
    body = helper.make_graph(nodes, "body", ins, outs)
    main = helper.make_node(name, node_in, [o.name if hasattr(o, "name") else o[0] for o in outputs], body=body, **attrs)
    return make_model([main], feeds, outputs, opset=opset)


STEP = [node("Add", "s,x", "s2"), node("Identity", "c", "c2"), node("Mul", "s2,s2", "square")]
STATE = ([info("i", I, []), info("c", B, []), info("s", F, [2])], [info("c2", B, []), info("s2", F, [2]), info("square", F, [2])])


@pytest.mark.parametrize("trips", [0, 1, 3, 1000])
def test_a_loop_carries_states_and_stacks_results(onnxd, tmp_path, trips):
    feeds = {"m": np.array(trips, np.int64), "s0": np.array([1, 2], np.float32), "x": np.array([0.5, 0.25], np.float32)}
    model = loop(STEP, *STATE, feeds, [("end", F), ("all", F)], ["m", "", "s0"])
    same_as_ort(onnxd, tmp_path, model, feeds)


def test_a_loop_ends_when_its_condition_does(onnxd, tmp_path):
    nodes = [node("Add", "s,s", "s2"), const("limit", np.float32(50)), node("Less", "s2,limit", "c2"), node("Identity", "i", "n")]
    ins, outs = [info("i", I, []), info("c", B, []), info("s", F, [])], [info("c2", B, []), info("s2", F, []), info("n", I, [])]
    feeds = {"go": np.array(True), "s0": np.array(1, np.float32)}
    same_as_ort(onnxd, tmp_path, loop(nodes, ins, outs, feeds, [("end", F), ("all", I)], ["", "go", "s0"]), feeds)


def test_a_loop_that_must_not_begin_gives_its_initial_values(onnxd, tmp_path):
    feeds = {"m": np.array(5, np.int64), "go": np.array(False), "s0": np.array([1, 2], np.float32), "x": np.ones(2, np.float32)}
    same_as_ort(onnxd, tmp_path, loop(STEP, *STATE, feeds, [("end", F), ("all", F)], ["m", "go", "s0"]), feeds)


def test_states_may_grow(onnxd, tmp_path):
    nodes = [node("Concat", "s,x", "s2", axis=0), node("Identity", "c", "c2")]
    ins, outs = [info("i", I, []), info("c", B, []), info("s", F, ["n"])], [info("c2", B, []), info("s2", F, ["k"])]
    feeds = {"m": np.array(40, np.int64), "s0": np.zeros(1, np.float32), "x": np.ones(2, np.float32)}
    same_as_ort(onnxd, tmp_path, loop(nodes, ins, outs, feeds, [("end", F)], ["m", "", "s0"]), feeds)


@pytest.mark.parametrize("trips", [0, 1, 40])
@pytest.mark.parametrize("rows", [0, 2])
def test_states_that_only_grow(onnxd, tmp_path, trips, rows):
    """One that is read too, one that is not, one whose pieces have many rows, one that begins with what it appends."""
    nodes = [node("Concat", "a,x", "a2", axis=0), node("ReduceSum", "a", "sum", keepdims=0), node("Concat", "b,x", "b2", axis=0),
             node("Concat", "x,d", "d2", axis=0), node("Identity", "c", "c2")]
    ins = [info("i", I, []), info("c", B, []), *(info(n, F, ["n", 3]) for n in "abd")]
    outs = [info("c2", B, []), *(info(n, F, ["m", 3]) for n in ("a2", "b2", "d2")), info("sum", F, [])]
    rng = np.random.default_rng(trips)
    feeds = {"m": np.array(trips, np.int64), "x": rng.normal(size=(2, 3)).astype(np.float32),
             **{n + "0": rng.normal(size=(rows, 3)).astype(np.float32) for n in "abd"}}
    model = loop(nodes, ins, outs, feeds, [(n, F) for n in ("ae", "be", "de", "sums")], ["m", "", "a0", "b0", "d0"])
    same_as_ort(onnxd, tmp_path, model, feeds)


def test_what_is_appended_must_fit(onnxd, tmp_path):
    ins, outs = [info("i", I, []), info("c", B, []), info("s", F, None)], [info("c2", B, []), info("s2", F, None)]
    nodes = [node("Concat", "s,x", "s2", axis=0), node("Identity", "c", "c2")]
    feeds = {"m": np.array(3, np.int64), "s0": np.zeros((1, 2), np.float32), "x": np.ones((1, 3), np.float32)}
    assert "cannot be appended" in refused(onnxd, tmp_path, loop(nodes, ins, outs, feeds, [("end", F)], ["m", "", "s0"]), feeds)


def test_states_may_change_places(onnxd, tmp_path):
    """Each state is the other's of the round before: neither may be overwritten early."""
    nodes = [node("Identity", "c", "c2"), node("Identity", "b", "a2"), node("Add", "a,b", "b2")]
    ins = [info("i", I, []), info("c", B, []), info("a", F, []), info("b", F, [])]
    outs = [info("c2", B, []), info("a2", F, []), info("b2", F, [])]
    feeds = {"m": np.array(20, np.int64), "a0": np.array(0, np.float32), "b0": np.array(1, np.float32)}
    same_as_ort(onnxd, tmp_path, loop(nodes, ins, outs, feeds, [("x", F), ("y", F)], ["m", "", "a0", "b0"]), feeds)


def test_sequences_are_loop_states(onnxd, tmp_path):
    nodes = [node("Identity", "c", "c2"), node("SequenceInsert", "s,x", "s2")]
    ins, outs = [info("i", I, []), info("c", B, []), sequence("s")], [info("c2", B, []), sequence("s2")]
    feeds = {"m": np.array(3, np.int64), "s0": [np.zeros((2, 2), np.float32)], "x": np.ones((1, 2), np.float32)}
    body = helper.make_graph(nodes, "body", ins, outs)
    nodes = [helper.make_node("Loop", ["m", "", "s0"], ["end"], body=body)]
    declared = {"s0": sequence("s0")}
    model = make_model(nodes, feeds, [sequence("end")], infos=declared)
    same_as_ort(onnxd, tmp_path, model, feeds)


def test_loops_nest_and_see_what_lies_around_them(onnxd, tmp_path):
    inner = helper.make_graph([node("Add", "t,x", "t1"), node("Add", "t1,s", "t2"), node("Identity", "d", "d2")], "inner",
                              [info("j", I, []), info("d", B, []), info("t", F, [2])], [info("d2", B, []), info("t2", F, [2])])
    nodes = [node("Identity", "c", "c2"), helper.make_node("Loop", ["k", "", "s"], ["s2"], body=inner)]
    ins, outs = [info("i", I, []), info("c", B, []), info("s", F, [2])], [info("c2", B, []), info("s2", F, [2])]
    feeds = {"m": np.array(3, np.int64), "k": np.array(2, np.int64), "s0": np.array([1, 2], np.float32), "x": np.ones(2, np.float32)}
    same_as_ort(onnxd, tmp_path, loop(nodes, ins, outs, feeds, [("end", F)], ["m", "", "s0"]), feeds)


def test_results_of_other_shapes_do_not_stack(onnxd, tmp_path):
    nodes = [node("Concat", "s,x", "s2", axis=0), node("Identity", "c", "c2"), node("Identity", "s2", "all")]
    ins = [info("i", I, []), info("c", B, []), info("s", F, ["n"])]
    outs = [info("c2", B, []), info("s2", F, ["k"]), info("all", F, ["k"])]
    feeds = {"m": np.array(4, np.int64), "s0": np.zeros(1, np.float32), "x": np.ones(2, np.float32)}
    assert "those before it were float[3]" in refused(onnxd, tmp_path, loop(nodes, ins, outs, feeds, [("end", F), ("y", F)], ["m", "", "s0"]), feeds)


@pytest.mark.parametrize("yes", [True, False])
def test_branches_see_the_graph_around_them(onnxd, tmp_path, yes):
    then = helper.make_graph([node("Add", "x,x", "t")], "then", [], [info("t", F)])
    other = helper.make_graph([node("Mul", "x,z", "e")], "else", [], [info("e", F)])
    feeds = {"c": np.array(yes), "x": np.ones((2, 3), np.float32), "z": np.full((2, 3), 7, np.float32)}
    nodes = [helper.make_node("If", ["c"], ["b"], then_branch=then, else_branch=other), node("Add", "b,x", "y")]
    same_as_ort(onnxd, tmp_path, make_model(nodes, feeds, [("y", F)]), feeds)


def test_a_branch_may_be_a_constant_or_an_outer_value(onnxd, tmp_path):
    then = helper.make_graph([node("Identity", "x", "t")], "then", [], [info("t", F)])
    other = helper.make_graph([], "else", [], [info("k", F)], [numpy_helper.from_array(np.ones(2, np.float32), "k")])
    for yes in (True, False):
        feeds = {"c": np.array([yes]), "x": np.zeros(2, np.float32)}
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
        verify(onnxd, tmp_path / str(yes), make_model(nodes, feeds, [("y", F)]), feeds, [np.full(2, not yes, np.float32)])


@pytest.mark.parametrize("rows", [1, 5])
def test_a_condition_on_shapes_is_answered_for_each_shape(onnxd, tmp_path, rows):
    """What follows such a branch is planned with it, so a second shape must get its own answer."""
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    then = helper.make_graph([const("zero", np.array([0])), node("Squeeze", "x,zero", "t")], "then", [], [info("t", F)])
    other = helper.make_graph([node("Identity", "x", "e")], "else", [], [info("e", F)])
    nodes = [node("Shape", "x", "shape"), const("first", np.array(0)), node("Gather", "shape,first", "n"), const("one", np.array(1)),
             node("Equal", "n,one", "c"), helper.make_node("If", ["c"], ["b"], then_branch=then, else_branch=other),
             node("Mul", "b,b", "y")]
    model = make_model(nodes, {"x": x}, [("y", F)], infos={"x": info("x", F, ["n", 3])})
    same_as_ort(onnxd, tmp_path, model, {"x": x})


@pytest.mark.parametrize("axis,out_axis,backward", [(0, 0, 0), (1, 1, 0), (-1, 2, 1), (2, 0, 1)])
def test_scan_reads_and_writes_along_any_axis_both_ways(onnxd, tmp_path, axis, out_axis, backward):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    piece = [int(d) for d in np.delete(x.shape, axis)]
    nodes = [node("ReduceSum", "v", "t", keepdims=0), node("Add", "s,t", "s2"), node("Mul", "v,s2", "o")]
    body = helper.make_graph(nodes, "body", [info("s", F, []), info("v", F, piece)], [info("s2", F, []), info("o", F, piece)])
    feeds = {"s0": np.array(1, np.float32), "x": x}
    main = helper.make_node("Scan", ["s0", "x"], ["end", "all"], body=body, num_scan_inputs=1, scan_input_axes=[axis],
                            scan_output_axes=[out_axis], scan_input_directions=[backward], scan_output_directions=[backward])
    same_as_ort(onnxd, tmp_path, make_model([main], feeds, [("end", F), ("all", F)]), feeds)


@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_the_first_scan_has_a_batch(onnxd, tmp_path, lengths):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    nodes = [node("Add", "s,v", "s2"), node("Identity", "s2", "o")]
    body = helper.make_graph(nodes, "body", [info("s", F, [4]), info("v", F, [4])], [info("s2", F, [4]), info("o", F, [4])])
    feeds = {"s0": np.ones((2, 4), np.float32), "x": x}
    if lengths:
        feeds["lens"] = np.array(lengths, np.int64)
    main = helper.make_node("Scan", ["lens" if lengths else "", "s0", "x"], ["end", "all"], body=body, num_scan_inputs=1)
    same_as_ort(onnxd, tmp_path, make_model([main], feeds, [("end", F), ("all", F)], opset=8), feeds)


X = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("split,axis,keep", [(None, 0, 1), (None, 1, 0), (np.int64(3), 0, 1), (np.array([1, 0, 3]), 0, 1),
                                             (np.array([2, 1]), -1, 1)])
def test_split_to_sequence_and_back(onnxd, tmp_path, split, axis, keep):
    feeds = {"x": X}
    if split is not None:
        feeds["split"] = np.asarray(split)
    nodes = [node("SplitToSequence", ",".join(feeds), "s", axis=axis, keepdims=keep),
             node("ConcatFromSequence", "s", "y", axis=axis, new_axis=int(split is None and not keep)),
             node("SequenceLength", "s", "n")]
    wanted = [X, np.array(len(split) if np.ndim(split) else -(-X.shape[axis] // (int(split) if split is not None else 1)))]
    verify(onnxd, tmp_path, make_model(nodes, feeds, [("y", F), ("n", I)]), feeds, wanted)


@pytest.mark.parametrize("split,words", [(np.array([1, 4]), "where 3 are left"), (np.array([1, 2]), "leaves 1 of 4"), (np.int64(0), "at least 1"),
                                         (np.array([-1, 5]), "split 0 is -1")])
def test_splits_that_do_not_add_up_are_refused(onnxd, tmp_path, split, words):
    feeds = {"x": X, "split": np.asarray(split)}
    nodes = [node("SplitToSequence", "x,split", "s"), node("SequenceLength", "s", "n")]
    assert words in refused(onnxd, tmp_path, make_model(nodes, feeds, [("n", I)]), feeds)


@pytest.mark.parametrize("op,at,ok", [("SequenceAt", -3, True), ("SequenceAt", 2, True), ("SequenceAt", 3, False),
                                      ("SequenceAt", -4, False), ("SequenceErase", 3, False), ("SequenceErase", -3, True)])
def test_positions_count_from_either_end_and_are_checked(onnxd, tmp_path, op, at, ok):
    feeds = {"a": X, "b": X + 1, "c": X + 2, "at": np.array(at, np.int64)}
    nodes = [node("SequenceConstruct", "a,b,c", "s"), node(op, "s,at", "r")]
    nodes.append(node("Identity", "r", "y") if op == "SequenceAt" else node("ConcatFromSequence", "r", "y", axis=0))
    model = make_model(nodes, feeds, [("y", F)])
    if ok:
        same_as_ort(onnxd, tmp_path, model, feeds)
    else:
        assert f"position {at} in a sequence of 3" in refused(onnxd, tmp_path, model, feeds)


def test_sequences_hold_one_type(onnxd, tmp_path):
    feeds = {"a": X, "b": X.astype(np.int64)}
    nodes = [node("SequenceConstruct", "a,b", "s"), node("SequenceLength", "s", "n")]
    assert "int64, wanted float" in refused(onnxd, tmp_path, make_model(nodes, feeds, [("n", I)]), feeds)


def test_strings_pass_through_loops(onnxd, tmp_path):
    nodes = [node("Identity", "c", "c2"), node("StringConcat", "s,x", "s2"), node("Identity", "s2", "all")]
    S = TensorProto.STRING
    ins, outs = [info("i", I, []), info("c", B, []), info("s", S, [2])], [info("c2", B, []), info("s2", S, [2]), info("all", S, [2])]
    feeds = {"m": np.array(20, np.int64), "s0": np.array(["a", ""], object), "x": np.array(["b", "é"], object)}
    rows = [["a" + "b" * k, "é" * k] for k in range(1, 21)]
    model = loop(nodes, ins, outs, feeds, [("end", S), ("rows", S)], ["m", "", "s0"], opset=20)
    verify(onnxd, tmp_path, model, feeds, [np.array(rows[-1], object), np.array(rows, object)])
