/* regex.h - whole-string matching of regular expressions in RE2's syntax.
 * A pattern becomes a small program that is run for all its threads at once, so a match takes time in
 * proportion to pattern and text whatever they are. Known: literals, '.', classes (ranges, negation,
 * [:names:], \d \s \w and their opposites), groups of all kinds (captures are not kept), flags i, m, s and
 * U, | * + ? {n,m}, lazy forms, ^ $ \A \z \b \B, the usual escapes, \Q..\E. Not known: \p{..}, \C. */
#ifndef ENG_OPS_REGEX_H
#define ENG_OPS_REGEX_H

#include "engine/tensor.h"

typedef struct eng_regex eng_regex;

/* Compile `pattern` into memory of `a`. OD_BAD_ARGUMENT: no valid pattern, and where; OD_UNSUPPORTED. */
od_code eng_regex_compile(eng_regex **out, eng_str pattern, od_arena *a, od_status *st);

/* Bytes that eng_regex_matches takes as `work`. */
size_t eng_regex_work(const eng_regex *r);

bool eng_regex_matches(const eng_regex *r, eng_str text, void *work);

#endif
