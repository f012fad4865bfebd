#include "engine/ops/regex.h"
#include "engine/ops/utf8.h"

#include <string.h>

enum { PROGRAM_MAX = 20000, REPEAT_MAX = 1000, DEPTH_MAX = 200, RANGES_MAX = 512 };

typedef enum re_kind { RE_RANGE, RE_SPLIT, RE_JUMP, RE_ASSERT, RE_MATCH } re_kind;

/* A class is ranges[first .. first + n): a sorted or unsorted union, negated or not. */
typedef struct re_op {
    re_kind kind;
    int x, y;      /* SPLIT, JUMP: where to go on; RANGE: first range and their number; ASSERT: which, multi-line */
    bool negated, fold;
} re_op;

typedef struct re_range {
    uint32_t lo, hi;
} re_range;

struct eng_regex {
    re_op *ops;
    re_range *ranges;
    int n_ops, n_ranges;
};

/* ---- compiling ---------------------------------------------------------------------------- */

typedef struct flags {
    bool fold, multi, dot_all;
} flags;

typedef struct compiler {
    eng_regex *r;
    const char *start, *at, *end;
    flags f;
    int depth, cap_ranges;
    od_arena *a;
    od_status *st;
} compiler;

static od_code bad(compiler *c, const char *what)
{
    return od_fail(c->st, OD_BAD_ARGUMENT, "pattern, at byte %d: %s", (int)(c->at - c->start), what);
}

static od_code emit(compiler *c, re_op op)
{
    if (c->r->n_ops == PROGRAM_MAX) return od_fail(c->st, OD_TOO_LARGE, "pattern: more than %d steps", PROGRAM_MAX);
    c->r->ops[c->r->n_ops++] = op;
    return OD_OK;
}

static od_code add_range(compiler *c, uint32_t lo, uint32_t hi)
{
    eng_regex *r = c->r;
    if (r->n_ranges == c->cap_ranges) {
        int more = c->cap_ranges ? c->cap_ranges * 2 : 64;
        re_range *bigger = od_arena_array(c->a, re_range, more);
        if (!bigger || more > 1 << 20) return od_fail(c->st, OD_TOO_LARGE, "pattern: too many classes");
        if (r->n_ranges) memcpy(bigger, r->ranges, (size_t)r->n_ranges * sizeof *bigger);
        r->ranges = bigger;
        c->cap_ranges = more;
    }
    r->ranges[r->n_ranges++] = (re_range){lo, hi};
    return OD_OK;
}

static const struct {
    const char *name, *chars; /* pairs lo, hi */
} classes[] = {
    {"alnum", "09AZaz"}, {"alpha", "AZaz"},   {"ascii", "\1\x7f"}, {"blank", "\t\t  "}, {"cntrl", "\1\x1f\x7f\x7f"},
    {"digit", "09"},     {"graph", "!~"},     {"lower", "az"},     {"print", " ~"},     {"punct", "!/:@[`{~"},
    {"space", "\t\r  "}, {"upper", "AZ"},     {"word", "09AZ__az"}, {"xdigit", "09AFaf"},
    {"d", "09"},         {"s", "\t\n\f\r  "}, {"w", "09AZ__az"},
};

static const char *class_named(const char *name, size_t len)
{
    for (size_t i = 0; i < OD_COUNT(classes); i++)
        if (strlen(classes[i].name) == len && !memcmp(classes[i].name, name, len)) return classes[i].chars;
    return NULL;
}

/* The class's characters, or, negated, the gaps between them (they are listed in order). */
static od_code add_class(compiler *c, const char *chars, bool negated)
{
    uint32_t next = 0;
    for (; *chars; chars += 2) {
        uint32_t lo = (unsigned char)chars[0], hi = (unsigned char)chars[1];
        if (lo == 1) lo = 0;
        if (!negated) OD_TRY(add_range(c, lo, hi));
        else if (lo > next) OD_TRY(add_range(c, next, lo - 1));
        next = hi + 1;
    }
    return negated ? add_range(c, next, ENG_CODE_MAX) : OD_OK;
}

static int hex_of(char ch)
{
    if (ch >= '0' && ch <= '9') return ch - '0';
    ch |= 32;
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static od_code hex_escape(compiler *c, uint32_t *code)
{
    bool braces = c->at < c->end && *c->at == '{';
    int digits = 0;
    *code = 0;
    if (braces) c->at++;
    for (; c->at < c->end && hex_of(*c->at) >= 0 && *code <= ENG_CODE_MAX && (braces || digits < 2); c->at++, digits++)
        *code = *code * 16 + (uint32_t)hex_of(*c->at);
    if (!digits || (!braces && digits < 2) || *code > ENG_CODE_MAX || (braces && (c->at == c->end || *c->at++ != '}')))
        return bad(c, "a broken \\x");
    return OD_OK;
}

/* Behind a backslash: a literal into *code, or, *chars set, a class. */
static od_code escape(compiler *c, uint32_t *code, const char **chars, bool *negated)
{
    static const char from[] = "tnrfva", to[] = "\t\n\r\f\v\a";
    if (c->at == c->end) return bad(c, "a backslash at the end");
    char ch = *c->at;
    const char *known = strchr(from, ch);
    *chars = NULL;
    if (known && ch) {
        c->at++;
        *code = (unsigned char)to[known - from];
    } else if (ch && strchr("dswDSW", ch)) {
        char lower = (char)(ch | 32);
        c->at++;
        *negated = ch != lower;
        *chars = class_named(&lower, 1);
    } else if (ch == 'x') {
        c->at++;
        return hex_escape(c, code);
    } else if (ch >= '0' && ch <= '7') {
        int digits = 0;
        if (ch != '0' && (c->at + 1 == c->end || c->at[1] < '0' || c->at[1] > '7')) return bad(c, "a back-reference");
        for (*code = 0; c->at < c->end && *c->at >= '0' && *c->at <= '7' && digits < 3; c->at++, digits++)
            *code = *code * 8 + (uint32_t)(*c->at - '0');
    } else if (ch == 'p' || ch == 'P' || ch == 'C') {
        return od_fail(c->st, OD_UNSUPPORTED, "pattern: \\%c", ch);
    } else if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '8' || ch == '9') {
        return bad(c, "an unknown escape");
    } else {
        c->at += eng_utf8_next(c->at, (size_t)(c->end - c->at), code);
    }
    return OD_OK;
}

static od_code class_item(compiler *c)
{
    uint32_t lo, hi;
    const char *chars;
    bool negated = false;
    if (c->end - c->at > 3 && c->at[0] == '[' && c->at[1] == ':') {
        const char *name = c->at + 2;
        const char *close = memchr(name, ':', (size_t)(c->end - name));
        if (close && close + 1 < c->end && close[1] == ']') {
            negated = *name == '^';
            name += negated;
            if (!(chars = class_named(name, (size_t)(close - name)))) return bad(c, "an unknown class name");
            c->at = close + 2;
            return add_class(c, chars, negated);
        }
    }
    if (*c->at == '\\') {
        c->at++;
        OD_TRY(escape(c, &lo, &chars, &negated));
        if (chars) return add_class(c, chars, negated);
    } else {
        c->at += eng_utf8_next(c->at, (size_t)(c->end - c->at), &lo);
    }
    hi = lo;
    if (c->end - c->at > 1 && c->at[0] == '-' && c->at[1] != ']') {
        c->at++;
        if (*c->at == '\\') {
            c->at++;
            OD_TRY(escape(c, &hi, &chars, &negated));
            if (chars) return bad(c, "a class as the end of a range");
        } else {
            c->at += eng_utf8_next(c->at, (size_t)(c->end - c->at), &hi);
        }
        if (hi < lo) return bad(c, "a range that runs backwards");
    }
    return add_range(c, lo, hi);
}

static od_code parse_class(compiler *c)
{
    re_op op = {.kind = RE_RANGE, .x = c->r->n_ranges, .fold = c->f.fold};
    if (c->at < c->end && *c->at == '^') {
        op.negated = true;
        c->at++;
    }
    for (bool first = true; first || *c->at != ']'; first = false) {
        if (c->at == c->end) return bad(c, "a class without its ]");
        OD_TRY(class_item(c));
        if (c->at == c->end) return bad(c, "a class without its ]");
        if (c->r->n_ranges - op.x > RANGES_MAX) return bad(c, "a class of too many ranges");
    }
    c->at++;
    op.y = c->r->n_ranges - op.x;
    return emit(c, op);
}

static od_code literal(compiler *c, uint32_t code)
{
    re_op op = {.kind = RE_RANGE, .x = c->r->n_ranges, .y = 1, .fold = c->f.fold};
    OD_TRY(add_range(c, code, code));
    return emit(c, op);
}

static od_code assertion(compiler *c, int which)
{
    return emit(c, (re_op){.kind = RE_ASSERT, .x = which, .y = c->f.multi});
}

static od_code parse_alternatives(compiler *c);

/* Behind "(?": flags. *group: a group of its own follows. */
static od_code parse_flags(compiler *c, bool *group)
{
    bool on = true;
    if (c->at < c->end && (*c->at == 'P' || *c->at == '<')) {
        const char *close = memchr(c->at, '>', (size_t)(c->end - c->at));
        bool named = *c->at == '<' || (c->end - c->at > 1 && c->at[1] == '<');
        if (!close || !named || c->at[1] == '=' || c->at[1] == '!') return bad(c, "a broken group name");
        c->at = close + 1;
        *group = true;
        return OD_OK;
    }
    for (; c->at < c->end; c->at++) {
        switch (*c->at) {
        case '-': on = false; break;
        case 'i': c->f.fold = on; break;
        case 'm': c->f.multi = on; break;
        case 's': c->f.dot_all = on; break;
        case 'U': break; /* lazy and greedy match the same whole strings */
        case ':':
        case ')': *group = *c->at++ == ':'; return OD_OK;
        default: return bad(c, "an unknown flag");
        }
    }
    return bad(c, "a group without its )");
}

/* A group, or flags for what follows. *empty: nothing that a repetition may stand behind. */
static od_code parse_group(compiler *c, bool *empty)
{
    flags outer = c->f;
    bool group = true;
    if (++c->depth > DEPTH_MAX) return bad(c, "groups nest too deep");
    if (c->at < c->end && *c->at == '?') {
        c->at++;
        OD_TRY(parse_flags(c, &group));
    }
    if (group) {
        OD_TRY(parse_alternatives(c));
        if (c->at == c->end || *c->at != ')') return bad(c, "a group without its )");
        c->at++;
        c->f = outer;
    }
    *empty = !group;
    c->depth--;
    return OD_OK;
}

static od_code parse_escape(compiler *c)
{
    uint32_t code;
    const char *chars;
    bool negated = false;
    re_op op = {.kind = RE_RANGE, .x = c->r->n_ranges};
    char ch = c->at < c->end ? *c->at : 0;
    if (ch == 'A' || ch == 'z' || ch == 'b' || ch == 'B') {
        c->at++;
        bool multi = c->f.multi;
        c->f.multi = false;
        OD_TRY(assertion(c, ch == 'A' ? '^' : ch == 'z' ? '$' : ch));
        c->f.multi = multi;
        return OD_OK;
    }
    OD_TRY(escape(c, &code, &chars, &negated));
    if (!chars) return literal(c, code);
    OD_TRY(add_class(c, chars, negated));
    op.y = c->r->n_ranges - op.x;
    return emit(c, op);
}

static od_code parse_quoted(compiler *c)
{
    uint32_t code;
    while (c->at < c->end && !(c->end - c->at > 1 && c->at[0] == '\\' && c->at[1] == 'E')) {
        c->at += eng_utf8_next(c->at, (size_t)(c->end - c->at), &code);
        OD_TRY(literal(c, code));
    }
    if (c->at < c->end) c->at += 2;
    return OD_OK;
}

static od_code parse_atom(compiler *c, bool *empty)
{
    uint32_t code;
    char ch = *c->at;
    *empty = false;
    switch (ch) {
    case '(': c->at++; return parse_group(c, empty);
    case '[': c->at++; return parse_class(c);
    case '^':
    case '$': c->at++; return assertion(c, ch);
    case '*':
    case '+':
    case '?': return bad(c, "nothing to repeat");
    case '.': {
        re_op op = {.kind = RE_RANGE, .x = c->r->n_ranges, .y = 1, .negated = true};
        c->at++;
        OD_TRY(add_range(c, c->f.dot_all ? ENG_CODE_MAX + 1 : '\n', c->f.dot_all ? ENG_CODE_MAX + 1 : '\n'));
        return emit(c, op);
    }
    case '\\':
        c->at++;
        if (c->at < c->end && *c->at == 'Q') {
            c->at++;
            return parse_quoted(c);
        }
        return parse_escape(c);
    default: c->at += eng_utf8_next(c->at, (size_t)(c->end - c->at), &code); return literal(c, code);
    }
}

static int number(compiler *c, const char **at)
{
    int n = -1;
    for (; *at < c->end && **at >= '0' && **at <= '9' && n <= REPEAT_MAX; (*at)++) n = (n < 0 ? 0 : n * 10) + (**at - '0');
    return n;
}

/* {n}, {n,} or {n,m}; anything else is literal text. *most -1: no bound. */
static bool parse_count(compiler *c, int *least, int *most)
{
    const char *at = c->at + 1;
    *least = *most = number(c, &at);
    if (*least < 0) return false;
    if (at < c->end && *at == ',') {
        at++;
        *most = number(c, &at);
    }
    if (at >= c->end || *at != '}') return false;
    c->at = at + 1;
    return true;
}

/* Once more the steps [from, to), which are relocatable: jumps in them stay in them or end at `to`. */
static od_code repeat_steps(compiler *c, int from, int to)
{
    int shift = c->r->n_ops - from;
    for (int i = from; i < to; i++) {
        re_op op = c->r->ops[i];
        if (op.kind == RE_SPLIT || op.kind == RE_JUMP) {
            op.x += shift;
            op.y += shift;
        }
        OD_TRY(emit(c, op));
    }
    return OD_OK;
}

/* Make room for one step at `from`. */
static od_code insert_step(compiler *c, int from)
{
    OD_TRY(emit(c, (re_op){.kind = RE_JUMP}));
    re_op *ops = c->r->ops;
    memmove(ops + from + 1, ops + from, (size_t)(c->r->n_ops - 1 - from) * sizeof *ops);
    for (int i = from + 1; i < c->r->n_ops; i++) {
        if (ops[i].kind != RE_SPLIT && ops[i].kind != RE_JUMP) continue;
        ops[i].x++;
        ops[i].y++;
    }
    return OD_OK;
}

/* The steps from `from` on, `least` to `most` times. */
static od_code repeat(compiler *c, int from, int least, int most)
{
    int size = c->r->n_ops - from;
    if (least > REPEAT_MAX || most > REPEAT_MAX || (most >= 0 && most < least)) return bad(c, "a bad repetition");
    if (!least && !most) {
        c->r->n_ops = from;
        return OD_OK;
    }
    for (int i = 1; i < least; i++) OD_TRY(repeat_steps(c, from, from + size));
    if (most < 0 && least) { /* the last copy again: split back to it */
        int last = c->r->n_ops - size;
        return emit(c, (re_op){.kind = RE_SPLIT, .x = last, .y = c->r->n_ops + 1});
    }
    int body = from;
    if (least) { /* further copies, each of which may be left out */
        for (int i = least; i < most; i++) {
            int split = c->r->n_ops;
            OD_TRY(emit(c, (re_op){.kind = RE_SPLIT, .x = split + 1, .y = split + 1 + size}));
            OD_TRY(repeat_steps(c, from, from + size));
        }
        return OD_OK;
    }
    OD_TRY(insert_step(c, body));
    c->r->ops[body] = (re_op){.kind = RE_SPLIT, .x = body + 1, .y = body + 1 + size};
    if (most < 0) {
        c->r->ops[body].y++;
        return emit(c, (re_op){.kind = RE_JUMP, .x = body, .y = body});
    }
    for (int i = 1; i < most; i++) {
        int split = c->r->n_ops;
        OD_TRY(emit(c, (re_op){.kind = RE_SPLIT, .x = split + 1, .y = split + 1 + size}));
        OD_TRY(repeat_steps(c, body + 1, body + 1 + size));
    }
    return OD_OK;
}

static od_code parse_repeats(compiler *c, int from)
{
    for (bool again = false; c->at < c->end; again = true) {
        int least, most;
        if (*c->at == '*') least = 0, most = -1, c->at++;
        else if (*c->at == '+') least = 1, most = -1, c->at++;
        else if (*c->at == '?') least = 0, most = 1, c->at++;
        else if (*c->at != '{' || !parse_count(c, &least, &most)) return OD_OK;
        if (again) return bad(c, "a repetition of a repetition");
        if (c->at < c->end && *c->at == '?') c->at++;
        OD_TRY(repeat(c, from, least, most));
    }
    return OD_OK;
}

/* A branch that another follows begins with a split and ends with a jump behind the last; the jumps are
 * chained through x until that place is known. */
static od_code parse_alternatives(compiler *c)
{
    int from = c->r->n_ops, jumps = -1;
    while (c->at < c->end && *c->at != ')') {
        if (*c->at == '|') {
            c->at++;
            OD_TRY(insert_step(c, from));
            int jump = c->r->n_ops;
            c->r->ops[from] = (re_op){.kind = RE_SPLIT, .x = from + 1, .y = jump + 1};
            OD_TRY(emit(c, (re_op){.kind = RE_JUMP, .x = jumps}));
            jumps = jump;
            from = jump + 1;
            continue;
        }
        bool empty;
        int atom = c->r->n_ops;
        OD_TRY(parse_atom(c, &empty));
        if (!empty) OD_TRY(parse_repeats(c, atom));
    }
    while (jumps >= 0) {
        re_op *op = &c->r->ops[jumps];
        jumps = op->x;
        op->x = op->y = c->r->n_ops;
    }
    return OD_OK;
}

od_code eng_regex_compile(eng_regex **out, eng_str pattern, od_arena *a, od_status *st)
{
    eng_regex *r = od_arena_array(a, eng_regex, 1);
    if (r) r->ops = od_arena_array(a, re_op, PROGRAM_MAX);
    if (!r || !r->ops) return od_fail(st, OD_NO_MEMORY, "no memory for a pattern");
    const char *text = pattern.ptr ? pattern.ptr : "";
    if (pattern.len > PROGRAM_MAX) return od_fail(st, OD_TOO_LARGE, "pattern: %zu bytes", pattern.len);
    compiler c = {.r = r, .start = text, .at = text, .end = text + pattern.len, .a = a, .st = st};
    OD_TRY(parse_alternatives(&c));
    if (c.at < c.end) return bad(&c, "a ) without its (");
    OD_TRY(emit(&c, (re_op){.kind = RE_MATCH}));
    *out = r;
    return OD_OK;
}

/* ---- matching ----------------------------------------------------------------------------- */

typedef struct threads {
    int *list, n;
} threads;

typedef struct matcher {
    const eng_regex *r;
    uint32_t *seen; /* by step: the round in which it was last added */
    uint32_t round;
    int *stack;
    eng_str text;
} matcher;

size_t eng_regex_work(const eng_regex *r)
{
    return (size_t)r->n_ops * (sizeof(uint32_t) + 4 * sizeof(int)) + sizeof(int);
}

static bool is_word(uint32_t c)
{
    return c < 128 && (c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'));
}

static bool holds(const matcher *m, const re_op *op, size_t at)
{
    const char *s = m->text.ptr;
    bool begin = at == 0, end = at == m->text.len;
    switch (op->x) {
    case '^': return begin || (op->y && s[at - 1] == '\n');
    case '$': return end || (op->y && s[at] == '\n');
    default: {
        bool before = !begin && is_word((unsigned char)s[at - 1]), after = !end && is_word((unsigned char)s[at]);
        return (before != after) == (op->x == 'b');
    }
    }
}

/* Add step `pc` and all that follows without reading. */
static void add_thread(matcher *m, threads *t, int pc, size_t at)
{
    int n = 0;
    m->stack[n++] = pc;
    while (n) {
        pc = m->stack[--n];
        const re_op *op = &m->r->ops[pc];
        if (m->seen[pc] == m->round) continue;
        m->seen[pc] = m->round;
        if (op->kind == RE_JUMP) {
            m->stack[n++] = op->x;
        } else if (op->kind == RE_SPLIT) {
            m->stack[n++] = op->y;
            m->stack[n++] = op->x;
        } else if (op->kind == RE_ASSERT) {
            if (holds(m, op, at)) m->stack[n++] = pc + 1;
        } else {
            t->list[t->n++] = pc;
        }
    }
}

static bool in_ranges(const eng_regex *r, const re_op *op, uint32_t c)
{
    for (int i = 0; i < op->y; i++)
        if (c >= r->ranges[op->x + i].lo && c <= r->ranges[op->x + i].hi) return true;
    return false;
}

static bool takes(const eng_regex *r, const re_op *op, uint32_t c)
{
    bool in = in_ranges(r, op, c);
    if (!in && op->fold) in = in_ranges(r, op, eng_utf8_case(c, false)) || in_ranges(r, op, eng_utf8_case(c, true));
    return in != op->negated;
}

bool eng_regex_matches(const eng_regex *r, eng_str text, void *work)
{
    matcher m = {.r = r, .seen = work, .text = text};
    int *ints = (int *)(void *)(m.seen + r->n_ops);
    threads now = {.list = ints}, next = {.list = ints + r->n_ops};
    m.stack = ints + 2 * r->n_ops; /* a step is pushed at most twice before it is seen */
    memset(m.seen, 0, (size_t)r->n_ops * sizeof *m.seen);
    m.round = 1;
    add_thread(&m, &now, 0, 0);
    for (size_t at = 0; at < text.len && now.n;) {
        uint32_t code;
        at += (size_t)eng_utf8_next(text.ptr + at, text.len - at, &code);
        next.n = 0;
        if (!++m.round) { /* after 2^32 characters */
            memset(m.seen, 0, (size_t)r->n_ops * sizeof *m.seen);
            m.round = 1;
        }
        for (int i = 0; i < now.n; i++) {
            const re_op *op = &r->ops[now.list[i]];
            if (op->kind == RE_RANGE && takes(r, op, code)) add_thread(&m, &next, now.list[i] + 1, at);
        }
        threads t = now;
        now = next;
        next = t;
    }
    for (int i = 0; i < now.n; i++)
        if (r->ops[now.list[i]].kind == RE_MATCH) return true;
    return false;
}
