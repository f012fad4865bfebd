/* predict.h - the way of pictures through a model, for the protocols that differ only in the form of the answer. */
#ifndef SRV_PREDICT_H
#define SRV_PREDICT_H

#include "server/protocols/pictures.h"

typedef struct srv_prediction srv_prediction;

/* Take the request's pictures through the model that its path names. `answer` is called on a worker when all results are
 * there and fills r->reply; errors are answered here. */
void srv_prediction_run(srv_request *r, void (*answer)(srv_prediction *p));

srv_request *srv_prediction_request(const srv_prediction *p);
const srv_model *srv_prediction_model(const srv_prediction *p);
int srv_prediction_count(const srv_prediction *p);
/* The pictures came as a list. */
bool srv_prediction_several(const srv_prediction *p);
/* The members of result `i`, as srv_picture_answer writes them. */
const srv_text *srv_prediction_result(const srv_prediction *p, int i);

#endif
