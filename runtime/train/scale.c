/*
 * scale: a rule of three lines.
 */
#include "runtime/train/scale.h"

bool scale_step(struct ckpt_scale *s, bool finite)
{
    bool least = s->scale <= SCALE_LEAST;
    s->clean = finite ? s->clean + 1 : 0;
    s->skipped += !finite;
    if (!finite && !least)
        s->scale /= 2;
    if (s->clean == SCALE_CLEAN_STEPS) {
        s->scale = s->scale * 2 < SCALE_MOST ? s->scale * 2 : SCALE_MOST;
        s->clean = 0;
    }
    return finite || !least;
}
