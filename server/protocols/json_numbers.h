/* json_numbers.h - numbers between JSON text and tensors, correctly rounded in both directions.
 *
 * Reading: up to 18 digits become one integer and one multiplication; only where that could round to a
 * neighbour (the result lies within a few units of a tie) strtod decides. Long arrays are read many numbers at
 * a time where the processor can (decimals.h). Writing: the shortest decimal
 * that reads back as the same number. Texts end in SRV_JSON_PAD zero bytes (json.h). */
#ifndef SRV_JSON_NUMBERS_H
#define SRV_JSON_NUMBERS_H

#include "server/protocols/json.h"
#include "server/text.h"

/* Read the number at `p`; what lies behind it, or NULL: no number of JSON's form, or (int64) not whole or
 * over 64 bits, or (double) infinite. */
const char *srv_scan_int64(const char *p, int64_t *out);
const char *srv_scan_double(const char *p, double *out);
const char *srv_scan_float(const char *p, float *out);

/* Read an array, flat or nested, into the elements of `t` (numbers or bool; data and dims set, ENG_ROW), which
 * must be as many. null is NaN where the type has one; so are NaN and the infinities as Python writes them.
 * OD_BAD_ARGUMENT: text that is no such array; OD_BAD_SHAPE: another count; OD_BAD_VALUE: a number that the
 * type cannot hold. */
od_code srv_json_numbers(srv_json *j, eng_tensor *t, od_status *st);

/* The shortest decimal into `to`; the end. At most SRV_FLOAT_CHARS and SRV_DOUBLE_CHARS characters, no zero
 * behind. "null" when it is not finite. */
enum { SRV_FLOAT_CHARS = 32, SRV_DOUBLE_CHARS = 32 };
char *srv_print_float(char *to, float x);
char *srv_print_double(char *to, double x);
char *srv_print_int(char *to, int64_t x);

/* Elements from .. from+count-1 of a tensor (numbers, bool or text; ENG_ROW) with commas between. */
void srv_text_elements(srv_text *text, const eng_tensor *t, int64_t from, int64_t count);

/* Round to the nearest half, ties to even; used where a tensor is float16 or bfloat16. */
uint16_t srv_double_to_half(double x);
uint16_t srv_double_to_bfloat16(double x);

#endif
