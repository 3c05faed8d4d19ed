/*
 * llmjob-agent. Everything is in agent/agent.c, so that tests can run it too.
 */
#include "agent/agent.h"

int main(int argc, char **argv)
{
    return agent_main(argc, argv);
}
