/* hsvm_assert(rule, text): live only in the checked build (-DHSVM_CHECKS); it aborts on a broken rule of the simulator itself. */
#ifndef HSVM_CHECK_H
#define HSVM_CHECK_H

#ifdef HSVM_CHECKS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define hsvm_assert(rule, text) \
    do { if (!(rule)) { fprintf(stderr, "hsvm_assert: %s\n", (text)); abort(); } } while (0)
/* A page given back holds junk until it is taken again, so that a dangling use shows. */
#define hsvm_junk(page) memset((page), 0xdb, 4096)
#define hsvm_clean(page) memset((page), 0, 4096)
#else
#define hsvm_assert(rule, text) ((void)sizeof(rule), (void)(text))
#define hsvm_junk(page) ((void)0)
#define hsvm_clean(page) ((void)0)
#endif

#endif
