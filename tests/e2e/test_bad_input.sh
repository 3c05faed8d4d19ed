#!/bin/bash
# Goal: whatever kind of input is wrong, a job ends with one sentence that names the file and, where it has lines, the line, or
# the field; with its class, tried once; and nothing is lost or left: an older output of the job stands as it did. Method: the
# table of bad_input.py: each row edits one thing of what good jobs read and made here, and runs `llmjob run` or `plan`.
. "$(dirname "$0")/lib.sh"
alone

own_programs
byte_tokenizer >"$work/tokenizer.json"
counted python3 tests/e2e/bad_input.py "$work" tests/golden
check "nothing is left running" poll 60 "the end of all processes" none_running
finish
