/*
 * Goal: models answer as one only where they say the same kind of thing of the same tokens, or of
 * texts under the same labels; else the member that differs is named, with what differs. Method:
 * the models of ensembles.h, and tiny ones of tests/golden that do something else.
 */
#include "runtime/serve/members.h"

#include "tests/runtime/bytes.h"
#include "tests/runtime/ensembles.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static char folder[64];
static struct err e;
static struct weights *w;
static struct tok *tok;
static struct members m;
static struct members_share share = {NULL, 0, 1}; /* of this rank */

static void setup(void)
{
    golden_folder(folder);
    ensembles_write(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

static int open_members(const struct jobspec *s, enum wire_does does)
{
    ck_assert_msg(!weights_open(s->model.source, NULL, &w, &e), "%s", e.text);
    ck_assert_msg(!tok_open(w, &tok, &e), "%s", e.text);
    e.text[0] = 0;
    return members_open(s, &share, w, tok, does, &m, &e);
}

static void close_files(void)
{
    tok_close(tok);
    weights_close(w);
}

static void refuse(const struct jobspec *s, enum wire_does does, const char *says)
{
    ck_assert_int_eq(open_members(s, does), -ERR_USER);
    ck_assert_msg(strstr(e.text, says), "%s, wanted: %s", e.text, says);
    close_files();
}

START_TEST(folders_and_files_are_members)
{
    const struct jobspec s = ensembles_job(folder, AVERAGE_LOGITS);
    ck_assert_msg(!open_members(&s, WIRE_DOES_GENERATE), "%s", e.text);
    ck_assert(m.count == ENSEMBLES_MEMBERS && m.of == ENSEMBLES_MEMBERS);
    ck_assert(m.at[0].weights == w && !m.at[0].own && m.at[1].weights != w && m.at[1].own);
    ck_assert_str_eq(m.at[3].is->name, "tuned");
    members_release(&m);
    members_done(&m);
    close_files();
}
END_TEST

/* Every other one, from the second on. */
START_TEST(a_rank_has_its_share)
{
    const struct jobspec s = ensembles_job(folder, AVERAGE_LOGITS);
    share = (struct members_share){NULL, 1, 2};
    ck_assert_msg(!open_members(&s, WIRE_DOES_GENERATE), "%s", e.text);
    ck_assert(m.count == 2 && m.of == ENSEMBLES_MEMBERS);
    ck_assert_str_eq(m.at[0].is->name, "plain");
    ck_assert_str_eq(m.at[1].is->name, "tuned");
    members_done(&m);
    close_files();
}
END_TEST

START_TEST(what_differs_is_named)
{
    struct jobspec s = ensembles_job(folder, AVERAGE_LOGITS);
    char path[128];
    s.serve.ensemble.members[2].source = GOLDEN "tiny-gpt2";
    refuse(&s, WIRE_DOES_GENERATE, "members: noisy: it has a vocabulary of");
    s.serve.ensemble.members[2].source = GOLDEN "tiny-bert-texts";
    refuse(&s, WIRE_DOES_GENERATE, "members: noisy: it is to classify, the model to generate");
    snprintf(path, sizeof path, "%s/other", folder);
    ck_assert(!io_mkdirs(path, 0755, &e));
    bytes_model(path); /* in which token 1 is a byte */
    snprintf(path, sizeof path, "%s/other/model", folder);
    s.serve.ensemble.members[2].source = path;
    refuse(&s, WIRE_DOES_GENERATE, "members: noisy: its token 1 is \"");
}
END_TEST

START_TEST(labels_are_the_same)
{
    struct jobspec s = ensembles_job(folder, AVERAGE_LOGITS);
    s.model.source = GOLDEN "tiny-bert-texts";
    s.serve.ensemble.member_count = 2;
    s.serve.ensemble.members[1].source = GOLDEN "tiny-bert";
    refuse(&s, WIRE_DOES_CLASSIFY, "members: plain: it is to ");
    refuse(&s, WIRE_DOES_EMBED, "not of a model that embeds texts");
    s.serve.ensemble.members[0].adapter = folder;
    refuse(&s, WIRE_DOES_CLASSIFY, "members: small: adapter: not of a model that reads whole");
}
END_TEST

START_TEST(a_missing_member_is_an_error_unless_it_may_be)
{
    struct jobspec s = ensembles_job(folder, AVERAGE_LOGITS);
    s.serve.ensemble.members[1].source = "/nowhere/model";
    refuse(&s, WIRE_DOES_GENERATE, "members: plain: there is no /nowhere/model");
    s.serve.ensemble.allow_missing = true;
    s.serve.ensemble.members[3].adapter = "/nowhere/adapter";
    ck_assert_msg(!open_members(&s, WIRE_DOES_GENERATE), "%s", e.text);
    ck_assert(m.count == 2 && m.of == ENSEMBLES_MEMBERS);
    ck_assert_str_eq(m.at[1].is->name, "noisy");
    members_done(&m);
    close_files();
    s.serve.ensemble.members[0].source = s.serve.ensemble.members[2].source = "/nowhere";
    refuse(&s, WIRE_DOES_GENERATE, "none of the 4 is there");
}
END_TEST

int main(void)
{
    const struct unit u = {"members", 60, setup, teardown};
    const TTest *const tests[] = {folders_and_files_are_members, a_rank_has_its_share,
        what_differs_is_named, labels_are_the_same, a_missing_member_is_an_error_unless_it_may_be,
        NULL};
    return unit_run_with(&u, tests);
}
