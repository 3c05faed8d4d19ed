/*
 * banned: included before every file of the house (-include). Functions that cannot be used well become compile
 * errors. mem.c, io.c and buf.c lift the ban they need by BANNED_ALLOW_<x> before any include.
 */
#ifndef BASE_BANNED_H
#define BASE_BANNED_H

#ifndef __cplusplus

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LLMJOB_ALLOW_MALLOC
#undef strdup
#undef strndup
#pragma GCC poison malloc calloc realloc strdup strndup aligned_alloc
#endif
#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok atoi atol atof
#pragma GCC poison system popen tmpnam mktemp alloca
#pragma GCC poison cJSON_Compare cJSONUtils_MergePatch

#endif
#endif
