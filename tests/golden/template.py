"""Writes tests/golden/template/cases.jsonl: small templates, rows, and what transformers renders or raises.

  HF_HUB_OFFLINE=1 python tests/golden/template.py

Needs transformers 5.23 and jinja2 3.1.6. The clock stands at 2024-07-26 12:34:56.
"""

import datetime
import json
import pathlib

import transformers.utils.chat_template_utils as chat

ROW = {
    "messages": [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": " Hi <b>&\n"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1, "y": [1.5, True, None]}}}]},
        {"role": "tool", "content": "é ß 中 🙂\u2028"},
        {"role": "assistant", "content": "Fine.", "n": 3},
    ],
    "tools": [{"function": {"name": "f", "parameters": {"items": {"b": 2, "a": 1}}}}],
    "words": ["b", "A", "c", "a"],
    "numbers": [3, 1.0, 2.5, -7, 1e16, 1e-5, 123456789.125, 0.1],
    "mixed": [1, "1", True, None, 1.0, [1], {"k": "v"}],
    "text": "one two  three",
    "zero": 0,
    "empty": "",
    "nested": {"a": {"b": [{"c": 5}]}, "keys": "own", "items": 1, "x y": 2, "q'": "it's \"so\""},
}

LOOPS = [
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for m in messages if m.role != 'tool' %}{{ loop.length }}{{ m.role }}{{ loop.previtem.role if loop.previtem is defined }}|{{ loop.nextitem.role }}{% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}none{% endfor %}",
    "{% for k, v in nested.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}{% if loop.index > 4 %}{% break %}{% endif %}{{ m.role }},{% endfor %}",
    "{% set x = 0 %}{% for m in messages %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=0, l=[]) %}{% for m in messages %}{% set ns.x = ns.x + 1 %}{% set ns.l = ns.l + [m.role] %}{% endfor %}{{ ns.x }}{{ ns.l }}",
    "{% for a in [1, 2] %}{% for b in 'xy' %}{{ loop.index }}{{ a }}{{ b }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for i in range(3) %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(i // 2) }}{% endfor %}",
    "{% for n in [{'v': 1, 'c': [{'v': 2, 'c': []}]}] recursive %}{{ loop.depth }}{{ n.v }}({{ loop(n.c) }}){% endfor %}",
    "{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}{{ messages[1:3] | length }}{{ messages[-1].content }}",
    "{% for x in none %}{% endfor %}", "{% for x in 5 %}{% endfor %}", "{% for x in nope %}{% else %}e{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [[1]] %}{{ a }}{% endfor %}", "{% for c in 'é中' %}[{{ c }}]{% endfor %}",
    "{% for m in messages %}{% set last = m.role %}{% endfor %}{{ last is defined }}",
    "{% for i in range(2) %}{% set y = i %}{% if i == 1 %}{{ y }}{% endif %}{% endfor %}{{ y }}",
    "{% for x in range(200000) %}{% endfor %}", "{% break %}", "{{ loop }}",
    "{% for x in {'b': 1, 'a': 2} %}{{ x }}{% endfor %}", "{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}",
]
WHITE = [
    "  {% if true %}  \n  a\n  {% endif %}\n\nb  {#- c -#}  d\n", "a\n   {%- if true -%}  \n b {%- endif %} c", "x {{- 1 -}} y {{ 2 }} z\n",
    "  {%+ if true %}\n a{% endif +%}\nb", "{# c #}\n\na\n  {# d #}\nb", "{% raw %} {{ x }} {% endraw %}\nq", "a {%- raw -%} {% if %} {%- endraw -%} b",
    "\r\na\r\n{% if true %}\r\nb\r\n{% endif %}\r\n", "a\n\n", "a\n", "\n", "", "  {{ 1 }}\n  {{ 2 }}", "\t {% set x = 1 %} \n\t{{ x }}",
    "{% if true %}a{% endif %}  \n  {% if true %}b{% endif %}\n", "a  {%- set x = 1 -%}  b", "{%- for x in [1, 2] %}\n  {{ x }}\n{%- endfor %}\n.",
    "{{ '}}' }}{{ \"%}\" }}{{ {'a': {'b': 1}}['a']['b'] }}", "{#a#}{#-b-#} {{ 'x' }}", "<{% if 1 %} {% endif %}>",
]
VALUES = [
    "{{ mixed }}", "{{ nested }}", "{{ numbers }}", "{{ (1,) }}{{ () }}{{ (1, 'a') }}", "{{ true }}{{ none }}{{ 1.0 }}{{ -0.0 }}{{ 1e22 }}{{ 5e-324 }}",
    "{{ 'a\\'b' }}{{ ['a\\'b', \"a'b\", 'a\\n\\t\\x00é\\u200b'] }}", "{{ ['\\U0001F642', '\\x7f', '\\u00ad'] }}", "{{ range(3) }}{{ range(1, 9, 2) }}",
    "{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % 3 }}{{ -7 % 3 }}{{ 7 / 2 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 7.5 // 2 }}{{ -7.5 % 2 }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ 1.0 // 0 }}",
    "{{ 'a' * 3 }}{{ [1] * 2 }}{{ 'a' * -1 }}", "{{ 'a' + 1 }}", "{{ 1 + 'a' }}", "{{ [1] + 'a' }}", "{{ [1] + [2] }}{{ (1,) + (2,) }}", "{{ none + 'a' }}", "{{ 'a' ~ 1 ~ none ~ nope }}",
    "{{ 1 < 2 < 3 }}{{ 1 < 2 > 5 }}{{ 1 == 1.0 == true }}", "{{ 'a' < 1 }}", "{{ [1, 2] < [1, 3] }}{{ (1,) == [1] }}", "{{ 'b' in 'abc' }}{{ 'x' not in words }}{{ 'a' in nested }}",
    "{{ 1 in 'abc' }}", "{{ 'a' in none }}", "{{ 'a' in nope }}", "{{ 1 in 5 }}", "{{ [] in nested }}", "{{ not 0 and 1 or 2 }}{{ 0 or '' }}{{ 1 and [] }}", "{{ -3 | abs }}{{ -(3) }}{{ +5 }}", "{{ -'a' }}",
    "{{ 1 if true else 2 }}{{ 1 if false }}{{ 'a' if 0 else 'b' if 0 else 'c' }}", "{{ (1 if false).x }}", "{{ nope }}{{ nope is defined }}", "{{ nope.x }}", "{{ nope['x'] }}", "{{ nope + 1 }}", "{{ 1 + nope }}", "{{ nope() }}",
    "{{ nope[1:] }}", "{{ nope == none }}{{ nope == nope2 }}{{ nope | length }}{{ nope | string }}{{ nope | list }}", "{{ nope < 1 }}", "{{ -nope }}",
    "{{ nested.a.b[0].c }}{{ nested['a']['b'][0]['c'] }}{{ nested.keys }}{{ nested['keys'] }}", "{{ nested.items }}", "{{ nested.missing }}{{ nested.missing is none }}", "{{ nested.missing.x }}",
    "{{ messages[9] }}", "{{ messages[9].x }}", "{{ messages['a'].x }}", "{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'abc'[5] }}{{ 'é中'[1] }}", "{{ 'abc'[5].x }}", "{{ zero.x.y }}", "{{ none.x.y }}", "{{ messages[1.5].x }}",
    "{{ 'abcdef'[1:4] }}{{ 'abcdef'[::-1] }}{{ 'abcdef'[-2:] }}{{ 'abcdef'[::2] }}{{ 'é中🙂'[1:] }}{{ words[5:] }}{{ words[:-1] }}{{ words[-1:0:-1] }}", "{{ none[1:] }}", "{{ 'a'['b':] }}", "{{ nested[1:] }}",
    "{{ {'a': 1, 'b': 2, 'a': 3} }}{{ {1: 2}[1] }}{{ {} }}", "{{ {[1]: 2} }}", "{{ words.0 }}{{ words.9 }}", "{{ 'x' 'y' }}", "{{ 1_000 }}{{ 0x1F }}{{ 0b11 }}{{ 0o17 }}{{ 1.5e3 }}{{ 1_0.5 }}",
    "{{ True }}{{ False }}{{ None }}", "{{ dict(a=1, b=[2]) }}{{ dict([('k', 'v')]) }}{{ dict(nested.a) }}", "{{ namespace(a=1).a }}", "{{ namespace(_a=1) }}", "{{ namespace(a=1).b }}", "{{ namespace(a=1).b.c }}",
    "{% set x.y = 1 %}", "{% set nested.y = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{{ ''.__class__ }}", "{{ ''.__class__.x }}", "{{ messages.append(1) }}", "{{ nested.pop('a') }}", "{{ nested.update({}) }}",
    "{{ 5() }}", "{{ 'a'.nope }}", "{{ 'a'.nope() }}", "{{ words.nope() }}", "{{ raise_exception('oh <no>') }}", "{{ raise_exception() }}", "{{ strftime_now('%d %b %Y %H:%M %A %j %-d %%') }}", "{{ strftime_now(1) }}", "{{ range('a') }}", "{{ range(1, 2, 0) }}",
    "{{ 'abc' is string }}{{ 1 is string }}{{ none is none }}{{ nested is mapping }}{{ words is sequence }}{{ 'a' is sequence }}{{ nested is sequence }}{{ 1 is iterable }}{{ words is iterable }}{{ nope is iterable }}",
    "{{ 1 is number }}{{ true is number }}{{ true is boolean }}{{ true is integer }}{{ 1 is integer }}{{ 1.0 is float }}{{ true is true }}{{ 1 is true }}{{ false is false }}{{ nope is undefined }}{{ nope is callable }}{{ range is callable }}",
    "{{ 3 is odd }}{{ 4 is even }}{{ 9 is divisibleby 3 }}{{ 'a' is in words }}{{ 1 is eq 1 }}{{ 2 is gt 1 }}{{ 1 is not none }}{{ 'ab' is lower }}{{ 'AB' is upper }}{{ 'x' is sameas 'y' }}{{ 'trim' is filter }}{{ 'odd' is test }}",
    "{{ 1 is nope }}", "{% if false %}{{ 1 is nope }}{% endif %}ok", "{{ 1 | nope }}", "{% if true %}{{ 1 | nope }}{% endif %}", "{% for x in [1] %}{{ 1 | nope }}{% endfor %}", "{{ 1 is odd is even }}", "{{ 'a' is odd }}",
]
FILTERS = [
    "{{ nested | tojson }}", "{{ mixed | tojson(indent=2) }}", "{{ nested | tojson(indent=0) }}{{ [] | tojson(indent=2) }}{{ {} | tojson(indent=1) }}", "{{ messages[3].content | tojson }}{{ messages[3].content | tojson(ensure_ascii=true) }}",
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}{{ [1, 2] | tojson(separators=(',', ':')) }}", "{{ numbers | tojson }}{{ '\\x7f\\x1f\"/<>\\\\' | tojson }}", "{{ nope | tojson }}", "{{ nested.items() | tojson }}", "{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }}", "{{ {(1, 2): 3} | tojson }}",
    "{{ words | join }}{{ words | join(', ') }}{{ messages | join('-', attribute='role') }}{{ [1, none, 2.5] | join('|') }}", "{{ 5 | join }}", "{{ none | join }}", "{{ words | sort }}{{ words | sort(case_sensitive=true) }}{{ words | sort(reverse=true) }}{{ messages | sort(attribute='role') | map(attribute='role') | list }}",
    "{{ mixed | sort }}", "{{ nested.a | dictsort }}{{ {'b': 1, 'A': 2} | dictsort }}{{ {'b': 1, 'a': 2} | dictsort(by='value') }}{{ {'b': 1, 'a': 2} | dictsort(reverse=true) }}", "{{ none | dictsort }}", "{{ words | unique | list }}{{ [1, 1.0, 2] | unique | list }}",
    "{{ ' a ' | trim }}|{{ 'xxax' | trim('x') }}|{{ 5 | trim }}", "{{ 'aBc dEf' | capitalize }}{{ 'aBc-dEf gh' | title }}{{ 'ßé' | upper }}{{ 'ÀΣ' | lower }}", "{{ words | first }}{{ words | last }}{{ [] | first }}{{ [] | last is defined }}", "{{ none | first }}", "{{ 'abc' | first }}{{ 'abc' | last }}",
    "{{ nope | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}{{ none | default('d') }}{{ none | d('e', boolean=true) }}", "{{ words | length }}{{ 'é中' | length }}{{ nested | count }}", "{{ 5 | length }}", "{{ none | length }}", "{{ words | map('upper') | list }}", "{{ messages | map(attribute='content') | list }}",
    "{{ words | map('nope') | list }}", "{{ words | map }}", "{{ messages | map(attribute='x', default='-') | join }}", "{{ words | select('in', ['a', 'b']) | list }}{{ [0, 1, none, 2] | select | list }}{{ [0, 1, 2] | reject('odd') | list }}",
    "{{ messages | selectattr('role', 'equalto', 'assistant') | list | length }}{{ messages | rejectattr('role', 'in', ['tool', 'user']) | map(attribute='role') | join(',') }}{{ messages | selectattr('tool_calls') | list | length }}{{ messages | selectattr('n', 'defined') | list | length }}",
    "{{ (messages | selectattr('role', 'equalto', 'user')).x }}", "{{ (words | map('upper')) | length }}", "{{ 'a' | replace('a', 'b') }}{{ 'aaa' | replace('a', 'b', 2) }}{{ 5 | replace('5', 'x') }}{{ 'ab' | replace('', '-') }}", "{{ 'a' | replace('b') }}",
    "{{ 'x\\ny\\n\\nz' | indent }}|{{ 'x\\ny\\n\\nz' | indent(2, true) }}|{{ 'x\\n\\ny' | indent(2, blank=true) }}|{{ 'x\\ny' | indent('>> ') }}", "{{ '42.7' | int }}{{ 'x' | int }}{{ 'x' | int(7) }}{{ '0x1F' | int(base=16) }}{{ 3.9 | int }}{{ none | int }}{{ ' 5 ' | int }}", "{{ '1.5' | float }}{{ 'x' | float }}{{ 2 | float }}",
    "{{ 2.5 | round }}{{ 2.345 | round(2) }}{{ 2.1 | round(method='ceil') }}{{ 3 | round }}{{ 1.25 | round(1, 'floor') }}", "{{ nested.a | items | list }}", "{{ 'a' | items | list }}", "{{ words | reverse | list }}{{ 'abc' | reverse }}", "{{ [3, 1, 2] | max }}{{ [3, 1, 2] | min }}{{ [1, 2] | sum }}{{ ['b', 'A'] | min }}",
    "{{ messages | groupby('role') | map('first') | list }}", "{{ [1, 2, 3] | batch(2) | list }}{{ [1, 2, 3] | batch(2, 0) | list }}{{ [1, 2, 3] | slice(2) | list }}", "{{ '<a&\"\\'>' | e }}{{ '<a>' | safe }}{{ '<a>' | safe + '<b>' }}{{ '<b>' + ('<a>' | safe) }}{{ ('<a>' | safe) ~ '<b>' }}{{ '<' | e | e }}{{ '<' | e | forceescape }}", "{{ 'abc def' | wordcount }}{{ 'a' | string }}{{ 5 | string + 'x' }}",
    "{{ 'a%sb%d' | format('x', 3) }}{{ '%(k)s' | format(k='v') }}{{ 'abcdefgh ijkl' | truncate(9) }}{{ 'abcdefgh ijkl mnop qrst' | truncate(9) }}{{ 'abcdefgh ijkl mnop qrst' | truncate(9, true) }}{{ 'ab' | center(6) }}|", "{{ nested | attr('a') }}", "{{ words | attr('x') is defined }}", "{{ 'abc' | list }}{{ nested.a | list }}{{ none | list }}",
    "{% filter upper | replace('A', 'x') %}abc{{ 'a' }}{% endfilter %}", "{% set x %} a{{ 1 }} {% endset %}[{{ x }}]", "{% set x | trim | upper %} a {% endset %}[{{ x }}]", "{{ 'a' | trim(1) }}", "{{ 'a' | upper(1) }}", "{{ 'a' | default(1, 2, 3) }}",
    "{{ '%5d|%-5s|%05.1f|%x|%%|%+d|%r' % (3, 'a', 2.25, 255, 4, 'q') }}", "{{ '%s %s' % ('a',) }}", "{{ '%s' % ('a', 'b') }}", "{{ '%d' % 'a' }}", "{{ '%s' % nested.a }}{{ '%(a)s' % nested }}", "{{ '{} {1} {x}'.format('a', 'b', x=1) }}", "{{ '{1}{}'.format('a', 'b') }}", "{{ '{} {x}'.format('a', x=1) }}{{ '{0.role}{0[content]}'.format(messages[0]) }}{{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}'.format('a', 'b', 'c', 42, 3.14159, 1234567) }}{{ '{{}}'.format() }}",
]
METHODS = [
    "{{ text.split() }}{{ text.split(' ') }}{{ text.split(' ', 1) }}{{ text.split(maxsplit=1) }}{{ text.rsplit(' ', 1) }}{{ ''.split() }}{{ ''.split('x') }}", "{{ text.split('') }}", "{{ text.split(1) }}", "{{ ' a '.strip() }}|{{ 'xax'.strip('x') }}|{{ 'xax'.lstrip('x') }}|{{ 'xax'.rstrip('x') }}|{{ 'a\\u3000\\x1c'.strip() }}",
    "{{ text.startswith('one') }}{{ text.startswith(('x', 'one')) }}{{ text.endswith('e') }}{{ text.startswith('two', 4) }}", "{{ text.startswith(1) }}", "{{ text.startswith(['a']) }}", "{{ text.replace('o', '0') }}{{ text.replace('o', '0', 1) }}{{ text.upper() }}{{ text.title() }}{{ text.capitalize() }}", "{{ text.find('two') }}{{ text.find('x') }}{{ text.rfind('e') }}{{ text.count('e') }}{{ text.index('two') }}", "{{ text.index('x') }}",
    "{{ '-'.join(words) }}", "{{ '-'.join([1]) }}", "{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}{{ 'abc'.partition('x') }}{{ 'a\\nb\\r\\nc'.splitlines() }}{{ 'a\\nb'.splitlines(true) }}", "{{ '12'.isdigit() }}{{ 'a'.isalpha() }}{{ ' '.isspace() }}{{ 'A'.isupper() }}{{ 'a1'.isalnum() }}{{ ''.isdigit() }}", "{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}{{ 'ab'.center(5, '*') }}{{ 'abc'.center(6, '*') }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ 'aB'.swapcase() }}",
    "{{ nested.get('a') }}{{ nested.get('zz') }}{{ nested.get('zz', 5) }}{{ nested.a.keys() | list }}{{ nested.a.values() | list }}{{ nested.a.items() }}", "{{ nested.get() }}", "{{ nested.get([]) }}", "{{ words.index('A') }}{{ words.count('a') }}{{ words.copy() }}", "{{ nested.a.items()[0] }}", "{{ tools[0].function.parameters.items() | list }}{{ tools[0].function.parameters['items'] }}",
    "{{ 'x'.join(nope) }}", "{{ text.upper(1) }}", "{{ text.split(nope='a') }}", "{{ 'İ'.lower() }}{{ 'ΑΣ'.lower() }}{{ 'ﬁ'.upper() }}{{ 'ŉ'.capitalize() }}{{ 'ǆ'.title() }}",
]
MACROS = [
    "{% macro m(a, b=2, c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=4) }}{{ m(a=5) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m() }}|{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}", "{% macro m(x) %}[{{ caller(x) }}]{% endmacro %}{% call(y) m(3) %}<{{ y }}>{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% set v = 1 %}{% macro m() %}{{ v }}{% endmacro %}{% set v = 2 %}{{ m() }}", "{% macro m() %}{% set v = 1 %}{{ v }}{% endmacro %}{{ m() }}{{ v }}", "{% macro m(x=words[0], y=x) %}{{ x }}{{ y }}{% endmacro %}{{ m() }}", "{% macro m() %} a {% endmacro %}[{{ m() | trim }}]{{ m() is string }}{{ m.name }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro m(*a) %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% set args = [1, 2] %}{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*args) }}{{ m(**{'a': 3, 'b': 4}) }}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% print 1, 'a' %}",
]
MARKS = [
    "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content }}é{% endgeneration %}{% endif %}\n{% endfor %}", "é{%- generation -%} a {%- endgeneration -%} b {% generation %}{% endgeneration %}", "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}", "{% for m in messages %}{%- generation %}{{ loop.index }}{% endgeneration %}{% endfor %}",
]
WRONG = [
    "{% if %}x{% endif %}", "{% if true %}", "{{ 1", "{{ }}", "{% endif %}", "{% nope %}", "{{ 'a }}", "{{ a b }}", "{% set %}", "{% set 1 = 2 %}", "{% for x %}{% endfor %}", "{{ a. }}", "{{ [1, }}", "{{ (1 }}", "{{ 1 + }}", "{{ a[ }}", "{# x", "{% raw %}", "{{ f(a=1, 2) }}", "{{ \\ }}", "{{ a $ b }}", "{% do 1 %}", "{{ ) }}", "{% set true = 1 %}", "{{ {1} }}", "{{ 1 is }}", "{{ a | }}", "{% macro %}{% endmacro %}", "{% else %}", "{% call m %}{% endcall %}", "{{ '\\x1' }}", "{{ not }}", "{% for x in a recursive if b %}{% endfor %}",
]


FOUND = [  # by drawing templates at random from all of the above
    "{{ self }}{{ self is defined }}{{ self is callable }}{{ self is iterable }}{{ self or 1 }}", "{{ self.x }}{{ self.x is undefined }}", "{{ self.x.y }}", "{{ self() }}", "{{ self + 1 }}", "{{ raise_exception(self) }}", "{% macro m() %}{{ self }}{% endmacro %}{{ m() }}{% set self = 1 %}", "{{ self | tojson }}", "{% for x in self %}{% endfor %}",
    "{{ none | map('length') | list }}{{ 0 | select('odd') | list }}{{ false | rejectattr('a') | list }}{{ nope | map('nope') | list }}", "{{ 5 | map('length') | list }}", "{{ nope | last is defined }}{{ nope | reverse | list }}", "{{ nope | last | default('q') }}", "{{ 5 | reverse }}", "{{ none | reverse }}", "{{ 5.5 | last }}",
    "{{ true.real }}{{ (7).imag }}{{ 2.5.real }}{{ zero.numerator }}{{ zero.denominator }}", "{{ dict(nope) }}", "{{ namespace(a=1).__class__ }}", "{{ namespace(a=1).__init__ }}", "{{ -1[:-1] }}", "{{ (1)[::2] }}{{ none[1:] is defined }}", "{{ none[1:] - 1 }}",
    "{% set y.z = nope.x %}", "{% set y, ns.z = nope.x %}", "{% set ns.y %}{{ nope.x }}{% endset %}", "{% filter length %}abc{% endfilter %}", "{% macro m() %}{% filter length %}abc{% endfilter %}{% endmacro %}{{ m() }}", "{% filter string %}abc{% endfilter %}",
    "{{ nope | abs }}", "{{ nope | round }}", "{{ nope | round(method='floor') }}", "{{ [1, 2, 3, 4, 5, 6, 7, 8, 9] | truncate(3, leeway=0) }}", "{{ 5 | indent }}",
    "{% for x in [1, 2] %}{{ x }}{% break %}{% else %}E{% endfor %}", "{% for x in [1, 2] %}{{ x }}{% continue %}{% else %}E{% endfor %}", "{% for x in [1, 2] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}",
    "{% for x in [1, 2] %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% else %}E{% endfor %}", "{% for y in [1, 2] %}{% for x in [1] %}{% break %}{% else %}{{ y }}{% continue %}{% endfor %}n{% else %}E{% endfor %}",
    "{{ nope.__class__ is defined }}", "{{ nope.__class__ }}", "{{ nope.__foo__ }}", "{{ nope.__dict__ }}", "{{ nope['__class__'] }}",
    "{{ 'a' % nope }}{{ 'a' % self }}{{ 'a' % words }}", "{{ 'a' % 1 }}", "{{ 'a' % loop }}", "{{ '%(k)s' % nope }}", "{{ '%s%s' % nope }}",
    "{{ namespace(nope) }}", "{{ range(nope) }}", "{% if false %}{% with a = 1 is notest %}{% endwith %}{% endif %}ok", "{% if false %}{% with %}{{ 1 is notest }}{% endwith %}{% endif %}", "{% for loop in words %}{% endfor %}", "{% for a, (b, loop) in words %}{% endfor %}", "{% for x in words %}{% if x %}{% set loop = 1 %}{% endif %}{% endfor %}", "{% for x in words %}{% macro m(loop) %}{{ loop }}{% endmacro %}{{ m(x) }}{% endfor %}", "{% set loop = 1 %}{{ loop }}", "{% for x in words %}{% set loop.y = 1 %}{% endfor %}",
    "{% break %}{{ a b }}", "{% continue %}{{ 1 | nofilter }}", "{% if false %}{% break %}{% endif %}", "{% for x in [1] %}{% else %}{% break %}{% endfor %}",
]
REST = [  # what public templates have beside the above, or are refused for
    "{{ '{}' | from_json }}",
    "{% trans %}a{% endtrans %}", "{% do words.append(1) %}", "{% debug %}",
    "{{ words.__init__ }}", "{{ words['__class__'] }}", "{{ ''.join.__globals__ }}", "{{ '{0.__class__}'.format('a') }}", "{{ '%s' | format('a') }}",
    "{{ messages[0].update(a=1) }}", "{{ words.clear() }}", "{{ words.sort() }}", "{{ words.reverse() }}", "{{ words.extend([1]) }}", "{{ words.insert(0, 1) }}", "{{ nested.setdefault('z', 1) }}", "{{ nested.popitem() }}",
    "{{ strftime_now('%d %B %Y') }}|{{ strftime_now('%Y-%m-%dT%H:%M:%S') }}|{{ strftime_now('%b %-d, %y %I:%M %p') }}", "{% if tools is defined and tools is iterable and tools | length > 0 %}{{ tools[0] | tojson(indent=4) }}{% endif %}",
    "{% set m = messages | selectattr('role', 'equalto', 'system') | first %}{{ m.content }}{{ (messages | last).content }}{{ messages | map(attribute='role') | unique | join(',') }}",
    "{% for m in messages %}{%- set c = m.content if m.content is string else '' -%}{{ c | trim }}{{ '\n' if not loop.last }}{%- endfor %}", "{{ '<think>a</think>\nb'.split('</think>')[-1].lstrip('\n') }}{{ '<think>a</think>b'.split('</think>')[0].rstrip('\n').split('<think>')[-1] }}",
    "{% set ns = namespace(i=messages | length - 1, found=true) %}{% for m in messages[::-1] %}{% set at = (messages | length - 1) - loop.index0 %}{% if ns.found and m.role == 'user' and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}{% set ns.found = false %}{% set ns.i = at %}{% endif %}{% endfor %}{{ ns.i }}",
]


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 12, 34, 56)


def expected(source):
    try:
        compiled = chat._compile_jinja_template(source)
        variables = dict(ROW, add_generation_prompt=False, documents=None)
        plain = compiled.render(**variables)
        text, spans = chat._render_with_assistant_indices(compiled, variables.pop("messages"), variables.pop("tools"), variables.pop("documents"), variables.pop("add_generation_prompt"), **variables)
        assert text == plain
        if " at 0x" in text:
            return None
        return {"text": text, "spans": spans}
    except Exception as error:  # whatever Python raises is what we want to know
        return {"error": type(error).__name__, "message": str(error)}


def main():
    chat.datetime = Clock
    out = pathlib.Path(__file__).parent / "template"
    out.mkdir(exist_ok=True)
    with open(out / "cases.jsonl", "w") as file:
        file.write(json.dumps({"row": ROW}, ensure_ascii=False) + "\n")
        for source in LOOPS + WHITE + VALUES + FILTERS + METHODS + MACROS + MARKS + WRONG + FOUND + REST:
            row = expected(source)
            if row is None:
                print("left out, an address is printed:", source)
                continue
            file.write(json.dumps({"template": source, **row}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
