/*
 * skim: what can be read of an object's text without parsing it, and what need not be parsed at
 * all.
 *
 * An object of a stranger may be more than the parser takes (a NUL in a string, brackets 70 deep, a
 * million values). Its names are found all the same, so that it can be skipped, told of, and known
 * when it is deleted. The text may end anywhere and be malformed; what is not found is "". Pure.
 */
#ifndef CONTROLLER_KUBE_SKIM_H
#define CONTROLLER_KUBE_SKIM_H

#include "api/limits.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct skim {
    char type[16]; /* of a watch event */
    char name[LIMIT_SUBDOMAIN_BYTES], namespace_[LIMIT_NAME_BYTES], uid[64], version[24];
};

/* text: an object, or when watch an event {"type":..,"object":{..}}. What nothing here needs
 * becomes
 * []: metadata.managedFields and annotations; containers, volumes, tolerations and images of spec
 * and status. Returns the new length. */
size_t skim_object(char *text, size_t len, bool watch, struct skim *out);

/* Appends text to out; of members of the root that are named so, [] stands for the value. 0 or
 * -ERR_MEMORY. */
int skim_without(const char *text, size_t len, const char *const *names, struct buf *out);

/* metadata.resourceVersion of an answer of the API server; 0: none. */
uint64_t skim_version(const char *text, size_t len);

#endif
