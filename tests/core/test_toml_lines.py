"""Every key's line, whatever stands around it."""

import pathlib
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from gateway.toml_lines import TomlLines, read_toml

AWKWARD = '''\
# a comment = [not a key]
top = 1

[gateway]                    # [[not.a.header]]
"quoted key" = "a = [b"
'literal.key' = 'x # no comment'
location = { latitude = 48.1, note = "[[driver]]" }

[[driver]]
name = "a"
ports = [
    1,  # ] still inside
    "]",
]
text = """
[fake]
key = 1
"""
after = 2

[[driver]]
name = "b"
dotted.key.path = true
[driver.sub]
deep = 1
[[driver.sub.list]]
x = 1
[[driver.sub.list]]
x = 2
'''


def test_awkward_file() -> None:
    tomllib.loads(AWKWARD)
    lines = TomlLines(AWKWARD)
    places = {
        ("top",): 2,
        ("gateway",): 4,
        ("gateway", "quoted key"): 5,
        ("gateway", "literal.key"): 6,
        ("gateway", "location", "latitude"): 7,
        ("driver", 0): 9,
        ("driver", 0, "ports"): 11,
        ("driver", 0, "text"): 15,
        ("driver", 0, "after"): 19,
        ("driver", 1, "name"): 22,
        ("driver", 1, "dotted", "key", "path"): 23,
        ("driver", 1, "sub", "deep"): 25,
        ("driver", 1, "sub", "list", 0, "x"): 27,
        ("driver", 1, "sub", "list", 1, "x"): 29,
        ("nowhere",): 0,
    }
    assert {path: lines.line(path) for path in places} == places


def test_windows_line_ends(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"[a]\r\nb = 1\r\nc = 2\r\n")
    tables, lines = read_toml(path)
    assert tables == {"a": {"b": 1, "c": 2}}
    assert lines.line(("a", "c")) == 3


_keys = st.text("abcXYZ_-", min_size=1, max_size=6)
_values = st.one_of(
    st.integers(-5, 5).map(str),
    st.text("ab[]{}#='. ", max_size=8).map(lambda text: f'"{text}"'),
    st.lists(st.integers(0, 3), max_size=3).map(lambda numbers: "[\n" + ",\n".join(map(str, numbers)) + "\n]"),
    st.text("ab[]#\n= ", max_size=8).map(lambda text: f'"""{text}"""'),
)


@given(st.lists(st.tuples(_keys, st.dictionaries(_keys, _values, max_size=4)), max_size=5))
def test_lines_agree_with_where_the_keys_were_written(tables: list[tuple[str, dict[str, str]]]) -> None:
    text = ""
    expected: dict[tuple[str | int, ...], int] = {}
    for index, (name, values) in enumerate(tables):
        text += f"[[{name}{index}]]\n"
        expected[(f"{name}{index}", 0)] = text.count("\n")
        for key, value in values.items():
            expected[(f"{name}{index}", 0, key)] = text.count("\n") + 1
            text += f"{key} = {value}\n"
    tomllib.loads(text)
    lines = TomlLines(text)
    assert {path: lines.line(path) for path in expected} == expected
