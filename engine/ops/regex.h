/* regex.h - whole-string matching of regular expressions in RE2's syntax, by PCRE2.
 * What RE2 has and means is what patterns get: constructs that PCRE2 alone knows (backreferences, lookaround,
 * atomic groups, possessive repeats, recursion, conditions, verbs) are refused by name, and those that it reads
 * in another way (\v, \s, $, {,n}) are rewritten. PCRE2 backtracks where RE2 does not: what a match may cost
 * has a bound. Not known: \C, \1 to \7 as octal numbers. */
#ifndef ENG_OPS_REGEX_H
#define ENG_OPS_REGEX_H

#include "engine/tensor.h"

typedef struct eng_regex eng_regex;

/* Compile `pattern` into memory of `a`. OD_BAD_ARGUMENT: no valid pattern, and where; OD_UNSUPPORTED; OD_TOO_LARGE. */
od_code eng_regex_compile(eng_regex **out, eng_str pattern, od_arena *a, od_status *st);

/* Does the whole of `text` match? Text that is no UTF-8 matches nothing. Takes memory of `work`.
 * OD_TOO_LARGE: the match takes too many steps or too much memory. */
od_code eng_regex_matches(const eng_regex *r, eng_str text, od_arena *work, bool *matches, od_status *st);

#endif
