/*
 * wordpiece: a vocab.txt alone makes a tokenizer.
 */
#include "tests/runtime/wordpiece.h"

#include "runtime/text/tok_def.h"
#include "tests/runtime/golden.h"

#include <check.h>

static const char vocab[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\nruns\nparis\n.\n";

struct tok *wordpiece_begin(const char *name, char path[100])
{
    char folder[64];
    struct tok *tok;
    struct err e;
    golden_folder(folder);
    snprintf(path, 100, "%s/vocab.txt", folder);
    golden_write(path, vocab, sizeof vocab - 1);
    ck_assert_msg(!tok_open_folder(folder, -1, -1, &tok, &e), "%s", e.text);
    snprintf(path, 100, "%s/%s", folder, name);
    return tok;
}

void wordpiece_end(struct tok *tok, const char *path)
{
    char folder[64];
    tok_close(tok);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    golden_remove(folder);
}
