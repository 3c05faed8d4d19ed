/*
 * banned: included before every C file of the house (-include). Functions that cannot be used well
 * become compile errors that name what to use instead (after git's banned.h). base/mem.c lifts the
 * ban on the allocator by defining LLMJOB_ALLOW_MALLOC in its Makefile rule.
 */
#ifndef BASE_BANNED_H
#define BASE_BANNED_H

#define _MM_MALLOC_H_INCLUDED 1 /* immintrin.h's _mm_malloc would call malloc */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LLMJOB_ALLOW_MALLOC
#undef strdup
#undef strndup
#define malloc(...)        banned_malloc_use_mem_alloc
#define calloc(...)        banned_calloc_use_mem_array
#define realloc(...)       banned_realloc_use_mem_grow
#define strdup(...)        banned_strdup_use_mem_strdup
#define strndup(...)       banned_strndup_use_mem_strndup
#define aligned_alloc(...) banned_aligned_alloc_use_mem_aligned
#endif

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf
#undef strtok
#undef alloca
#define strcpy(...)   banned_strcpy_use_snprintf
#define strcat(...)   banned_strcat_use_buf
#define strncpy(...)  banned_strncpy_use_snprintf
#define strncat(...)  banned_strncat_use_buf
#define sprintf(...)  banned_sprintf_use_snprintf
#define vsprintf(...) banned_vsprintf_use_vsnprintf
#define strtok(...)   banned_strtok_use_strtok_r
#define atoi(...)     banned_atoi_use_strtol
#define atol(...)     banned_atol_use_strtol
#define atof(...)     banned_atof_use_strtod
#define system(...)   banned_system_use_posix_spawn
#define popen(...)    banned_popen_use_posix_spawn
#define alloca(...)   banned_alloca
#define tmpnam(...)   banned_tmpnam_use_mkstemp
#define mktemp(...)   banned_mktemp_use_mkstemp

#endif
