/*
 * fuzz_jsonl: any bytes as a JSONL corpus, through a file in memory. Must refuse with the file's
 * name or give samples, also of pairs, whose ids are in the vocabulary, and leave one whole file of
 * tokens or none.
 */
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/data/corpus.h"
#include "runtime/data/data.h"
#include "runtime/text/tok_def.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char template[] = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
                               "{% if add_generation_prompt %}assistant:{% endif %}";

/* Ids are bytes. */
static struct tok *byte_tokenizer(void)
{
    static struct tok *t;
    static char text[256][2];
    struct tok_text tokens[256];
    uint8_t kinds[256];
    struct err e = {0};
    for (int b = 0; !t && b < 256; b++) {
        uint32_t c = tok_byte_char((uint8_t)b);
        text[b][0] = (char)(c < 0x80 ? c : 0xc0 | c >> 6);
        text[b][1] = (char)(0x80 | (c & 0x3f));
        tokens[b] = (struct tok_text){text[b], c < 0x80 ? 1 : 2};
        kinds[b] = TOK_NORMAL;
    }
    struct tok_def d = {.vocab = 256, .tokens = tokens, .kinds = kinds, .bos = -1, .eos = 0};
    if (t)
        return t;
    if (tok_create(&d, "bytes", &t, &e))
        abort();
    return t;
}

static void check_samples(const struct data *d)
{
    int32_t in[4], out[4], first[4], length;
    for (int64_t i = 0; i < data_samples(d); i++) {
        data_sample(d, i, 4, in, out, &length);
        if (data_packed(d))
            data_first(d, i, 4, first);
        for (int k = 0; k < 4 && data_packed(d); k++)
            if (first[k] < 0 || first[k] > k || (k && first[k] < first[k - 1]))
                abort();
        for (int k = 0; k < 4; k++)
            if (in[k] < 0 || in[k] > 255 || out[k] < -1 || out[k] > 255)
                abort();
    }
}

static void check_pairs(const struct data *d)
{
    int32_t in[8], out[8], length[2];
    for (int64_t i = 0; i < data_samples(d); i++) {
        data_pair_sample(d, i, 4, in, out, length);
        for (int k = 0; k < 8; k++)
            if (in[k] < 0 || in[k] > 255 || out[k] < -1 || out[k] > 255)
                abort();
        if (length[0] < 1 || length[0] > 4 || length[1] < 1 || length[1] > 4)
            abort();
    }
}

static void try_corpus(const struct corpus *c)
{
    struct data *d = NULL;
    struct err e = {0};
    char tokens[LIMIT_PATH_BYTES];
    uint64_t key;
    if (corpus_tokenize(c, &key, &e)) {
        if (!strstr(e.text, c->path))
            abort();
        return;
    }
    if (tokens_path(c->folder, key, tokens, &e))
        abort();
    int rc = c->pairs ? data_open_pairs(c->path, tokens, 4, &d, &e)
                      : data_open(c->path, tokens, 4, c->skip == 1, &d, &e);
    if (!rc && c->pairs)
        check_pairs(d);
    else if (!rc)
        check_samples(d);
    else if (!strstr(e.text, c->path))
        abort();
    data_close(d);
    if (unlink(tokens))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64], folder[] = "/dev/shm/llmjob-fuzz-XXXXXX"; /* where fsync costs nothing */
    struct err e = {0};
    io_auto_fd int fd = memfd_create("corpus.jsonl", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    log_setup("fuzz", LOG_ERROR, false);
    if (io_write_full(fd, data, size, &e) || !mkdtemp(folder))
        abort();
    struct corpus c = {
        .path = path, .format = FORMAT_JSONL, .tok = byte_tokenizer(), .folder = folder};
    c.skip = size % 3;
    if (chat_parse(template, NULL, NULL, &c.chat, &e))
        abort();
    try_corpus(&c);
    c.pairs = true;
    try_corpus(&c);
    chat_close(c.chat);
    if (rmdir(folder))
        abort();
    return 0;
}
