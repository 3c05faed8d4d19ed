/*
 * far: the farthest of several distances; unlike fmax it does not drop what is no number, so that a
 * bound on it does not hold then.
 */
#ifndef TESTS_FAR_H
#define TESTS_FAR_H

#include <math.h>

static inline double farther(double far, double distance)
{
    return isnan(far) || distance <= far ? far : distance;
}

#endif
