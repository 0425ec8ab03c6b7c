"""Templates drawn at random from Jinja's statements, expressions, filters, tests and methods, and golden ones with a word changed.

    HF_HUB_OFFLINE=1 python tests/golden/template_random.py FILE SEED COUNT

FILE is as template.py's cases.jsonl; test_template reads it where FTENGINE_TEMPLATE_FUZZ names it, and leaves out what the engine refuses
by name. What is left out here: results with an address in them, and errors that only jinja2's folding of constants makes.
"""

import json
import random
import re
import signal
import sys
import warnings

import template

ATOMS = ["messages", "tools", "words", "numbers", "mixed", "text", "zero", "empty", "nested", "nope", "1", "2.5", "-1", "0", "'a'", '"b c"', "''", "true", "false",
         "none", "[]", "{}", "()", "[1, 2]", "(1, 'x')", "{'a': 1}", "messages[0]", "messages[-1].content", "nested.a", "nested['x y']", "words[0]", "'é中🙂'", "' x '",
         "range(3)", "loop", "self", "caller", "namespace(a=1)", "dict(a=2)", "'A-b_c d'", "[3, 1, 2]", "['b', 'a', 'C']", "varargs", "1_0", "'3.5'", "'%s'",
         "[[1, 'a'], [2, 'b']]", "{'b': [1, {'c': none}]}", "'a\\nb\\n\\nc'"]
FILTERS = ["abs", "attr('a')", "batch(2) | list", "capitalize", "center(9)", "count", "d('z')", "default('q', true)", "dictsort", "dictsort(by='value')", "e", "first", "float",
           "forceescape", "format(1)", "groupby('role')", "indent(2, true)", "int", "int(base=16)", "items | list", "join(',')", "join('-', attribute='role')", "last", "length",
           "list", "lower", "map('upper') | list", "map(attribute='role') | list", "max", "min", "reject('none') | list", "rejectattr('content') | list", "replace('a', 'b')",
           "reverse | list", "round(1)", "round(method='floor')", "safe", "select('string') | list", "selectattr('role', 'eq', 'user') | list", "slice(2) | list", "sort",
           "sort(attribute='role')", "string", "sum", "sum(attribute='n')", "title", "tojson", "tojson(indent=2)", "trim('a')", "truncate(5, true, '..', 0)", "unique | list",
           "upper", "wordcount", "nofilter"]
TESTS = ["boolean", "callable", "defined", "divisibleby 3", "eq(1)", "escaped", "even", "false", "filter", "float", "gt 0", "in([1, 2])", "in 'abc'", "integer", "iterable",
         "lower", "mapping", "none", "number", "odd", "sameas none", "sequence", "string", "true", "undefined", "upper", "notest"]
METHODS = ["strip()", "split()", "split('a', 1)", "upper()", "title()", "startswith('a')", "endswith(('a', 'b'))", "replace('a', 'b')", "items()", "keys()", "get('a')",
           "get('q', 'd')", "join(['a', 'b'])", "find('a')", "index('a')", "count('a')", "isdigit()", "zfill(5)", "splitlines()", "partition(' ')", "append(1)", "copy()",
           "removeprefix('a')", "x", "role", "a.b", "__class__", "real", "imag", "numerator"]
SIGNS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">", "<=", ">=", "and", "or", "in", "not in"]
ITEMS = ["0", "-1", "1:", "::-1", ":2", "'a'", "none", "1.0", "true", "-2:", "'role'", "5"]
WORDS = list("|()[]{}%-.,~*=#+ \n") + ["none", "true", "0", "'a'", "if", "else", "not", "is", "in", "loop", "self", "==", "**", "nope", "words", "messages"]


class Drawer:
    def __init__(self, rng):
        self.rng = rng

    def one(self, *choices):
        return self.rng.choice(choices)

    def expression(self, depth):
        def inner():
            made = self.expression(depth - 1)
            return f"({made})" if self.rng.random() < 0.6 else made
        kind = self.rng.random() if depth > 0 else 0
        for bound, make in ((0.2, lambda: self.one(*ATOMS)), (0.44, lambda: f"{inner()} | {self.one(*FILTERS)}"), (0.57, lambda: f"{inner()} is {self.one('', 'not ')}{self.one(*TESTS)}"),
                            (0.69, lambda: f"{inner()}.{self.one(*METHODS)}"), (0.85, lambda: f"{inner()} {self.one(*SIGNS)} {inner()}"), (0.88, lambda: f"{inner()}[{self.one(*ITEMS)}]"),
                            (0.91, lambda: f"{inner()} if {inner()} else {inner()}"), (0.93, lambda: f"{inner()} if {inner()}"), (0.95, lambda: self.one("-", "not ", "+") + inner()),
                            (0.97, lambda: f"[{inner()}, {inner()}]"), (1, lambda: f"{{'k': {inner()}}}")):
            if kind < bound:
                return make()

    def statement(self, depth):
        def body():
            return "".join(self.statement(depth - 1) for _ in range(self.rng.choice([1, 1, 2])))
        e, kind = lambda: self.expression(2), self.rng.random() if depth > 0 else 0
        of_loop = ["{{ x }}", "{{ loop.index }}", "{{ loop.last }}", "{% break %}", "{% if loop.index == 2 %}{% continue %}{% endif %}", "{{ loop.previtem }}", "{{ loop.foo }}"]
        for bound, make in ((0.35, lambda: "{{ " + e() + " }}"), (0.5, lambda: f"{{% if {e()} %}}{body()}{{% elif {e()} %}}{body()}{{% else %}}{body()}{{% endif %}}"),
                            (0.68, lambda: f"{{% for {self.one('x', 'x', 'k, v')} in {e()}{self.one('', '', ' if x', ' recursive')} %}}{body()}{self.one(*of_loop)}{{% else %}}E{{% endfor %}}"),
                            (0.78, lambda: f"{{% set {self.one('y', 'y', 'y, z', 'ns.y', 'y.z')} = {e()} %}}{{{{ y }}}}{body()}"),
                            (0.82, lambda: f"{{% set y{self.one('', ' | upper')} %}}{body()}{{% endset %}}{{{{ y }}}}"),
                            (0.88, lambda: f"{{% macro m(a, b={e()}) %}}{body()}{{{{ a }}}}{{{{ b }}}}{self.one('', '{{ varargs }}', '{{ kwargs }}')}{{% endmacro %}}{{{{ m({e()}) }}}}{{{{ m(1, {e()}) }}}}"),
                            (0.92, lambda: f"{{% macro m(a) %}}<{{{{ caller({e()}) }}}}>{{% endmacro %}}{{% call{self.one('', '(q)')} m(1) %}}{body()}{{% endcall %}}"),
                            (0.95, lambda: f"{{% filter {self.one(*FILTERS)} %}}{body()}{{% endfilter %}}"), (0.98, lambda: f"{{% with a={e()}, b=a %}}{body()}{{{{ b }}}}{{% endwith %}}"),
                            (1, lambda: self.one("{% raw %}{{ x }}{% endraw %}", "{# c #}", "{% generation %}{{ 1 }}{% endgeneration %}", "  {%- if true -%} a {%- endif %}\n  b\n", "{%+ if true %} c {% endif +%}\n"))):
            if kind < bound:
                return make()

    def changed(self, source):
        parts = re.findall(r"\s+|\w+|[^\w\s]", source)
        for _ in range(self.rng.choice([1, 1, 2]) if parts else 0):
            at = self.rng.randrange(len(parts))
            parts[at:at + self.rng.choice([0, 1, 1])] = self.one([], [self.one(*parts)], [self.one(*WORDS)])
            parts = parts or [" "]
        return "".join(parts)

    def template(self, golden):
        kind = self.rng.random()
        return "{{ " + self.expression(3) + " }}" if kind < 0.4 else self.statement(2) if kind < 0.75 else self.changed(self.one(*golden))


class Slow(BaseException):
    pass


def stop(*_):
    raise Slow


def main(path, seed, count):
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, stop)
    template.chat.datetime = template.Clock
    golden = template.LOOPS + template.WHITE + template.VALUES + template.FILTERS + template.METHODS + template.MACROS + template.MARKS + template.WRONG + template.FOUND + template.REST
    drawer, row, made = Drawer(random.Random(int(seed))), json.dumps({"row": template.ROW}, ensure_ascii=False), 0
    with open(path, "w") as file:
        file.write(row + "\n")
        while made < int(count):
            source = drawer.template(golden)
            template.ROW.update(json.loads(row)["row"])  # `indent` of a list changes it
            try:
                signal.alarm(2)
                got = template.expected(source)
            except (Slow, RecursionError):
                continue
            finally:
                signal.alarm(0)
            if got is None or got.get("error") in ("AssertionError", "NameError") or " at 0x" in got.get("message", ""):
                continue
            file.write(json.dumps({"template": source, **got}, ensure_ascii=False) + "\n")
            made += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
