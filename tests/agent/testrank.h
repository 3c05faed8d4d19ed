/*
 * testrank: a rank that speaks the real protocol and computes nothing. A test program whose main
 * calls testrank_main when TESTRANK is set in its environment can be its own rank program. See
 * testrank.c for the script in TESTRANK.
 */
#ifndef TESTS_AGENT_TESTRANK_H
#define TESTS_AGENT_TESTRANK_H

#define TESTRANK_SHARE 3 /* on its page: sequences of a step */

int testrank_main(void);

#endif
