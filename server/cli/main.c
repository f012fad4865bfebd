#include "engine/base/cpu.h"
#include "server/cli/cli.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int, char **);
    const char *what;
} commands[] = {
    {"serve", srv_cmd_serve, "DIR: serve the models of a folder"},
    {"predict", srv_cmd_predict, "MODEL IMAGE...: classes, boxes or masks of pictures"},
    {"run", srv_cmd_run, "MODEL --input NAME=FILE.npy... --output-dir DIR: tensors in, tensors out"},
    {"verify", srv_cmd_verify, "PATH...: run ONNX test cases"},
    {"bench", srv_cmd_bench, "MODEL: latency and throughput"},
    {"inspect", srv_cmd_inspect, "MODEL: inputs, outputs, operators, size, cost"},
    {"health", srv_cmd_health, "[URL]: is a server ready?"},
    {"load-test", srv_cmd_load_test, "URL: latency and throughput of a server, from outside"},
    {"version", srv_cmd_version, "version, processor path, libraries"},
};

static int usage(FILE *to, int code)
{
    fprintf(to, "onnxd: ONNX models over HTTP.\n\nusage: onnxd COMMAND ...\n\n");
    for (size_t i = 0; i < OD_COUNT(commands); i++) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(to, "\n`onnxd COMMAND --help` says more of one. Exit codes: 0 well, 1 the work failed, 2 the command line was wrong.\n");
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 2) return usage(stderr, 2);
    static char help[] = "--help";
    if (argc == 3 && !strcmp(argv[1], "help")) argv[1] = argv[2], argv[2] = help; /* help COMMAND is COMMAND --help */
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return usage(stdout, 0);
    if (!strcmp(argv[1], "--version")) return srv_cmd_version(argc - 1, argv + 1);
    for (size_t i = 0; i < OD_COUNT(commands); i++)
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "onnxd: no command '%s'\n", argv[1]);
    return usage(stderr, 2);
}
