/* kernels_depthwise.h - depthwise rows: a template for kernels_*.c, after kernels_rows.h. */

/* Four pixels of a vector of channels share each weight. */
static void depthwise(const eng_depthwise *d)
{
    const vf alpha = VM(d->alpha), beta = VM(d->beta);
    for (int64_t p = 0; p < d->pixels; p += 4) {
        int64_t n = od_min_i64(4, d->pixels - p);
        int64_t at[4] = {p, p + (n > 1 ? 1 : 0), p + (n > 2 ? 2 : n - 1), p + (n > 3 ? 3 : n - 1)};
        for (int64_t c = 0; c < d->channels; c += VL) {
            vpart part = v_first(d->channels - c);
            vf bias = d->bias ? v_load_part(d->bias + c, part) : v_zero();
            vf y[4] = {bias, bias, bias, bias};
            const float *w = d->w + c;
            const float *const *taps = d->taps;
            for (int64_t t = 0; t < d->n_taps; t++, w += d->channels, taps += d->pixels) {
                vf k = v_load_part(w, part);
                for (int i = 0; i < 4; i++) y[i] = v_fma(v_load_part(taps[at[i]] + c, part), k, y[i]);
            }
            for (int64_t i = 0; i < n; i++) {
                vf add = d->residual ? v_load_part(d->add + (p + i) * d->ld_add + c, part) : v_zero();
                if (d->residual == ENG_RES_BEFORE_ACT) y[i] = v_add(y[i], add);
                y[i] = apply(d->act, alpha, beta, y[i]);
                if (d->residual == ENG_RES_AFTER_ACT) y[i] = v_add(y[i], add);
                v_store_part(d->c + (p + i) * d->ldc + c, part, y[i]);
            }
        }
    }
}
