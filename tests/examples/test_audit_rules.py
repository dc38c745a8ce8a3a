"""The audit's rules, one small source each, and a real package of the standard library."""

from __future__ import annotations

import gc
import json
import os
import random
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perdure.examples.audit_rules import (
    RULES,
    FunctionReport,
    ModuleReport,
    analyse,
    findings,
    list_modules,
    merge,
    render_markdown,
)

STDLIB = Path(sysconfig.get_paths()["stdlib"])


def audit(folder: Path, source: str | bytes, name: str = "sample.py") -> ModuleReport:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return analyse(path)


def rules(report: ModuleReport) -> list[tuple[str, int, str]]:
    return [(finding["rule"], finding["line"], finding["symbol"]) for finding in report["findings"]]


FOUND: dict[str, tuple[str, list[tuple[str, int, str]]]] = {
    "bare except": ("def f():\n    try:\n        g()\n    except:\n        pass\n", [("bare-except", 4, "f")]),
    "named except": ("try:\n    g()\nexcept BaseException:\n    pass\n", []),
    "list default": ("def f(a, b=[]):\n    pass\n", [("mutable-default", 1, "f")]),
    "keyword default": ("class A:\n    def f(self, *, b={}): pass\n", [("mutable-default", 2, "A.f")]),
    "default from a call": ("def f(a=x.deque(), b=list(), c=tuple()): pass\n", [("mutable-default", 1, "f")]),
    "immutable defaults": ("def f(a=(), b=None, c='', d=frozenset()):\n    pass\n", []),
    "lambda default": ("f = lambda a=[]: a\n", [("mutable-default", 1, "")]),
    "shadowing assignment": ("def f():\n    list = 1\n    list = 2\n", [("shadowed-builtin", 2, "list")]),
    "shadowing argument": ("def f(id): pass\n", [("shadowed-builtin", 1, "id")]),
    "shadowing import": ("from io import open\nimport os.path as map\n", [
        ("shadowed-builtin", 1, "open"),
        ("shadowed-builtin", 2, "map"),
    ]),
    "shadowing everywhere": (
        "for min in x:\n    pass\nwith x as max:\n    pass\ntry:\n    pass\nexcept E as any:\n    pass\n(all := 1)\n",
        [
            ("shadowed-builtin", 1, "min"),
            ("shadowed-builtin", 3, "max"),
            ("shadowed-builtin", 7, "any"),
            ("shadowed-builtin", 9, "all"),
        ],
    ),
    "shadowing by a pattern": ("match x:\n    case [int, *set]:\n        pass\n    case {**dict}:\n        pass\n", [
        ("shadowed-builtin", 2, "int"),
        ("shadowed-builtin", 2, "set"),
        ("shadowed-builtin", 4, "dict"),
    ]),
    "a method hides nothing": ("class A:\n    id = 1\n    def open(self): pass\n", []),
    "an attribute hides nothing": ("a.id = 1\na['id'] = 2\nf(id=3)\n", []),
    "a prompt's name hides nothing": ("license = 'Apache-2.0'\n", []),
    "unused global": ("x = 1\ndef f():\n    global x, y\n    y = x\n", [("unused-global", 3, "x")]),
    "used globals": ("def f():\n    global a, b, c, d\n    import a\n    def b(): pass\n    c += 1\n    del d\n", []),
    "global at the top": ("global x\nx = 1\n", [("unused-global", 1, "x")]),
    "eight arguments": ("def f(a, b, /, c, d, e, f, *, g, h): pass\n", [("too-many-arguments", 1, "f")]),
    "self does not count": ("class A:\n    def f(self, a, b, c, d, e, f, g): pass\n", []),
    "in a static method it does": (
        "class A:\n    @staticmethod\n    def f(self, a, b, c, d, e, f, g): pass\n",
        [("too-many-arguments", 3, "A.f")],
    ),
    "star import": ("from .a.b import *\nfrom c import d\n", [("star-import", 1, "")]),
    "assert on a tuple": ("assert (x, 'why')\nassert ()\nassert x, 'why'\n", [("assert-on-tuple", 1, "")]),
    "comparison to None": ("a == None\nNone != b\nc is None\nd < e == None\n", [
        ("none-comparison", 1, ""),
        ("none-comparison", 2, ""),
        ("none-comparison", 4, ""),
    ]),
    "syntax error": ("x = 1\ndef f(:\n", [("syntax-error", 2, "")]),
    "python 2": ("print 'hello'\n", [("syntax-error", 1, "")]),
    "nothing": ("", []),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_rules(case: str, tmp_path: Path) -> None:
    source, expected = FOUND[case]
    assert rules(audit(tmp_path, source)) == expected


COMPLEXITY = {
    "straight": ("x = 1", 1),
    "if, elif, else": ("if a: pass\nelif b: pass\nelse: pass", 3),
    "a compound condition counts its parts": ("if a and b or c: pass", 4),
    "loops, their else is no path": ("for a in b: pass\nelse: pass\nwhile c: pass", 3),
    "handlers": ("try: pass\nexcept A: pass\nexcept B: pass\nelse: pass\nfinally: pass", 3),
    "a conditional expression": ("return a if b else c", 2),
    "comprehensions": ("return [a for a in b if c if d] + list(e for e in f)", 5),
    "cases": ("match a:\n    case 1: pass\n    case 2 if b: pass\n    case _: pass", 4),
    "a lambda is its function's": ("return lambda: a if b else c", 2),
    "a nested function is its own": ("def g():\n    if a: pass", 1),
    "a nested class is its function's": ("class A:\n    if a: x = 1", 2),
    "an assertion is no path": ("assert a", 1),
}


@pytest.mark.parametrize("case", COMPLEXITY)
def test_complexity(case: str, tmp_path: Path) -> None:
    body, expected = COMPLEXITY[case]
    source = "async def f():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    assert audit(tmp_path, source)["functions"][0]["complexity"] == expected


def test_decorators_count_around_the_function(tmp_path: Path) -> None:
    source = "def f():\n    @(a if b else c)\n    def g(): pass\n"
    report = audit(tmp_path, source)
    assert [(function["name"], function["complexity"]) for function in report["functions"]] == [("f", 2), ("f.g", 1)]


@pytest.mark.parametrize(("depth", "found"), [(5, []), (6, [("deep-nesting", 1, "f")])])
def test_nesting(depth: int, found: list[tuple[str, int, str]], tmp_path: Path) -> None:
    source = "def f():\n" + "".join("    " * level + f"if a{level}:\n" for level in range(1, depth + 1))
    report = audit(tmp_path, source + "    " * (depth + 1) + "pass\n")
    assert rules(report) == found
    assert report["functions"][0]["depth"] == depth


def test_a_chain_of_elif_does_not_nest(tmp_path: Path) -> None:
    chain = "def f():\n    if a: pass\n" + "    elif b: pass\n" * 50 + "    else:\n        if c: pass\n"
    assert audit(tmp_path, chain)["functions"][0]["depth"] == 2


def test_measures(tmp_path: Path) -> None:
    source = (
        '"""Doc."""\n# TODO: one\n# a FIXME, an XXX\ntext = "TODO"\ndone = 1  # TODONE\n'
        'class A:\n    def f(self, a):\n        """Doc."""\n        def inner(): pass\n    def _g(self): pass\n'
        "class _B:\n    def h(self): pass\n@decorated\ndef k():\n    return (\n        1\n    )"
    )
    report = audit(tmp_path, source)
    assert (report["lines"], report["todos"]) == (17, 2)
    assert (report["documentable"], report["undocumented"]) == (4, 2), "module, A, A.f, k; A and k have none"
    names = [(function["name"], function["line"], function["lines"]) for function in report["functions"]]
    assert names == [("A.f", 7, 3), ("A.f.inner", 9, 1), ("A._g", 10, 1), ("_B.h", 12, 1), ("k", 14, 4)]
    assert report["functions"][0]["arguments"] == 1


def test_modules_are_named_by_their_packages(tmp_path: Path) -> None:
    audit(tmp_path, "", "outer/__init__.py")
    assert audit(tmp_path, "", "outer/inner/__init__.py")["module"] == "outer.inner"
    assert audit(tmp_path, "", "outer/inner/leaf.py")["module"] == "outer.inner.leaf"
    assert audit(tmp_path, "", "loose/leaf.py")["module"] == "leaf"


# -- what is hard to read --------------------------------------------------------------------------------------------

HARD: dict[str, tuple[bytes, list[str]]] = {
    "latin-1, declared": ("# coding: latin-1\nx = 'é'\n".encode("latin-1"), []),
    "latin-1, not declared": ("x = 'é'\n".encode("latin-1"), ["encoding-error"]),
    "latin-1, late": (b"#\n" * 9000 + "x = 'é'\n".encode("latin-1"), ["encoding-error"]),
    "an unknown encoding": (b"# coding: uft-8\n", ["encoding-error"]),
    "an encoding that is not for text": (b"# coding: rot13\n", ["encoding-error"]),
    "an encoding that refuses everything": (b"# coding: undefined\nx = 1\n", ["encoding-error"]),
    "against the byte order mark": (b"\xef\xbb\xbf# coding: latin-1\n", ["encoding-error"]),
    "a byte order mark": (b"\xef\xbb\xbfx = 1\n", []),
    "NUL bytes": (b"x = 1\0\n", ["syntax-error"]),
    "carriage returns": (b"x = 1\rdef f(a=[]): pass\r", ["mutable-default"]),
    "a form feed": (b"x = 1\n\x0c\ny = 2\n", []),
    "too many brackets": (b"(" * 5000 + b")" * 5000, ["syntax-error"]),
    "a long sum": (b"x = 1" + b" + 1" * 500 + b"\n", []),
    "bad indentation": (b"if a:\n        b\n    c\n", ["syntax-error"]),
    "binary": (bytes(range(256)), ["encoding-error"]),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_files_are_survived(case: str, tmp_path: Path) -> None:
    source, expected = HARD[case]
    report = audit(tmp_path, source)
    assert [finding["rule"] for finding in report["findings"]] == expected
    assert all(finding["message"] and str(tmp_path) not in finding["message"] for finding in report["findings"])


def test_a_sum_deeper_than_the_stack_is_survived(tmp_path: Path) -> None:
    report = audit(tmp_path, "x = 1" + " + 1" * 200_000)
    assert {finding["rule"] for finding in report["findings"]} <= {"syntax-error"}


def test_what_cannot_be_opened_is_a_finding(tmp_path: Path) -> None:
    folder = tmp_path / "folder.py"
    folder.mkdir()
    assert rules(analyse(folder)) == [("unreadable", 0, "")]
    assert rules(analyse(tmp_path / "gone.py")) == [("unreadable", 0, "")]


# -- which files -----------------------------------------------------------------------------------------------------


def test_list_modules_leaves_out(tmp_path: Path) -> None:
    kept = ["a.py", "b/c.py", "b/test_d.py"]
    tests = ["b/tests/e.py", "test/f.py"]
    left = ["b/g.txt", "site-packages/h.py", "b/dist-packages/h.py", ".venv/i.py", "b/__pycache__/j.py", "bad\udcff.py"]
    for name in kept + tests + left:
        audit(tmp_path, "", name)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b/loop").symlink_to(tmp_path)
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "linked.py").symlink_to(tmp_path / "a.py")
    os.mkfifo(tmp_path / "pipe.py")
    expected = [*kept, "linked.py"]
    assert list_modules(tmp_path) == sorted(str(tmp_path / name) for name in expected)
    assert list_modules(str(tmp_path), tests=True) == sorted(str(tmp_path / name) for name in [*expected, *tests])


def test_list_modules_refuses_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder; name one"):
        list_modules(tmp_path / "nowhere")


def test_list_modules_takes_the_standard_library_by_default() -> None:
    paths = list_modules()
    assert str(STDLIB / "json" / "decoder.py") in paths
    assert paths == sorted(paths)
    assert not [path for path in paths if "site-packages" in path or "/test/" in path]


# -- the report ------------------------------------------------------------------------------------------------------


def _reports(folder: Path) -> list[ModuleReport]:
    audit(folder, "", "pack/__init__.py")
    bad = "import os\n" * 2 + "# TODO\ndef f(a=[], b={}):\n" + "    if a: pass\n" * 11
    return [
        audit(folder, bad, "pack/bad.py"),
        audit(folder, '"""Doc."""\nassert (a, b)\n', "pack/good.py"),
        audit(folder, "def f(:", "broken.py"),
        analyse(folder / "pack/__init__.py"),
    ]


def test_merge_does_not_depend_on_the_order_nor_on_repetitions(tmp_path: Path) -> None:
    reports = _reports(tmp_path)
    summary = merge(reports)
    for seed in range(5):
        again = random.Random(seed).sample(reports + reports[:2], k=len(reports) + 2)
        assert merge(again) == summary
        assert findings(again) == findings(reports)


def test_merge_adds_up(tmp_path: Path) -> None:
    summary = merge(_reports(tmp_path))
    assert summary["total"]["modules"] == 4
    assert summary["total"]["findings"] == sum(summary["rules"].values()) == 4
    assert summary["total"]["todos"] == 1
    assert list(summary["rules"]) == ["syntax-error", "assert-on-tuple", "mutable-default"], "the gravest first"
    packages = {package["name"]: package["modules"] for package in summary["packages"]}
    assert packages == {"(top level)": 1, "pack": 3}
    worst: list[FunctionReport] = summary["worst"]
    assert [(one["name"], one["complexity"]) for one in worst] == [("f", 12)]


def test_findings_hold_functions_above_the_threshold(tmp_path: Path) -> None:
    reports = _reports(tmp_path)
    by_rule = [finding["rule"] for finding in findings(reports, 11)]
    assert by_rule == ["syntax-error", "assert-on-tuple", "mutable-default", "mutable-default", "too-complex"]
    assert "too-complex" not in [finding["rule"] for finding in findings(reports, 12)]


def test_reports_are_json(tmp_path: Path) -> None:
    reports = _reports(tmp_path)
    assert json.loads(json.dumps(reports)) == reports
    summary = merge(reports)
    assert merge(json.loads(json.dumps(reports))) == json.loads(json.dumps(summary)) == summary


def test_markdown(tmp_path: Path) -> None:
    reports = _reports(tmp_path)
    text = render_markdown(merge(reports), findings(reports), title="Audit | `x`")
    assert text.startswith("# Audit \\| 'x'\n")
    assert "4 files, 18 lines, 1 functions: 5 findings, 1 comments that ask for work" in text
    assert "**1 of the files could not be checked**" in text
    assert "| `f` | `pack/bad.py:4` | 12 | 12 | 1 | 2 |" in text
    assert "- `pack/good.py:2`: assert (condition, message)" in text
    assert "- `pack/bad.py:4` in `f`: a dict as default" in text
    assert str(tmp_path) not in text
    for line in text.splitlines():
        assert line == line.rstrip()


def test_markdown_lists_no_more_than_asked(tmp_path: Path) -> None:
    report = audit(tmp_path, "".join(f"assert (a, {number})\n" for number in range(1234)))
    text = render_markdown(merge([report]), findings([report]), listed=3)
    assert text.count("- `sample.py:") == 3
    assert "- and 1,231 more\n" in text
    assert "### assert-on-tuple (1,234)" in text


def test_markdown_of_nothing() -> None:
    assert "0 files" in render_markdown(merge([]), findings([]))


@pytest.mark.parametrize("package", ["json", "asyncio"])
def test_a_real_package(package: str) -> None:
    paths = list_modules(STDLIB / package)
    reports = [analyse(path) for path in paths]
    summary = merge(reports)
    assert summary["total"]["modules"] == len(paths) > 4
    assert [one["name"] for one in summary["packages"]] == [package]
    assert not summary["rules"].keys() & {"syntax-error", "encoding-error", "unreadable"}
    assert summary["total"]["functions"] == sum(len(report["functions"]) for report in reports) > 10
    text = render_markdown(summary, findings(reports), title=package)
    assert text == render_markdown(merge(reversed(reports)), findings(reports[::-1]), title=package)
    assert "worst complexity" in text


@pytest.mark.full
def test_every_file_of_the_standard_library_is_survived() -> None:
    reports = [analyse(path) for path in list_modules(tests=True)]
    summary = merge(reports)
    assert summary["total"]["modules"] == len(reports) > 500
    assert set(summary["rules"]) <= set(RULES)
    assert summary["rules"].get("syntax-error", 0) < 20
    assert render_markdown(summary, findings(reports)).encode()


def test_files_can_be_analysed_side_by_side() -> None:
    """In process the graph's nodes run on threads. On Python 3.11 they ended now and then in SystemError, "AST
    constructor recursion depth mismatch": the garbage collector had let another thread into the parser."""
    paths = list_modules(STDLIB / "json") * 8

    def let_others_run(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    gc.callbacks.append(let_others_run)
    try:
        with ThreadPoolExecutor(4) as pool:
            reports = list(pool.map(analyse, paths))
    finally:
        gc.callbacks.remove(let_others_run)
    assert len(reports) == len(paths)
