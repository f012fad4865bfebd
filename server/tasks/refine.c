/* refine.c - where between the places of a heat map its peak lies.
 *
 * Near a peak the logarithm of a Gaussian is a parabola: one Newton step from the highest place on the logarithm of the map,
 * smoothed first, finds its top.
 * "dark": Zhang et al., "Distribution-aware coordinate representation for human pose estimation": slopes over two places,
 *   curvatures over four, no step within two places of the edge.
 * "udp": Huang et al., "The devil is in the details": curvatures over two places, everywhere.
 *   Parameter edge_twice (0): the map goes on backwards behind its edge from the edge's place itself, as SciPy's filters have it, not
 *   from the one before, as OpenCV's.
 * Parameters kernel (11), how many places wide it is smoothed, and sigma (0: by OpenCV's rule from the kernel). */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

enum { KERNEL_MAX = 63 };

typedef struct heat {
    const float *map;
    int64_t rows, columns;
    float weights[KERNEL_MAX];
    int kernel;
    bool udp, edge_twice;
} heat;

static bool is_decoder(const srv_answer *w, const char *name)
{
    return w->card->decoder && !strcmp(w->card->decoder, name);
}

od_code srv_refine_check(const srv_answer *w)
{
    double kernel = srv_number(w, "kernel", 11), sigma = srv_number(w, "sigma", 0);
    if (kernel >= 1 && kernel <= KERNEL_MAX && fmod(kernel, 2) == 1 && sigma >= 0 && sigma <= KERNEL_MAX) return OD_OK;
    return od_fail(w->st, OD_BAD_MODEL, "'kernel' is %.9g and 'sigma' %.9g; an odd number from 1 to %d and one from 0 to %d are wanted", kernel,
                   sigma, KERNEL_MAX, KERNEL_MAX);
}

static void set_weights(heat *h, double sigma)
{
    double sum = 0;
    if (sigma <= 0) sigma = 0.3 * ((h->kernel - 1) * 0.5 - 1) + 0.8;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < h->kernel; i++) {
            double d = i - (h->kernel - 1) / 2, x = exp(-d * d / (2 * sigma * sigma));
            if (pass) h->weights[i] = (float)(x / sum);
            else sum += x;
        }
}

/* Behind the edge the map goes on backwards ("udp"), or is zero: -1. */
static int64_t behind_edge(const heat *h, int64_t i, int64_t n)
{
    if (i >= 0 && i < n) return i;
    if (!h->udp) return -1;
    if (n == 1) return 0;
    int64_t period = h->edge_twice ? 2 * n : 2 * n - 2;
    i = (i % period + period) % period;
    return i < n ? i : (h->edge_twice ? 2 * n - 1 : 2 * n - 2) - i;
}

/* The logarithm of the smoothed map. */
static double level(const heat *h, int64_t x, int64_t y)
{
    double sum = 0;
    int radius = (h->kernel - 1) / 2;
    if (h->udp) { /* its outermost places are repeated */
        x = od_max_i64(0, od_min_i64(x, h->columns - 1));
        y = od_max_i64(0, od_min_i64(y, h->rows - 1));
    }
    for (int v = 0; v < h->kernel; v++) {
        int64_t row = behind_edge(h, y + v - radius, h->rows);
        double across = 0;
        for (int u = 0; u < h->kernel && row >= 0; u++) {
            int64_t column = behind_edge(h, x + u - radius, h->columns);
            if (column >= 0) across += (double)h->weights[u] * (double)h->map[row * h->columns + column];
        }
        sum += (double)h->weights[v] * across;
    }
    return log(h->udp ? fmin(fmax(sum, 1e-3), 50) : fmax(sum, 1e-10));
}

void srv_refine(const srv_answer *w, const float *map, int64_t rows, int64_t columns, int64_t x, int64_t y, float *dx, float *dy)
{
    heat h = {.map = map, .rows = rows, .columns = columns, .kernel = (int)srv_number(w, "kernel", 11), .udp = is_decoder(w, "heatmap-udp"),
              .edge_twice = srv_number(w, "edge_twice", 0) != 0};
    if (!h.udp && !is_decoder(w, "heatmap-dark")) return;
    *dx = *dy = 0;
    if (!h.udp && (x <= 1 || x >= columns - 2 || y <= 1 || y >= rows - 2)) return;
    set_weights(&h, srv_number(w, "sigma", 0));
    int64_t s = h.udp ? 1 : 2;
    double f = h.udp ? 1 : 0.25, here = level(&h, x, y);
    double left = level(&h, x - 1, y), right = level(&h, x + 1, y), up = level(&h, x, y - 1), down = level(&h, x, y + 1);
    double gx = (right - left) / 2, gy = (down - up) / 2;
    double xx = f * (level(&h, x + s, y) - 2 * here + level(&h, x - s, y)), yy = f * (level(&h, x, y + s) - 2 * here + level(&h, x, y - s));
    double corners = level(&h, x + 1, y + 1) + level(&h, x - 1, y - 1);
    double xy = h.udp ? (corners - right - down + 2 * here - left - up) / 2
                      : (corners - level(&h, x + 1, y - 1) - level(&h, x - 1, y + 1)) / 4;
    if (h.udp) xx += 0x1p-23, yy += 0x1p-23; /* so that flat maps have a step */
    double det = xx * yy - xy * xy, ox = (xy * gy - yy * gx) / det, oy = (xy * gx - xx * gy) / det;
    if (!isfinite(ox) || !isfinite(oy)) return;
    *dx = (float)ox;
    *dy = (float)oy;
}
