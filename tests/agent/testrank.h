/*
 * testrank: a rank that speaks the real protocol and computes nothing. A test program whose main
 * calls testrank_main when TESTRANK is set in its environment can be its own rank program. See
 * testrank.c for the script in TESTRANK.
 */
#ifndef TESTS_AGENT_TESTRANK_H
#define TESTS_AGENT_TESTRANK_H

#define TESTRANK_SHARE 3 /* on its page: sequences of a step */

int testrank_main(void);

/* What it says where a request has tools. */
#define TESTRANK_CALLS \
    "So \xc3\xa9:\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1, \"\xc3\xa9\"]}}\n" \
    "</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>"

#endif
