#include "engine/ops/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

enum {
    PATTERN_MAX = 20000, /* bytes */
    REPEAT_MAX = 1000,   /* RE2's own bound */
    STEPS_MAX = 2000000, DEPTH_MAX = 1000000, /* of one match: about a second */
    HEAP_MAX_KIB = 64 << 10
};

struct eng_regex {
    pcre2_code *code;
};

/* PCRE2's memory comes from arenas, which give it back by themselves. */
static void *take(size_t size, void *arena)
{
    return od_arena_alloc(arena, size);
}

static void give_back(void *p, void *arena)
{
    (void)p, (void)arena;
}

/* ---- from RE2's syntax to PCRE2's ----------------------------------------------------------- */

typedef struct translator {
    const char *start, *at, *end; /* the pattern */
    char *to;                     /* at most WIDEST bytes for each of the pattern */
    bool repeated;                /* just behind a repeat: a + there would make it possessive */
    od_status *st;
} translator;

enum { WIDEST = 12 };

static od_code bad(translator *t, od_code code, const char *what)
{
    return od_fail(t->st, code, "pattern, at byte %d: %s", (int)(t->at - t->start), what);
}

static void put(translator *t, const char *text)
{
    size_t len = strlen(text);
    memcpy(t->to, text, len);
    t->to += len;
}

static bool follows(const translator *t, const char *text)
{
    size_t len = strlen(text);
    return (size_t)(t->end - t->at) >= len && !memcmp(t->at, text, len);
}

/* A backslash and what it escapes, in a class or outside. */
static od_code escape(translator *t, bool in_class)
{
    if (t->end - t->at < 2) return bad(t, OD_BAD_ARGUMENT, "a \\ at the end");
    char ch = t->at[1];
    if (ch >= '1' && ch <= '9') return bad(t, OD_UNSUPPORTED, "backreferences are no part of RE2's syntax");
    bool letter = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
    if (letter && !strchr(in_class ? "afnrtvxdDsSwWpPQE" : "afnrtvxdDsSwWpPQEAzbB", ch))
        return bad(t, OD_BAD_ARGUMENT, "an escape that RE2 does not know");
    if (ch == 'v') put(t, "\\x0b"); /* to PCRE2 all vertical space */
    else if (ch == 's') put(t, in_class ? "\\t\\n\\f\\r " : "[\\t\\n\\f\\r ]"); /* without the vertical tab */
    else if (ch == 'S' && !in_class) put(t, "[^\\t\\n\\f\\r ]");
    else put(t, (char[]){'\\', ch, 0});
    t->at += 2;
    if (ch != 'x' && ch != 'p' && ch != 'P') return OD_OK;
    const char *close = follows(t, "{") ? memchr(t->at, '}', (size_t)(t->end - t->at)) : NULL;
    while (close && t->at <= close) *t->to++ = *t->at++; /* \x{e9}, \p{Greek}: no repeat */
    return OD_OK;
}

static void quoted(translator *t)
{
    while (t->at < t->end && !follows(t, "\\E")) *t->to++ = *t->at++;
}

static od_code class(translator *t)
{
    *t->to++ = *t->at++;
    if (t->at < t->end && *t->at == '^') *t->to++ = *t->at++;
    for (bool first = true; t->at < t->end && (first || *t->at != ']'); first = false) {
        if (follows(t, "[:<:]") || follows(t, "[:>:]") || follows(t, "[.") || follows(t, "[="))
            return bad(t, OD_BAD_ARGUMENT, "a class that RE2 does not know");
        const char *name_end = follows(t, "[:") ? memchr(t->at + 2, ']', (size_t)(t->end - t->at - 2)) : NULL;
        bool quote = follows(t, "\\Q");
        if (*t->at == '\\') OD_TRY(escape(t, true));
        else *t->to++ = *t->at++;
        if (quote) quoted(t);
        while (name_end && t->at <= name_end) *t->to++ = *t->at++;
    }
    if (t->at == t->end) return bad(t, OD_BAD_ARGUMENT, "a [ without its ]");
    *t->to++ = *t->at++;
    return OD_OK;
}

/* What stands behind "(?": flags, a name, or something that RE2 does not have. */
static od_code group(translator *t)
{
    if (follows(t, "(*")) return bad(t, OD_BAD_ARGUMENT, "nothing to repeat");
    if (follows(t, "(?")) {
        const char *p = t->at + 2;
        bool named = follows(t, "(?P<") || (follows(t, "(?<") && !follows(t, "(?<=") && !follows(t, "(?<!"));
        while (!named && p < t->end && strchr("imsU-", *p) && *p) p++;
        if (!named && (p == t->end || (*p != ':' && *p != ')')))
            return bad(t, OD_UNSUPPORTED, "a group that RE2 does not know (lookaround, atomic, recursive, conditional, other flags)");
        *t->to++ = *t->at++;
        while (t->at < p) *t->to++ = *t->at++;
    } else {
        *t->to++ = *t->at++;
    }
    return OD_OK;
}

static int number(const translator *t, const char **at)
{
    int n = -1;
    for (; *at < t->end && **at >= '0' && **at <= '9' && n <= REPEAT_MAX; ++*at) n = (n < 0 ? 0 : n) * 10 + (**at - '0');
    return n;
}

/* {n}, {n,} or {n,m}; anything else is a plain brace. */
static od_code braces(translator *t, bool *repeat)
{
    const char *p = t->at + 1;
    int least = number(t, &p), most = least;
    if (p < t->end && *p == ',') {
        p++;
        most = number(t, &p);
    }
    *repeat = least >= 0 && p < t->end && *p == '}';
    if (!*repeat) {
        put(t, "\\{");
        t->at++;
        return OD_OK;
    }
    if (least > REPEAT_MAX || most > REPEAT_MAX) return bad(t, OD_TOO_LARGE, "more than 1000 repeats");
    while (t->at <= p) *t->to++ = *t->at++;
    return OD_OK;
}

static od_code translate(translator *t)
{
    while (t->at < t->end) {
        char ch = *t->at;
        bool repeat = ch == '*' || ch == '+' || ch == '?', again = t->repeated;
        if (ch == '+' && again) return bad(t, OD_UNSUPPORTED, "possessive repeats are no part of RE2's syntax");
        if (ch == '\\') {
            bool quote = follows(t, "\\Q");
            OD_TRY(escape(t, false));
            if (quote) quoted(t);
        } else if (ch == '[') {
            OD_TRY(class(t));
        } else if (ch == '(') {
            OD_TRY(group(t));
        } else if (ch == '{') {
            OD_TRY(braces(t, &repeat));
        } else {
            *t->to++ = *t->at++;
        }
        t->repeated = repeat && !(ch == '?' && again); /* a ? behind a repeat makes it lazy */
    }
    return OD_OK;
}

/* ---- compiling and matching ----------------------------------------------------------------- */

od_code eng_regex_compile(eng_regex **out, eng_str pattern, od_arena *a, od_status *st)
{
    const char *text = pattern.ptr ? pattern.ptr : "";
    if (pattern.len > PATTERN_MAX) return od_fail(st, OD_TOO_LARGE, "pattern: %zu bytes", pattern.len);
    eng_regex *r = od_arena_array(a, eng_regex, 1);
    char *own = od_arena_alloc(a, pattern.len * WIDEST + 1);
    pcre2_general_context *memory = pcre2_general_context_create(take, give_back, a);
    pcre2_compile_context *how = memory ? pcre2_compile_context_create(memory) : NULL;
    if (!r || !own || !how) return od_fail(st, OD_NO_MEMORY, "no memory for a pattern");
    translator t = {.start = text, .at = text, .end = text + pattern.len, .to = own, .st = st};
    OD_TRY(translate(&t));
    pcre2_set_newline(how, PCRE2_NEWLINE_LF);
    int error = 0;
    PCRE2_SIZE at = 0;
    r->code = pcre2_compile((PCRE2_SPTR)own, (PCRE2_SIZE)(t.to - own),
                            PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_CIRCUMFLEX | PCRE2_NO_AUTO_CAPTURE |
                                PCRE2_NEVER_BACKSLASH_C, &error, &at, how);
    if (!r->code) {
        char why[120] = "?";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
        return od_fail(st, OD_BAD_ARGUMENT, "pattern, at byte %zu of '%.60s': %s", (size_t)at, (*t.to = 0, own), why);
    }
    *out = r;
    return OD_OK;
}

od_code eng_regex_matches(const eng_regex *r, eng_str text, od_arena *work, bool *matches, od_status *st)
{
    pcre2_general_context *memory = pcre2_general_context_create(take, give_back, work);
    pcre2_match_context *how = memory ? pcre2_match_context_create(memory) : NULL;
    pcre2_match_data *found = how ? pcre2_match_data_create(1, memory) : NULL;
    if (!found) return od_fail(st, OD_NO_MEMORY, "no memory to match");
    pcre2_set_match_limit(how, STEPS_MAX);
    pcre2_set_depth_limit(how, DEPTH_MAX);
    pcre2_set_heap_limit(how, HEAP_MAX_KIB);
    int rc = pcre2_match(r->code, (PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len, 0, 0, found, how);
    *matches = rc >= 0;
    if (rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT || rc == PCRE2_ERROR_NOMEMORY)
        return od_fail(st, OD_TOO_LARGE, "to match a text of %zu bytes takes more than the %d steps that a pattern may", text.len, STEPS_MAX);
    return OD_OK; /* anything else is no match, or text that is no UTF-8, which matches nothing */
}
