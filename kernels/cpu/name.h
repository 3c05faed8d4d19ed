/*
 * name: what a processor is called, by the text of /proc/cpuinfo.
 */
#ifndef KERNELS_CPU_NAME_H
#define KERNELS_CPU_NAME_H

#include <stdio.h>

/* To out (size). Of aarch64, which has no name there, the numbers of who makes it and of its kind;
 * "unknown processor" where f (NULL: it cannot be read) says neither. */
void cpu_name_of(FILE *f, char *out, size_t size);

#endif
