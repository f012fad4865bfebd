/* ml.h - what the operators of ai.onnx.ml share: rows of features, class labels, transforms of scores. */
#ifndef ENG_OPS_ML_H
#define ENG_OPS_ML_H

#include "engine/op.h"

#define ENG_T_ML (ENG_T(ENG_FLOAT) | ENG_T(ENG_DOUBLE) | ENG_T(ENG_INT32) | ENG_T(ENG_INT64))

typedef enum eng_post { ENG_POST_NONE, ENG_POST_SOFTMAX, ENG_POST_LOGISTIC, ENG_POST_SOFTMAX_ZERO, ENG_POST_PROBIT } eng_post;

od_code eng_ml_post(const eng_node *n, eng_post *post, od_status *st);

/* The transform of n scores, n >= 2, in place. */
void eng_ml_transform(eng_post post, double *s, int64_t n);

double eng_ml_logistic(double x);
double eng_ml_probit(double x);

/* One score of a pair of classes becomes two: (1 - s, s), or (-s, s) when `mirrored`; a logistic transform is
 * that of both signs, a probit that of each; the softmaxes leave a pair as it is. */
void eng_ml_pair(eng_post post, bool mirrored, double score, double *out);

/* Input 0 as rows of features: [N,C], or [C] as one row. */
od_code eng_ml_rows(const eng_ctx *c, int64_t *rows, int64_t *features, od_status *st);
void eng_ml_row(const eng_tensor *x, int64_t row, int64_t features, double *out);

/* Work on rows 0 .. rows in parallel, each with `doubles` of scratch. */
typedef void eng_ml_row_fn(void *arg, int64_t row, double *scratch);
od_code eng_ml_each_row(eng_ctx *c, int64_t rows, int64_t doubles, int64_t cost, eng_ml_row_fn *fn, void *arg, od_status *st);

/* Class labels of attributes `ints_name` or classlabels_strings; n 0: neither. */
typedef struct eng_labels {
    int64_t n;
    const int64_t *ints;
    const eng_str *strings; /* NULL: ints */
} eng_labels;

od_code eng_labels_read(const eng_node *n, const char *ints_name, eng_labels *l, od_status *st);
void eng_labels_put(const eng_labels *l, const eng_tensor *out, int64_t row, int64_t which);

/* Without two labels to choose from, a decision is 1 or 0, as text where labels are text. */
void eng_labels_put_sign(const eng_labels *l, const eng_tensor *out, int64_t row, bool positive);

#endif
