/* The hot loops as compiled: registers that a compiler keeps on the stack there cost more than half the speed,
 * and nothing else shows it. Reads this program through objdump; does nothing where that is absent, or the
 * build is not an optimised one. */
#include "engine/kernels/kernels.h"
#include "tests/test.h"

#include <unistd.h>

enum { LINES = 20000 };

typedef struct line {
    unsigned long at, jump; /* where a jump goes; 0: none */
    bool stack, fma, foreign;
} line;

static line lines[LINES];
static int n_lines;

static FILE *disassembly(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__) || !defined(__x86_64__)
    return NULL;
#else
    char command[300], self[200];
    ssize_t got = readlink("/proc/self/exe", self, sizeof self - 1);
    if (got <= 0 || !eng_kernels_get() || system("objdump --version >/dev/null 2>&1")) return NULL;
    self[got] = 0;
    snprintf(command, sizeof command, "objdump -d --no-show-raw-insn '%s'", self);
    return popen(command, "r");
#endif
}

static void read_line(char *text)
{
    char op[32], *tab = strchr(text, '\t');
    unsigned long at, to;
    if (!tab || n_lines == LINES || sscanf(text, " %lx:", &at) != 1 || sscanf(tab, " %31s", op) != 1) return;
    line *l = &lines[n_lines++];
    *l = (line){.at = at, .stack = strstr(tab, "(%rsp") != NULL, .fma = strstr(op, "vfmadd") != NULL,
                .foreign = strstr(tab, "_san_") || strstr(tab, "__gcov") || strstr(tab, "__ubsan")};
    if (op[0] == 'j' && sscanf(tab + 1 + strlen(op), " %lx", &to) == 1) l->jump = to;
}

/* Innermost loops of exactly `fmas` multiply-adds that leave the stack alone, or -1 when one does not. */
static int clean_loops(int fmas)
{
    int loops = 0;
    for (int end = 0; end < n_lines; end++) {
        int begin = end, count = 0;
        bool inner = true, stack = false;
        if (!lines[end].jump || lines[end].jump > lines[end].at) continue;
        while (begin > 0 && lines[begin].at > lines[end].jump) begin--;
        for (int i = begin; i <= end; i++) {
            count += lines[i].fma;
            stack |= lines[i].stack;
            if (i < end && lines[i].jump && lines[i].jump <= lines[i].at && lines[i].jump >= lines[begin].at) inner = false;
        }
        if (!inner || count != fmas) continue;
        if (stack) return -1;
        loops++;
    }
    return loops;
}

/* Multiply-adds of the innermost loop of a function called `name`, 0 when it is none of ours. */
static int fmas_of(const char *name)
{
    int rows, vectors;
    char half = 0, end;
    int got = sscanf(name, "tile%d_%d%c%c", &rows, &vectors, &half, &end);
    if (!got) got = sscanf(name, "seven%d_%d%c", &rows, &vectors, &end);
    return got == 2 || (got == 3 && half == 'h') ? rows * vectors : 0;
}

TEST(sums_of_products_stay_in_registers) {
    char text[400], name[100] = "", next[100];
    int checked = 0;
    FILE *f = disassembly();
    if (!f) return;
    while (fgets(text, sizeof text, f)) {
        if (sscanf(text, "%*x <%99[^>]>:", next) != 1) {
            if (fmas_of(name)) read_line(text);
            continue;
        }
        bool foreign = false;
        for (int i = 0; i < n_lines; i++) foreign |= lines[i].foreign; /* an instrumented build */
        if (fmas_of(name) && n_lines && !foreign) {
            int loops = clean_loops(fmas_of(name));
            if (loops < 1) TEST_FAIL("%s: %s", name, loops ? "its loop uses the stack" : "its loop was not found");
            checked++;
        }
        memcpy(name, next, sizeof name);
        n_lines = 0;
    }
    CHECK(pclose(f) == 0);
    CHECK(checked >= 6);
}

TEST_MAIN
