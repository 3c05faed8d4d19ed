/*
 * monitor_keep: one file, {"alerts", "source", "told"}, which a saver replaces as a whole. A lock
 * beside it says who may: in a roll-out two pods have the same folder for a while.
 */
#include "agent/monitor_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <string.h>

#define KEEP_FILE "monitor.json"
#define LOCK_FILE "monitor.lock"
#define KEEP_MS   1000

int monitor_keep_create(struct monitor *m, const char *run_dir, struct err *e)
{
    const char *folder = m->spec->serve.classify.state ? m->spec->serve.classify.state : run_dir;
    char file[LIMIT_PATH_BYTES], lock[LIMIT_PATH_BYTES];
    int n = snprintf(file, sizeof file, "%s/" KEEP_FILE, folder);
    snprintf(lock, sizeof lock, "%s/" LOCK_FILE, folder);
    return n >= (int)sizeof file ? err_set(e, ERR_USER, "%.100s...: the path is too long", folder)
                                 : saver_create(file, lock, &m->saver, e);
}

static void write_state(const struct monitor *m, struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_open(&w, "alerts", '{');
    alerts_write(m->alerts, &w);
    jsonw_close(&w);
    jsonw_open(&w, "source", '{');
    if (m->intake)
        intake_write(m->intake, &w);
    jsonw_close(&w);
    jsonw_open(&w, "told", '{'); /* to webhooks */
    for (int i = 0; i < m->spec->serve.classify.alert_count; i++)
        jsonw_int(&w, m->spec->serve.classify.alerts[i].name, hooks_view(m->hooks, i).told_ms);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_end(&w);
}

static void keep(struct monitor *m)
{
    buf_auto struct buf out;
    buf_init(&out, SAVER_BYTES);
    write_state(m, &out);
    char *text = buf_take(&out);
    if (text)
        saver_put(m->saver, text);
    else
        log_warn("what is watched is not kept: out of memory");
    m->changed = !text;
    m->keep_due_ms = m->now_ms + KEEP_MS;
}

/* text: what was kept, or NULL. Of what was told to nobody yet webhooks hear now. */
static void take_up(struct monitor *m, const char *text)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    m->held = true;
    if (text && json_parse(text, strlen(text), &v, &e))
        log_warn("what was watched is forgotten", LOG_ERR(&e));
    if (v && !alerts_read(m->alerts, json_get(v, "alerts")))
        log_info("alerts that were changed, or not kept, begin anew");
    if (v) {
        m->said_ms = alerts_now_ms(m->alerts);
        m->heard_ms = m->now_ms;
    }
    for (int i = 0; v && i < m->spec->serve.classify.alert_count; i++) {
        struct alerts_change c;
        const char *name = m->spec->serve.classify.alerts[i].name;
        if (alerts_last_change(m->alerts, i, &c) && c.ms > json_int(json_get(v, "told"), name, -1))
            hooks_add(m->hooks, &c, m->now_ms);
    }
    const struct follow_place from = follow_place_read(json_get(v, "source"));
    if (m->intake)
        intake_begin(m->intake, &from);
}

static void claim(struct monitor *m)
{
    mem_autofree char *text = NULL;
    struct err e = {0};
    int rc = m->now_ms >= m->claim_due_ms ? saver_claim(m->saver, &text, &e) : 0;
    if (rc > 0)
        take_up(m, text);
    if (rc >= 0)
        return;
    if (!m->claim_due_ms)
        log_warn("what is watched waits for its state", LOG_ERR(&e));
    m->claim_due_ms = m->now_ms + KEEP_MS;
}

void monitor_keep_tick(struct monitor *m)
{
    if (!m->held)
        claim(m);
    else if (m->changed && m->now_ms >= m->keep_due_ms)
        keep(m);
}

void monitor_keep_end(struct monitor *m)
{
    if (m->held && m->changed)
        keep(m);
    saver_destroy(m->saver);
}
