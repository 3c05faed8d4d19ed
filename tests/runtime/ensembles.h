/*
 * ensembles: models that may answer as one, in a temporary folder: the tiny Llama of bytes.h as
 * `model` (F32), with noise in its weights as `noisy` (BF16), with a last layer in Q8_0 as
 * `model.gguf`, and an adapter of it as `adapter`, all with the same 256 tokens. A failure ends the
 * test.
 */
#ifndef TESTS_RUNTIME_ENSEMBLES_H
#define TESTS_RUNTIME_ENSEMBLES_H

#include "api/jobspec.h"
#include "kernels/dev.h"

#define ENSEMBLES_MEMBERS 4

/* folder: empty; the caller makes and removes it (golden.h). */
void ensembles_write(const char *folder);
/* A served model of these: the GGUF file's, which is the first member, too; "plain", "noisy" and
   "tuned", which has the adapter. Good until the next call. */
struct jobspec ensembles_job(const char *folder, enum average average);
/* What a member of that job is of: its file or folder, as it stands there. */
const char *ensembles_source(const struct jobspec *s, int i);
/* A copy of the model in a folder, each weight times 1 + noise * (-1 to 1), with its tokenizer. */
void ensembles_copy(
    const char *from, const char *to, double noise, uint64_t seed, enum dtype store);

#endif
