/*
 * agent: the whole program, callable: agent/main.c and the tests, which run several agents as
 * children.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

/* Runs until released or asked to go; returns an exit class. One call a process: it owns its
 * signals. */
int agent_main(int argc, char **argv);

#endif
