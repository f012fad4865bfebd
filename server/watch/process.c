#include "server/watch/process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int64_t count_entries(const char *path)
{
    DIR *d = opendir(path);
    if (!d) return 0;
    int64_t n = -3; /* ".", "..", and the descriptor of the folder itself */
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static int64_t threads_of_status(void)
{
    char line[256];
    long n = 0;
    FILE *f = fopen("/proc/self/status", "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Threads: %ld", &n) == 1) break;
    fclose(f);
    return n;
}

void srv_process_read(srv_process *out)
{
    *out = (srv_process){0};
    struct rusage use;
    if (!getrusage(RUSAGE_SELF, &use))
        out->cpu_seconds = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    long all = 0, resident = 0, page = sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%ld %ld", &all, &resident) != 2) all = resident = 0;
    if (f) fclose(f);
    out->virtual_bytes = (int64_t)all * page;
    out->resident_bytes = (int64_t)resident * page;
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit)) out->max_fds = (int64_t)limit.rlim_cur;
    out->open_fds = count_entries("/proc/self/fd");
    out->threads = threads_of_status();
}
