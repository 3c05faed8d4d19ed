/*
 * terminal: output of the live commands. A live picture is one write: home, lines each cleared to
 * their end, clear below; so a redraw neither flickers nor leaves rests. Without a terminal (or
 * with NO_COLOR, TERM=dumb) what is new is appended as lines. It never reads from the terminal and
 * never changes its input mode.
 */
#include "cli/terminal.h"

#include "base/io.h"

#include <sys/ioctl.h>
#include <unistd.h>

#define ENTER "\033[?1049h\033[?25l"
#define LEAVE "\033[?25h\033[?1049l"

void terminal_resize(struct terminal *t)
{
    struct winsize w;
    t->style.width = 100;
    t->style.height = 40;
    if (!ioctl(t->fd, TIOCGWINSZ, &w) && w.ws_col >= 20 && w.ws_row >= 5) {
        t->style.width = w.ws_col;
        t->style.height = w.ws_row;
    }
}

void terminal_init(struct terminal *t, int fd, bool plain)
{
    const char *term = getenv("TERM");
    *t = (struct terminal){.fd = fd};
    t->live = !plain && isatty(fd) && term && strcmp(term, "dumb") != 0;
    t->style.colour = t->live && !getenv("NO_COLOR");
    terminal_resize(t);
}

/* Each line cleared behind its text. */
static int draw_frame(struct terminal *t, const struct screen *s, struct buf *out)
{
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    if (screen_draw(s, &t->style, &text))
        return -ERR_MEMORY;
    buf_str(out, t->entered ? "\033[H" : ENTER "\033[H");
    for (const char *p = buf_cstr(&text); *p;) {
        size_t n = strcspn(p, "\n");
        buf_add(out, p, n);
        p += n + (p[n] == '\n');
        buf_str(out, *p ? "\033[K\r\n" : "\033[K");
    }
    return buf_str(out, "\033[J");
}

int terminal_show(struct terminal *t, const struct screen *s, struct err *e)
{
    buf_auto struct buf out;
    buf_init(&out, 2 << 20);
    int rc = t->live ? draw_frame(t, s, &out) : screen_tell(s, &t->told, &out);
    if (rc)
        return err_set(e, ERR_MEMORY, "out of memory drawing");
    t->entered = t->live;
    return io_write_full(t->fd, buf_cstr(&out), out.len, e);
}

void terminal_leave(struct terminal *t, const struct screen *last)
{
    if (!t->entered)
        return;
    t->entered = false;
    buf_auto struct buf out;
    buf_init(&out, 2 << 20);
    buf_str(&out, LEAVE);
    if (last)
        screen_draw(last, &t->style, &out);
    struct err ignored;
    io_write_full(t->fd, buf_cstr(&out), out.len, &ignored);
}
