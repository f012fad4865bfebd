/* decimals.h - the digits of many numbers at a time. Private to json_numbers.c. */
#ifndef SRV_DECIMALS_H
#define SRV_DECIMALS_H

#include <stdint.h>

enum {
    SRV_DECIMALS_TEXT = 1024,             /* bytes looked at by one call at most */
    SRV_DECIMALS = SRV_DECIMALS_TEXT / 2, /* numbers of one call at most */
    SRV_DECIMALS_BEHIND = 33,             /* bytes in front of the first number that may be read */
    SRV_DECIMALS_SLACK = 8,               /* elements behind the last that may be overwritten */
    SRV_DECIMALS_NO_POINT = 32
};

/* The shape of a number's text. */
typedef struct srv_decimal_form {
    uint8_t behind; /* digits behind the point, or SRV_DECIMALS_NO_POINT */
    uint8_t length; /* with the point, without the sign */
    char first;     /* character behind the sign */
    uint8_t negative;
} srv_decimal_form;

/* Number i is (digits[i][1] * 10^16 + digits[i][2] * 10^8 + digits[i][3]) / 10^behind, each part below 10^8. */
typedef struct srv_decimals {
    int count;
    int commas; /* that were found: more than `count` when something else than plain numbers ended the reading */
    uint16_t comma[SRV_DECIMALS_TEXT + SRV_DECIMALS_SLACK]; /* where the one behind each number stands */
    srv_decimal_form form[SRV_DECIMALS + SRV_DECIMALS_SLACK];
    uint32_t digits[SRV_DECIMALS + SRV_DECIMALS_SLACK][4];
} srv_decimals;

/* Read numbers of the form -?digits[.digits] up to 24 characters, each with a comma behind it and, if that is so of the first, a
 * blank in front. Reads whole steps of 64 bytes up to `end`, none beyond. */
void srv_decimals_avx2(const char *text, const char *end, srv_decimals *out);

/* Numbers from `from` up to `to` - 1 as floats, correctly rounded: how many. Ends before one too near to the middle between
 * two floats. */
int srv_decimals_floats_avx2(const srv_decimals *d, int from, int to, float *out);

#endif
