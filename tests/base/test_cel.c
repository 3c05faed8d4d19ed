/*
 * Goal: a rule is true where the Common Expression Language has it so, and one that is not
 * understood, or asks for what is not there, is an error and never a yes. Method: tables of rules
 * over one object, what they are, and where in them they fail.
 */
#include "base/cel.h"

#include "tests/unit.h"

#include <string.h>

static const char object[] =
    "{\"n\": 7, \"x\": 0.5, \"name\": \"Abc\", \"on\": true, \"none\": null, "
    "\"at\": {\"a\": 1}, \"list\": [{\"k\": \"p\", \"v\": 1}, {\"k\": \"q\", "
    "\"v\": 2}], \"words\": [\"x\", \"y\"], \"umlaut\": \"\u00e4\u00f6\"}";

static const struct {
    const char *rule;
    bool holds;
} rules[] = {
    {"true", true},
    {"!true", false},
    {"self.on", true},
    {"self.n == 7 && self.x < 1", true},
    {"self.n != 7", false},
    {"self.n >= 7 && self.n <= 7 && !(self.n > 7) && !(self.n < 7)", true},
    {"self.x == 0.5 && double(self.n) == 7.0", true},
    {"-self.n == 0 - 7", true},
    /* What binds tighter; divisions of whole numbers towards 0. */
    {"1 + 2 * 3 == 7", true},
    {"(1 + 2) * 3 == 9", true},
    {"self.n / 2 == 3 && self.n % 2 == 1 && (0 - 7) / 2 == 0 - 3", true},
    {"self.x / 2 == 0.25", true},
    {"true || true && false", true},
    {"false && true || true", true},
    {"false || false || true", true},
    /* What is settled is left unread, and what follows it is not. */
    {"true || self.missing.member == 1", true},
    {"(true || self.missing > 1) && false", false},
    {"false && self.missing > 1", false},
    {"has(self.missing) && self.missing.a > 1 || self.n == 7", true},
    {"!has(self.missing) || self.missing.all(a, a.b > self.c)", true},
    {"has(self.n) && has(self.at.a) && !has(self.at.b) && !has(self.none)", true},
    {"self.on ? self.n == 7 : self.missing == 1", true},
    {"(has(self.missing) ? self.missing : 1) == 1", true},
    {"(self.on ? 1 : 0) + (has(self.none) ? 1 : 0) == 1", true},
    {"self.name == 'Abc' && self.name != 'abc'", true},
    {"self.name.lowerAscii() == 'abc' && self.name.lowerAscii().endsWith('bc')", true},
    {"self.name.startsWith('A') && !self.name.startsWith('Abcd')", true},
    {"self.name.endsWith('bc') && !self.name.endsWith('aAbc')", true},
    {"(self.name + '/').startsWith('Abc' + '/')", true},
    {"(self.name + '/') == 'Abc/' && self.name + 'd' != 'Abc'", true},
    {"self.name.size() == 3 && self.umlaut.size() == 2", true},
    {"self.name in ['x', 'Abc'] && !(self.name in ['x'])", true},
    {"self.n in [1, 7]", true},
    {"'y' in self.words && !('z' in self.words)", true},
    {"self.list.size() == 2 && ['a', 'b', 'c'].size() == 3", true},
    {"self.list.all(a, a.v > 0) && !self.list.all(a, a.v > 1)", true},
    {"self.list.exists(a, a.k == 'q') && !self.list.exists(a, a.k == 'r')", true},
    {"self.list.exists_one(a, a.v == 2) && !self.list.exists_one(a, a.v > 0)", true},
    {"self.list.all(a, self.list.exists_one(b, b.k == a.k))", true},
    {"['x', 'Ab'].exists(p, self.name.startsWith(p))", true},
    {"self.list.all(a, self.words.exists(b, b != a.k)) && self.n == 7", true},
    {"self.missing.size() == 0 && self.missing.all(a, a.b) && !self.missing.exists(a, a.b)", true},
};

static const struct {
    const char *rule, *where;
} wrong[] = {
    {"", "a name is expected"},
    {"self.n", "true or false"},
    {"self.missing", "true or false"},
    {"self.missing == 1", "two values of one simple type"},
    {"self.none < 1", "a number is expected"},
    {"self.n == '7'", "two values of one simple type"},
    {"self.list == self.list", "two values of one simple type"},
    {"self.missing.a == 1", "what is no object"},
    {"self.name.a == 1", "what is no object"},
    {"self.n.all(a, true)", "a list is expected"},
    {"self.n.size() == 1", "a list is expected"},
    {"self.n.startsWith('a')", "a string's function"},
    {"self.name.matches()", "not known"},
    {"self.name + 1 == 'a'", "two strings"},
    {"self.n / 0 == 1", "no result"},
    {"self.x % 2 == 1", "no result"},
    {"other == 1", "not known"},
    {"self.list.all(a, a.missing == 1)", "two values"},
    {"self.list.all(a a.v == 1)", ", "},
    {"true true", "nothing more"},
    {"(true", ")"},
    {"has(self.n", ")"},
    {"self.name == 'Abc", "'"},
    {"true ? 1 : 2", "true or false"},
    {"true &&", "a name is expected"},
    {"[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))", "too many"},
};

static int ask(const char *rule, bool *holds, struct err *e)
{
    json_auto struct json *self = NULL;
    ck_assert_int_eq(json_parse(object, strlen(object), &self, e), 0);
    return cel_holds(rule, self, holds, e);
}

START_TEST(rules_are_true_or_not)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct err e = {.text = ""};
        bool holds = !rules[i].holds;
        ck_assert_msg(!ask(rules[i].rule, &holds, &e), "%s: %s", rules[i].rule, e.text);
        ck_assert_msg(holds == rules[i].holds, "%s", rules[i].rule);
    }
}
END_TEST

START_TEST(what_is_not_understood_is_no_yes)
{
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e = {.text = ""};
        bool holds = false;
        ck_assert_msg(
            ask(wrong[i].rule, &holds, &e) == -ERR_BUG && !holds, "%s: holds", wrong[i].rule);
        ck_assert_msg(strstr(e.text, wrong[i].where), "%s: %s", wrong[i].rule, e.text);
    }
}
END_TEST

UNIT_MAIN("cel", rules_are_true_or_not, what_is_not_understood_is_no_yes)
