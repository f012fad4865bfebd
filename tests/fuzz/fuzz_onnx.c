/* fuzz_onnx.c - any bytes as a model file: they load or are refused with a message. */
#include "engine/base/log.h"
#include "loaders/onnx.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    od_status st = {0};
    eng_model *m = NULL;
    od_log_level(OD_SILENT);
    od_code rc = ldr_onnx_load_bytes(data, size, NULL, NULL, &m, &st);
    fuzz_check((rc == OD_OK) == (m != NULL));
    fuzz_check(rc == OD_OK || (st.code == rc && st.msg[0] && rc != OD_INTERNAL));
    eng_model_destroy(m);
    return 0;
}
