/* fuzz_onnx.c - any bytes as a model file: they load or are refused with a message, and whether all of them were read first or
 * weights stayed in the file makes no difference. */
#include "loaders/onnx/load.c" /* for load_file */
#include "engine/base/log.h"
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>

static od_code load_left_out(const uint8_t *data, size_t size)
{
    od_status st;
    eng_model *m = NULL;
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    od_code rc = load_file(fd, 1, NULL, NULL, &m, &st);
    close(fd);
    fuzz_check((rc == OD_OK) == (m != NULL));
    eng_model_destroy(m);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    od_status st = {0};
    eng_model *m = NULL;
    od_log_level(OD_SILENT);
    od_code rc = ldr_onnx_load_bytes(data, size, NULL, NULL, &m, &st);
    fuzz_check((rc == OD_OK) == (m != NULL));
    fuzz_check(rc == OD_OK || (st.code == rc && st.msg[0] && rc != OD_INTERNAL));
    eng_model_destroy(m);
    fuzz_check(load_left_out(data, size) == rc);
    return 0;
}
