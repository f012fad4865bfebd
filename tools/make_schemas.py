"""Write engine/schemas.c: inputs, outputs and attributes of every operator, as the onnx package tells them,
and onnxruntime for com.microsoft. Run it when an operator or an opset is added; the tests run it with --check.

    .venv/bin/python tools/make_schemas.py [--check]"""
import argparse
import pathlib
import re
import sys

import onnx.defs
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "engine" / "schemas.c"
DOMAINS = {"": "ONNX", "ai.onnx.ml": "ML", "ai.onnx.preview": "PREVIEW", "com.microsoft": "MS"}
LETTERS = {"INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t", "SPARSE_TENSOR": "t", "GRAPH": "g", "TYPE_PROTO": "I",
           "INTS": "I", "FLOATS": "F", "STRINGS": "S", "TENSORS": "T", "SPARSE_TENSORS": "T", "GRAPHS": "G"}
ANY = 255

HEAD = """/* schemas.c - made by tools/make_schemas.py: do not edit. By name, then domain, then since. */
#include "engine/schema.h"

#include "engine/base/status.h"

/* columns: name, domain, since, fewest and most inputs, fewest and most outputs, attributes */
const eng_schema eng_schemas[] = {
"""


def most(count):
    return ANY if count >= ANY else count


def facts(schema):
    attributes = " ".join(f"{name}:{LETTERS[a.type.name]}{'!' if a.required else ''}"
                          for name, a in sorted(schema.attributes.items()))
    return (schema.min_input, most(schema.max_input), schema.min_output, most(schema.max_output), attributes)


def known_operators():
    registry = (ROOT / "engine" / "registry.c").read_text()
    return set(re.findall(r'\{"(\w+)", ENG_DOMAIN_(\w+)', registry))


def table():
    ours = known_operators()
    schemas = onnx.defs.get_all_schemas_with_history()
    schemas += [s for s in get_all_operator_schema() if s.domain == "com.microsoft"]
    rows, last = [], {}
    for s in sorted(schemas, key=lambda s: (s.name, DOMAINS.get(s.domain, ""), s.since_version)):
        key = (s.name, DOMAINS.get(s.domain))
        if key not in ours or s.deprecated or last.get(key) == facts(s):
            continue
        last[key] = facts(s)
        numbers = ", ".join(map(str, facts(s)[:4]))
        rows.append(f'    {{"{s.name}", ENG_DOMAIN_{key[1]}, {s.since_version}, {numbers}, "{facts(s)[4]}"}},\n')
    return HEAD + "".join(rows) + "};\n\nconst int eng_schemas_count = (int)OD_COUNT(eng_schemas);\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say whether the file is what would be written")
    if parser.parse_args().check:
        return 0 if TABLE.read_text() == table() else f"{TABLE.name} is out of date: run tools/make_schemas.py"
    TABLE.write_text(table())


if __name__ == "__main__":
    sys.exit(main())
