/*
 * err: how every function of the house reports failure.
 *
 * The caller owns a struct err and passes it last; it is untouched on success. A function returns
 * 0, or the negative code that err_set() returned. The code is the class by which the failure is
 * handled (see api/exitcode.h); the text is one sentence that names the field, file or line at
 * fault. A function either logs an error or returns it, never both. Thread: no shared state.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err_code {
    ERR_NONE = 0,
    ERR_RETRY,   /* transient: network, conflict, a peer not there yet */
    ERR_USER,    /* the job or command line is wrong: never retried */
    ERR_DATA,    /* a dataset or model file is missing or malformed: never retried */
    ERR_CORRUPT, /* a checkpoint failed its hash or shape check */
    ERR_DEVICE,  /* an accelerator or node misbehaves */
    ERR_PEER,    /* another rank or agent is gone */
    ERR_HANG,    /* a deadline passed without progress */
    ERR_MEMORY,  /* out of memory, host or device */
    ERR_DRAINED, /* stopped on request at a step boundary */
    ERR_BUG,     /* a state that should be impossible */
    ERR_CODES
};

struct err {
    enum err_code code;
    int sys;        /* errno where a system call failed, else 0 */
    char text[256]; /* one sentence, no newline, never a secret */
};

/* Fills *e (which may be NULL) and returns -code. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, and appends ": strerror(sys)". ENOMEM turns the code into ERR_MEMORY. */
int err_sys(struct err *e, enum err_code code, int sys, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "context: " before the text; keeps the code; returns -e->code. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "user", "data", ... stable names, used in logs, reports and status. */
const char *err_code_name(enum err_code code);

/* Reverse of err_code_name; ERR_BUG for an unknown name. */
enum err_code err_code_parse(const char *name);

#endif
