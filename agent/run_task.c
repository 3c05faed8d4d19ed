/*
 * run_task: an environment is a list of "NAME=value" in which a later name takes the earlier one's
 * place. A text that finds no room is remembered, so that each setting needs no check of its own.
 */
#include "agent/run_task.h"

#include <stdio.h>
#include <string.h>

#define TORCHRUN_VARIABLES 7

struct env_list {
    char **at; /* room for all that run_task_environment sets */
    int count;
    struct arena *arena;
    bool failed;
};

static void env_set(struct env_list *env, const char *name, const char *value)
{
    size_t n = strlen(name);
    char *text = arena_printf(env->arena, "%s=%s", name, value);
    env->failed |= !text;
    for (int i = 0; text && i < env->count; i++)
        if (!strncmp(env->at[i], name, n) && env->at[i][n] == '=') {
            env->at[i] = text;
            return;
        }
    if (text)
        env->at[env->count++] = text;
}

static void env_int(struct env_list *env, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    env_set(env, name, text);
}

void run_task_command(const struct jobspec_run *run, char *argv[RUN_TASK_ARGV])
{
    int n = 0;
    for (int i = 0; i < run->command_count; i++)
        argv[n++] = (char *)run->command[i];
    for (int i = 0; i < run->arg_count; i++)
        argv[n++] = (char *)run->args[i];
    argv[n] = NULL;
}

int run_task_environment(const struct jobspec_run *run, const struct run_task_place *place,
    char *const *inherited, struct arena *a, char ***out, struct err *e)
{
    size_t n = 0;
    while (inherited[n])
        n++;
    struct env_list env = {.arena = a};
    env.at = arena_array(a, n + TORCHRUN_VARIABLES + (size_t)run->env.count + 1, sizeof *env.at);
    if (!env.at)
        return err_set(e, ERR_MEMORY, "no memory for %zu variables", n);
    memcpy(env.at, inherited, n * sizeof *env.at);
    env.count = (int)n;
    env_int(&env, "RANK", place->rank);
    env_int(&env, "WORLD_SIZE", place->world);
    env_int(&env, "LOCAL_RANK", place->local);
    env_int(&env, "LOCAL_WORLD_SIZE", place->local_world);
    env_int(&env, "GROUP_RANK", place->replica);
    env_set(&env, "MASTER_ADDR", place->master);
    env_int(&env, "MASTER_PORT", place->master_port);
    for (int i = 0; i < run->env.count; i++)
        env_set(&env, run->env.keys[i], run->env.values[i]);
    if (env.failed)
        return err_set(e, ERR_MEMORY, "the environment exceeds %d bytes", RUN_TASK_BYTES);
    *out = env.at;
    return 0;
}
