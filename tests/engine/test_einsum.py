"""Einsum in every arrangement of labels, with and without a constant operand, against NumPy."""
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from oracle import make_model, verify

SIZES = {"b": 2, "c": 3, "d": 4, "e": 2, "f": 5, "h": 3, "k": 3, "m": 6, "n": 7, "s": 4, "t": 5, "v": 9, "w": 18}
EQUATIONS = ["bctv,kvw->bkctw", "btd,edf->betf", "betf,efd->betd", "bhnd,nmd->bhnm", "bhcms,bhm->bhcs", "vw,bcv->bcw", "vw,bcv->wcb",
             "btd,edf->bfte", "bn,bn->b", "bn,bn->bn", "bc,dt->tdbc", "bcd,d->bc", "d,bcd->cb", "bcv,dvw->cd", "mm,mn->n", "bhnd,bhmd->bhnm",
             "bnm,bmd->bdn", "bmn,bdm->bnd", "bcd,cde,ef->bf"]


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("constant", [None, 0, 1])
@pytest.mark.parametrize("ones", ["", "first", "second"])
def test_einsum_is_its_sum(onnxd, tmp_path, equation, constant, ones):
    terms = equation.split("->")[0].split(",")
    rng = np.random.default_rng(len(equation))
    operands = []
    for i, term in enumerate(terms):
        shared = set(term) & set("".join(t for k, t in enumerate(terms) if k != i))
        one = {"first": 0, "second": 1}.get(ones) == i and len(set(term)) == len(term)
        operands.append(rng.standard_normal([1 if one and c in shared else SIZES[c] for c in term]).astype(np.float32))
    names = ["x%d" % i for i in range(len(terms))]
    full = [np.broadcast_to(x, [SIZES[c] for c in t]) for x, t in zip(operands, terms)]
    node = helper.make_node("Einsum", names, ["y"], equation=equation)
    feeds = {n: x for i, (n, x) in enumerate(zip(names, operands)) if i != constant}
    constants = [numpy_helper.from_array(operands[constant], names[constant])] if constant is not None else []
    wanted = np.einsum(equation, *[x.astype(np.float64) for x in full]).astype(np.float32)
    verify(onnxd, tmp_path, make_model([node], feeds, [("y", TensorProto.FLOAT)], initializers=constants), feeds, [wanted], atol=1e-5)
