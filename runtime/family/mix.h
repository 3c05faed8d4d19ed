/*
 * mix: which type each tensor of a quantized model gets, in a file (spec.convert.quantize) as in
 * the memory of a training (spec.train.lora.quantizedBase). Pure. The rules are llama.cpp's
 * (llama_tensor_get_type in its quantiser), so that a file is what its name says elsewhere:
 * vectors, learned positions and routers stay F32; the head is Q6_K with Q4_0 and Q4_K_M, and with
 * Q4_K_M so are half of the values and of the feed-forward's second matrices, an expert's too.
 * Three differ. Where rows are no multiple of 256, Q5_1 stands for Q4_K and Q8_0 for Q6_K;
 * llama.cpp has Q5_0 for the former, which costs SmolLM2-135M a tenth of its perplexity. Where q, k
 * and v are one matrix, it gets Q6_K rather than Q5_K. And eight experts are a number like others.
 */
#ifndef RUNTIME_FAMILY_MIX_H
#define RUNTIME_FAMILY_MIX_H

#include "api/jobspec.h"
#include "kernels/dev.h"
#include "runtime/family/tensors.h"
#include "runtime/family/weights.h"

/* In a GGUF file. joined: its tensor holds others beside t. stored: t's type in the source. */
enum dtype mix_type(const struct model_config *c, enum quantize q, const struct tensor *t,
    bool joined, enum dtype stored);
/* Of a whole Hugging Face folder; None: what all matrices have, else F32, which holds all. */
enum dtype mix_folder_type(enum quantize q, const struct weights *from);
/* llama.cpp's number of a whole file (general.file_type). None: by the type of its matrices. */
uint32_t mix_file_type(enum quantize q, const struct weights *from);

#endif
