/* utf8.h - characters of UTF-8 text. */
#ifndef ENG_OPS_UTF8_H
#define ENG_OPS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENG_CODE_MAX = 0x10ffff };

/* The character at s[0 .. len), len > 0, and its length; a byte that begins none counts as U+FFFD. */
int eng_utf8_next(const char *s, size_t len, uint32_t *code);

/* Write `code` as 1 to 4 bytes; how many. */
int eng_utf8_put(char *to, uint32_t code);

/* Its upper or lower case by Unicode's simple rules. */
uint32_t eng_utf8_case(uint32_t code, bool upper);

#endif
