/* ops.h - the functions of every operator family, for the table in engine/registry.c.
 * One block a file of this folder; what each must do is in engine/op.h. */
#ifndef ENG_OPS_H
#define ENG_OPS_H

#include "engine/op.h"

#endif
