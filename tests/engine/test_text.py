"""Strings, regular expressions, n-grams and signals against Python, NumPy and ONNX Runtime."""
import re
import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from oracle import make_model, refused, same_as_ort, verify

S, F, I = TensorProto.STRING, TensorProto.FLOAT, TensorProto.INT64


def single(op, feeds, outputs, opset=20, **attrs):
    node = helper.make_node(op, [k if v is not None else "" for k, v in feeds.items()], [o[0] for o in outputs], **attrs)
    return make_model([node], {k: v for k, v in feeds.items() if v is not None}, outputs, opset=opset)


def text(*words):
    return np.array(words, object)


# ---- regular expressions: where Python's mean the same, Python is the judge ----------------

PATTERNS = [
    r"", r"a", r"abc", r"a|b|cd", r"(a|b)*c", r"a+b?c*", r"a{3}", r"a{2,}", r"a{1,3}b", r"(?:ab){2,3}", r"[abc]+", r"[^abc]+",
    r"[a-f0-9]{4}", r"\d+\.\d+", r"\w+@\w+\.com", r"\s*x\s*", r".*", r"a.c", r"^abc$", r"^a|b$",
    r"(a*)*b", r"(a|aa)+", r"(a|b|)*", r"x*?y+?", r"\bfoo\b.*", r"a\Bb", r"(?i)hello", r"(?s).+", r"[\d\-x]+", r"[]a]+",
    r"(?P<n>a)(?P<m>b)", r"\x41\t?", r"a{,2}", r"é+", r"[à-ü]+", r"(((a)))", r"a||b", r"(ab|cd)(ef|gh)?", r"a{0}b", r"(a{0,2}){2}b",
    r"[\w.]+", r"\D\W\S", r"[^\d]+",
]
WORDS = ["", "a", "b", "abc", "cd", "ababc", "aaa", "aaaa", "ab", "abab", "ababab", "deaf", "beef", "12.5", "12", "me@x.com",
         " x ", "x\ty", "a\nc", "aac", "foo bar", "food", "HeLLo", "1-x", "]a", "A", "A\t", "é", "éé", "üà", "b" * 9, "a" * 12,
         "abef", "cdgh", "a,b", "a{,2}", "..w", "x!y"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_as_in_python(onnxd, tmp_path, pattern):
    python = pattern.replace(r"{,2}", r"\{,2\}")  # RE2 takes that as it stands
    wanted = np.array([re.fullmatch(python, w, re.ASCII) is not None for w in WORDS])
    model = single("RegexFullMatch", {"x": text(*WORDS)}, [("y", TensorProto.BOOL)], pattern=pattern)
    verify(onnxd, tmp_path, model, {"x": text(*WORDS)}, [wanted])


@pytest.mark.parametrize("pattern,word,matches", [
    (r"\Q.*\E", ".*", True), (r"\pN", "1", True), (r"\p{Greek}+", "αβ", True), (r"\P{L}", "α", False), (r"[[:alpha:]]+", "abc", True), (r"[[:^digit:]]+", "a1", False),
    (r"(?i)straSSe", "STRASSE", True), (r"(?i)É", "é", True), (r"(?U)a+", "aaa", True), (r"(?m)a$\n^b", "a\nb", True),
    (r"a\z", "a", True), (r"\x{e9}", "é", True), (r".", "\n", False), (r"a++", "a", None), (r"(", "(", None), (r")", ")", None),
    (r"[", "[", None), (r"[b-a]", "a", None), (r"*", "*", None), (r"a{2,1}", "a", None), (r"a{1001}", "a", None),
    (r"(?=a)", "a", None), (r"(?!b)a", "a", None), (r"(?<=a)", "", None), (r"(?<!a)", "", None), (r"(?>a)", "a", None), (r"(?R)", "a", None),
    (r"(?1)(a)", "aa", None), (r"(?(1)a)", "a", None), (r"(?#x)a", "a", None), (r"(?x)a b", "ab", None), (r"(?|a)", "a", None),
    (r"(*ANY)a", "a", None), (r"(*UCP)a", "a", None), (r"a?+", "a", None), (r"a{2}+", "aa", None), (r"a*+", "a", None), (r"\Ka", "a", None),
    (r"\Ga", "a", None), (r"a\Z", "a", None), (r"\R", "\n", None), (r"\h", " ", None), (r"\X", "a", None), (r"\N", "a", None), (r"\C", "a", None),
    (r"[[.a.]]", "a", None), (r"[[:<:]]a", "a", None), (r"(?P=n)", "a", None), (r"\k<n>", "a", None), (r"(?P<n>a)(?P<n>b)", "ab", None),
    (r"(a)\1", "aa", None),
    (r"a$", "a\n", False), (r"\v", "\v", True), (r"\v", "\n", False), (r"\s", "\v", False), (r"[\s]", "\v", False), (r"\S", "\v", True),
    (r"a+?", "aa", True), (r"(?m)a\n^", "a\n", True), (r"[\Qa]\E]+", "a]", True), (r"[^[:alpha:]]", "1", True), (r"x{,3}", "x{,3}", True),
    (r"\d", "٣", False), (r"\w", "é", False), (r"é.", "é\r", True), (r"(?P<n>a+?)b", "aab", True), (r"a{0,1000}", "a" * 1000, True), ("\\", "\\", None), (r"(?z)", "", None), (r"[[:nope:]]", "n", None),
    (r"((a{100}){100}){100}", "a", None), ("(" * 500 + "a" + ")" * 500, "a", None),
])
def test_what_is_special_to_re2(onnxd, tmp_path, pattern, word, matches):
    model = single("RegexFullMatch", {"x": text(word)}, [("y", TensorProto.BOOL)], pattern=pattern)
    if matches is None:
        assert "pattern" in refused(onnxd, tmp_path, model, {"x": text(word)})
    else:
        verify(onnxd, tmp_path, model, {"x": text(word)}, [np.array([matches])])


def test_no_pattern_takes_long(onnxd, tmp_path):
    """(a*)*b on many a's takes backtracking matchers for ever: what a match may cost has a bound."""
    x = text("a" * 50000)
    model = single("RegexFullMatch", {"x": x}, [("y", TensorProto.BOOL)], pattern=r"(a*)*(a|aa)*(a?){300}b")
    start = time.time()
    assert "steps" in refused(onnxd, tmp_path, model, {"x": x})
    assert time.time() - start < 10
    model = single("RegexFullMatch", {"x": x}, [("y", TensorProto.BOOL)], pattern=r"(a|b)*[ac]+?(aa)*")
    verify(onnxd, tmp_path / "long", model, {"x": x}, [np.array([True])])


# ---- strings -------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter,most", [(None, None), ("", 1), (",", None), (",", 1), (", ", 0), ("--", None)])
def test_splitting_is_python_s(onnxd, tmp_path, delimiter, most):
    words = ["a,b,c", " x  y z ", ",,", "a--b----c", "one", ", a, b"]
    pieces = [w.split(delimiter or None, -1 if most is None else most) for w in words]
    width = max(map(len, pieces))
    attrs = {k: v for k, v in (("delimiter", delimiter), ("maxsplit", most)) if v is not None}
    x = text(*words).reshape(2, 3)
    wanted = np.array([p + [""] * (width - len(p)) for p in pieces], object).reshape(2, 3, width)
    model = single("StringSplit", {"x": x}, [("y", S), ("z", I)], **attrs)
    verify(onnxd, tmp_path, model, {"x": x}, [wanted, np.array([len(p) for p in pieces]).reshape(2, 3)])


@pytest.mark.parametrize("action,fold", [("NONE", lambda s: s), ("LOWER", str.lower), ("UPPER", str.upper)])
@pytest.mark.parametrize("exact", [0, 1])
def test_normalizing_knows_letters_beyond_ascii(onnxd, tmp_path, action, fold, exact):
    words, stop = ["Äpfel", "und", "UND", "Birnen", "ЯБЛОКО"], ["Und", "und"]
    left = [w for w in words if (w not in stop if exact else w.lower() not in [s.lower() for s in stop])]
    model = single("StringNormalizer", {"x": text(*words)}, [("y", S)], case_change_action=action, is_case_sensitive=exact,
                   stopwords=stop)
    verify(onnxd, tmp_path, model, {"x": text(*words)}, [text(*map(fold, left))])


def test_normalizing_everything_away_leaves_one_empty_string(onnxd, tmp_path):
    x = text("a", "b").reshape(1, 2)
    model = single("StringNormalizer", {"x": x}, [("y", S)], stopwords=["a", "b"])
    verify(onnxd, tmp_path, model, {"x": x}, [text("").reshape(1, 1)])


# ---- n-grams -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips,least,most", [(0, 1, 1), (0, 1, 3), (2, 2, 3), (5, 1, 2), (1, 3, 3)])
@pytest.mark.parametrize("strings", [False, True])
def test_ngrams(onnxd, tmp_path, mode, skips, least, most, strings):
    pool, starts = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7, 5, 6, 7], [0, 4, 10]
    rng = np.random.default_rng(3)
    x = rng.integers(2, 9, (3, 12))
    attrs = dict(pool_strings=[str(p) for p in pool]) if strings else dict(pool_int64s=pool)
    feeds = {"x": x.astype(str).astype(object) if strings else x}
    model = single("TfIdfVectorizer", feeds, [("y", F)], opset=17, mode=mode, max_skip_count=skips, min_gram_length=least,
                   max_gram_length=most, ngram_counts=starts, ngram_indexes=[3, 1, 2, 0, 6, 5, 4, 7], weights=[1.0, 2, 3, 4, 5, 6, 7, 8], **attrs)
    same_as_ort(onnxd, tmp_path, model, feeds)


@pytest.mark.parametrize("change,words", [(dict(ngram_counts=[0, 20]), "ngram_counts"), (dict(ngram_indexes=[0, -1, 2]), "ngram_indexes"),
                                          (dict(mode="XX"), "mode"), (dict(max_gram_length=0), "n-grams"), (dict(weights=[1.0]), "weights")])
def test_bad_ngrams_are_refused(onnxd, tmp_path, change, words):
    feeds = {"x": np.array([1, 2, 3])}
    attrs = dict(mode="TF", max_skip_count=0, min_gram_length=1, max_gram_length=1, ngram_counts=[0], ngram_indexes=[0, 1, 2],
                 pool_int64s=[1, 2, 3])
    assert words in refused(onnxd, tmp_path, single("TfIdfVectorizer", feeds, [("y", F)], opset=17, **{**attrs, **change}), feeds)


# ---- signals -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 12, 60, 97, 128, 210, 331, 1000, 4099, 6000])
@pytest.mark.parametrize("inverse", [0, 1])
def test_transforms_of_any_length(onnxd, tmp_path, n, inverse):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((2, n, 3, 2))
    y = (np.fft.ifft if inverse else np.fft.fft)(x[..., 0] + 1j * x[..., 1], axis=1)
    feeds = {"x": x, "n": None, "axis": np.array(1)}
    model = single("DFT", feeds, [("y", TensorProto.DOUBLE)], inverse=inverse)
    feeds.pop("n")
    verify(onnxd, tmp_path, model, feeds, [np.stack([y.real, y.imag], -1)], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("n,length", [(16, 16), (16, 10), (16, 21), (9, 9)])
def test_real_transforms_and_back(onnxd, tmp_path, n, length):
    x = np.random.default_rng(1).standard_normal((3, n, 1)).astype(np.float32)
    y = np.fft.rfft(x[..., 0], length, axis=1)
    feeds = {"x": x, "n": np.array(length)}
    spectrum = np.stack([y.real, y.imag], -1).astype(np.float32)
    verify(onnxd, tmp_path, single("DFT", feeds, [("y", F)], onesided=1), feeds, [spectrum], atol=1e-5)
    feeds = {"x": spectrum, "n": np.array(length)}
    back = np.fft.irfft(y, length, axis=1)[..., None].astype(np.float32)
    verify(onnxd, tmp_path / "back", single("DFT", feeds, [("y", F)], onesided=1, inverse=1), feeds, [back], atol=1e-5)


@pytest.mark.parametrize("window", [None, np.hanning(24).astype(np.float32)])
@pytest.mark.parametrize("onesided", [0, 1])
def test_short_time_transforms(onnxd, tmp_path, window, onesided):
    x = np.random.default_rng(2).standard_normal((2, 200, 1)).astype(np.float32)
    feeds = {"x": x, "step": np.array(9), "w": window, "n": np.array(24)}
    frames = np.stack([x[:, i : i + 24, 0] for i in range(0, 200 - 24 + 1, 9)], 1) * (1 if window is None else window)
    y = (np.fft.rfft if onesided else np.fft.fft)(frames, axis=2)
    model = single("STFT", feeds, [("y", F)], opset=17, onesided=onesided)
    feeds = {k: v for k, v in feeds.items() if v is not None}
    verify(onnxd, tmp_path, model, feeds, [np.stack([y.real, y.imag], -1).astype(np.float32)], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("op,feeds,attrs,words", [
    ("DFT", {"x": np.zeros((2, 3, 3), np.float32)}, {}, "last axis"),
    ("DFT", {"x": np.zeros((2, 3, 1), np.float32), "n": np.array(0)}, {}, "dft_length"),
    ("DFT", {"x": np.zeros((2, 3, 1), np.float32), "n": np.array(3), "axis": np.array(2)}, {}, "axis"),
    ("DFT", {"x": np.zeros((2, 3, 2), np.float32)}, {"onesided": 1}, "real input"),
    ("STFT", {"x": np.zeros((2, 3, 1), np.float32), "s": np.array(0)}, {}, "frame_step"),
    ("STFT", {"x": np.zeros((2, 3, 1), np.float32), "s": np.array(1), "w": np.ones(4, np.float32)}, {}, "frame_length"),
    ("HannWindow", {"x": np.array(-1)}, {}, "output 0 would be"),
    ("MelWeightMatrix", {"a": np.array(8), "b": np.array(16), "c": np.array(8192), "d": np.array(0, np.float32),
                         "e": np.array(9000, np.float32)}, {}, "band edge"),
])
def test_bad_signals_are_refused(onnxd, tmp_path, op, feeds, attrs, words):
    assert words in refused(onnxd, tmp_path, single(op, feeds, [("y", F)], **attrs), feeds)
