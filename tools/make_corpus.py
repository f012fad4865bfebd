"""Write the seeds of the fuzz targets: small files, good ones and nearly good ones.

    python3 tools/make_corpus.py DIR      fills DIR/fuzz_onnx, DIR/fuzz_image, ... one folder a target

Needs numpy, onnx, pillow."""
import io
import json
import pathlib
import sys
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import bad_inputs as bad


def small_weight(name, *dims):
    count = int(np.prod(dims))
    return numpy_helper.from_array((np.arange(count, dtype=np.float32) / count - 0.5).reshape(dims), name)


def one_node(op, inputs, output="y", **attributes):
    """A model of one node; inputs are shapes (graph inputs) or tensors (initializers)."""
    names, values, weights = [], [], []
    for i, given in enumerate(inputs):
        if isinstance(given, (tuple, list)):
            names.append(f"x{i}")
            values.append(bad.value(names[-1], given))
        else:
            names.append(given.name)
            weights.append(given)
    graph = helper.make_graph([helper.make_node(op, names, [output], **attributes)], op, values,
                              [helper.make_empty_tensor_value_info(output)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ints(name, *numbers):
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def loop_model():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["w"]),
         helper.make_node("Identity", ["w"], ["row"])],
        "body", [bad.value("i", [], TensorProto.INT64), bad.value("go", [], TensorProto.BOOL), bad.value("v", [2])],
        [bad.value("on", [], TensorProto.BOOL), bad.value("w", [2]), bad.value("row", [2])])
    graph = helper.make_graph([helper.make_node("Loop", ["n", "", "x"], ["last", "rows"], body=body)], "loop",
                              [bad.value("x", [2])], [bad.value("last", [2]), bad.value("rows", None)], [ints("n", 3)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sparse_model():
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, ints("", 0, 3), [4])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "sparse", [bad.value("x", [4])],
                              [bad.value("y", [4])], sparse_initializer=[sparse])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def function_model():
    square = helper.make_function("own", "Square", ["a"], ["b"], [helper.make_node("Mul", ["a", "a"], ["b"])],
                                  [helper.make_opsetid("", 17)])
    graph = helper.make_graph([helper.make_node("Square", ["x"], ["y"], domain="own")], "g", [bad.value("x", [4])],
                              [bad.value("y", [4])])
    return helper.make_model(graph, functions=[square], ir_version=8,
                             opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)])


def models():
    image, row = (1, 4, 6, 6), (2, 6)
    yield "small", bad.small_model()
    yield "conv", one_node("Conv", [image, small_weight("w", 4, 4, 3, 3), small_weight("b", 4)], pads=[1, 1, 1, 1])
    yield "depthwise", one_node("Conv", [image, small_weight("w", 4, 1, 3, 3)], group=4, strides=[2, 2])
    yield "dilated", one_node("Conv", [image, small_weight("w", 2, 2, 2, 2)], group=2, dilations=[2, 2])
    yield "convtranspose", one_node("ConvTranspose", [image, small_weight("w", 4, 2, 2, 2)], strides=[2, 2])
    yield "gemm", one_node("Gemm", [row, small_weight("w", 6, 3), small_weight("b", 3)], alpha=0.5)
    yield "matmul", one_node("MatMul", [row, small_weight("w", 6, 3)])
    yield "maxpool", one_node("MaxPool", [image], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    yield "averagepool", one_node("AveragePool", [image], kernel_shape=[3, 3], auto_pad="SAME_UPPER")
    yield "softmax", one_node("Softmax", [row], axis=-1)
    yield "reshape", one_node("Reshape", [row, ints("shape", 0, 3, -1)])
    yield "transpose", one_node("Transpose", [image], perm=[0, 2, 3, 1])
    yield "concat", one_node("Concat", [row, row], axis=1)
    yield "slice", one_node("Slice", [row, ints("s", 0), ints("e", -1), ints("a", 1), ints("p", 2)])
    yield "gather", one_node("Gather", [row, ints("i", 1, 0, -1)], axis=0)
    yield "pad", one_node("Pad", [row, ints("p", 1, 0, 0, 1)], mode="reflect")
    yield "expand", one_node("Expand", [(1, 6), ints("shape", 4, 1)])
    yield "tile", one_node("Tile", [row, ints("r", 2, 2)])
    yield "resize", one_node("Resize", [image, numpy_helper.from_array(np.zeros(0, np.float32), "roi"),
                                        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")], mode="linear")
    yield "reduce", one_node("ReduceMean", [image], axes=[2, 3], keepdims=0)
    yield "split", one_node("Split", [row], axis=1)
    yield "cast", one_node("Cast", [row], to=TensorProto.INT64)
    yield "topk", one_node("TopK", [row, ints("k", 3)])
    yield "loop", loop_model()
    yield "sparse", sparse_model()
    yield "function", function_model()
    for kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.FLOAT8E4M3FN):
        weight = helper.make_tensor("w", kind, [4], [1, 2, 3, 4])
        yield f"cast_of_{kind}", one_node("Cast", [weight], to=TensorProto.FLOAT)
    yield "strings", one_node("Identity", [helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"bc"])])


def onnx_files():
    for name, model in models():
        yield name, model.SerializeToString()
    for name, model in bad.bad_models():
        data = model if isinstance(model, bytes) else model.SerializeToString()
        yield "bad " + name, data


def image_files():
    for mode in ("RGB", "L", "CMYK"):
        yield f"jpeg {mode}", bad.encode("JPEG", (17, 13), mode)
    yield "jpeg progressive", bad.encode("JPEG", (40, 30), progressive=True)
    yield "jpeg 420", bad.encode("JPEG", (40, 30), subsampling=2, quality=30)
    rotated = bytearray(bad.encode("JPEG", (16, 8)))
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    rotated[2:2] = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    yield "jpeg turned", bytes(rotated)
    for mode in ("RGB", "L", "P", "1", "RGBA", "LA"):
        yield f"png {mode}", bad.encode("PNG", (17, 13), mode)
    yield "png of 16 bits", bad.png_saying(4, 4, bits=16, body=zlib.compress(bytes(4 * 25)))
    yield "webp", bad.encode("WEBP", (17, 13))
    yield "webp lossless", bad.encode("WEBP", (17, 13), "RGBA", lossless=True)
    for name, data in list(bad.bad_pictures()) + list(bad.damaged_pictures()):
        if len(data) < 20000:
            yield "bad " + name, data


def operator_files():
    yield from image_files()
    yield "tiff", bad.encode("TIFF", (17, 13))
    yield "tiff lzw", bad.encode("TIFF", (17, 13), "L", compression="tiff_lzw")
    yield "jp2", bad.encode("JPEG2000", (17, 13))
    yield "j2k", bad.encode("JPEG2000", (17, 13), no_jp2=True)
    yield "bmp", bad.encode("BMP", (17, 13))
    yield "ppm", bad.encode("PPM", (17, 13))


def infer_files():
    """fuzz_infer's form: two bytes that say where the JSON ends, then the body."""
    for name, data in json_bodies():
        yield name, b"\0\0" + data
    head = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}'
    yield "with bytes", bytes([1 | len(head) >> 8 << 2, len(head) & 255]) + head + bytes(16)
    yield "raw", b"\3\0" + bytes(32)


def other_bodies():
    yield "rows", b'\1{"instances":[[1,2,3,4],[5,6,7,8]]}'
    yield "named rows", b'\0{"instances":[{"x":[1,2,3,4],"s":{"b64":"YQ=="}},{"x":[1,2,3,4],"s":"b"}]}'
    yield "columns", b'\0{"inputs":{"x":[[1,2,3,4]],"s":["a"]},"signature_name":"serving_default"}'
    yield "form", b'\2--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nx\r\n--b\r\n\r\n\r\n--b--\r\n'
    yield "base64", b"\3data:image/png;base64,aGVsbG8=\n"


def json_bodies():
    yield "infer", bad.infer()
    yield "infer small", b'{"id":"7","inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2.5e-3],[-3,null]]}],"outputs":[{"name":"y","parameters":{"binary_data":true}}],"parameters":{"priority":1}}'
    yield "bytes", b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\\u00e9\\ud83d\\ude00"]}]}'
    yield "bool", b'{"inputs":[{"name":"x","shape":[3],"datatype":"BOOL","data":[true,false,1]}]}'
    yield "binary", b'{"inputs":[{"name":"x","shape":[2],"datatype":"INT32","parameters":{"binary_data_size":8}}]}'
    for name, data in bad.bad_tensors():
        if len(data) < 30000:
            yield "bad " + name, data


def card_files():
    yield "classify", json.dumps(bad.SMALL_CARD).encode()
    for card in sorted(pathlib.Path("demo").glob("*/model.json")):
        yield card.parent.name, card.read_bytes()
    for name, text in bad.bad_cards():
        yield "bad " + name, text.encode()
    yield "hugging face", json.dumps({"architectures": ["ViTForImageClassification"], "id2label": {"0": "cat", "1": "dog"}}).encode()
    yield "timm", json.dumps({"label_names": ["a"], "label_descriptions": {"a": "cat"}, "pretrained_cfg": {
        "input_size": [3, 32, 32], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3}}).encode()
    yield "ultralytics", b"{0: 'cat', 1: \"driver's seat\", 2: 'a\\'b'}"
    yield "triton", (b'max_batch_size: 8 # a comment\noutput [ { name: "scores" label_filename: "labels.txt" } ]\n'
                     b"dynamic_batching { max_queue_delay_microseconds: 250 }")


def npy_files():
    for kind in ("float32", "float64", "float16", "int64", "uint8", "bool", "complex64"):
        out = io.BytesIO()
        np.save(out, np.arange(6).reshape(2, 3).astype(kind))
        yield kind, out.getvalue()
    out = io.BytesIO()
    np.save(out, np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    yield "fortran", out.getvalue()


def pb_files():
    yield "float", numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3)).SerializeToString()
    yield "int64", numpy_helper.from_array(np.arange(6)).SerializeToString()
    yield "strings", helper.make_tensor("s", TensorProto.STRING, [2], [b"a", b"bc"]).SerializeToString()
    yield "sequence", numpy_helper.from_list([np.zeros(2, np.float32), np.ones((1, 2), np.float32)]).SerializeToString()


def regex_files():
    for i, (pattern, text) in enumerate([(r"(a|b)*c{2,3}?", "abcc"), (r"(?i)[^\d\x{e9}[:alpha:]]+", "-"), (r"(?P<n>\pL\s*)\b.*$", "é x"),
                                         (r"\Q.*\E\v|(?m-s:^a$)", ".*"), (r"(a*)*(a|aa)*b", "a" * 60), (r"(?=a)\1a++", "a")]):
        yield f"{i}", pattern.encode() + b"\0" + text.encode()


TARGETS = {"fuzz_regex": regex_files, "fuzz_onnx": onnx_files, "fuzz_run": onnx_files, "fuzz_image": image_files, "fuzz_decoder": operator_files, "fuzz_infer": infer_files,
           "fuzz_bodies": other_bodies, "fuzz_card": card_files, "fuzz_npy": npy_files, "fuzz_pb": pb_files}


def main():
    target = pathlib.Path(sys.argv[1])
    for name, files in TARGETS.items():
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        for what, data in files():
            (folder / ("seed_" + "".join(c if c.isalnum() else "_" for c in what)[:60])).write_bytes(data)
        print(f"{name}: {len(list(folder.glob('seed_*')))} seeds")


if __name__ == "__main__":
    main()
