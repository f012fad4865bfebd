/* cli.h - the commands of onnxd, one function each, and what they share.
 * A command takes its own words (argv[0] is the command's name) and returns the exit code: 0 well,
 * 1 the work failed, 2 the command line was wrong. */
#ifndef SRV_CLI_H
#define SRV_CLI_H

#include "engine/base/threads.h"
#include "engine/model.h"

#define SRV_VERSION "0.1.0"

int srv_cmd_serve(int argc, char **argv);
int srv_cmd_predict(int argc, char **argv);
int srv_cmd_run(int argc, char **argv);
int srv_cmd_verify(int argc, char **argv);
int srv_cmd_bench(int argc, char **argv);
int srv_cmd_inspect(int argc, char **argv);
int srv_cmd_health(int argc, char **argv);
int srv_cmd_load_test(int argc, char **argv);
int srv_cmd_version(int argc, char **argv);

/* Walks a command's words: flags as --name VALUE or --name=VALUE, the rest in order. */
typedef struct srv_args {
    int argc, at;
    char **argv;
    const char *value; /* of the flag just taken, when written with '=' */
    bool failed;       /* a message has been printed: return 2 */
} srv_args;

/* The next word that is no flag, or NULL at the end or when a flag comes first. */
const char *srv_args_word(srv_args *a);
/* true when the next word is the flag `name` ("--threads"): it is taken. */
bool srv_args_flag(srv_args *a, const char *name);
/* The value of the flag just taken. Sets `failed` when there is none or it is not in lo .. hi. */
const char *srv_args_text(srv_args *a, const char *name);
int64_t srv_args_int(srv_args *a, const char *name, int64_t lo, int64_t hi);
double srv_args_number(srv_args *a, const char *name, double lo, double hi);
/* true when the next word says how to load a model: --pack-cache (else ONNXD_PACK_CACHE holds), --disable-passes,
 * --no-passes. It is taken. */
bool srv_args_load(srv_args *a, eng_load_options *load);
eng_load_options srv_cli_load_options(void);
/* The next word fits nothing: says so and sets `failed`. */
void srv_args_unknown(srv_args *a);

/* Print "onnxd: ..." with the status's message on standard error and return 1. */
int srv_cli_fail(const od_status *st);

/* *model, as a command was given it: of a folder it becomes the file in it that `onnxd serve` would take, of the newest
 * version, as text that holds until the next call. OD_NOT_FOUND: there is none. */
od_code srv_cli_find_model(const char **model, od_status *st);

/* Stand-in tensors for a model's inputs: declared extents, free ones from `shapes` (lines
 * "NAME=1x3x224x224"), else `batch` for the first and 1 elsewhere (224 for height and width of
 * pictures). Filled with numbers that repeat from run to run. Bytes from `arena`. */
od_code srv_cli_make_inputs(const eng_model *m, const char *const *shapes, int n_shapes, int64_t batch, od_arena *arena,
                            eng_tensor *inputs, od_status *st);

#endif
