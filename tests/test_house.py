"""The house rules: who may import whom, what the vault may not touch, how long a thing may be.

Every rule reads sources by ``ast`` and gives complaints: file, line, and what to do about it. Each
is run on the house, and on a breach of its own, so that no rule passes by seeing nothing.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("eir", "bench", "tests", "proto")
GENERATED = "eir/wire/"

BELOW = frozenset({"limits", "errors"})
MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "limits": frozenset(),
    "errors": frozenset(),
    "core": BELOW | {"core"},
    "feed": BELOW | {"core", "feed"},
    "store": BELOW | {"core", "feed", "store"},
    "sync": BELOW | {"core", "feed", "sync"},
    "serve": BELOW | {"core", "feed", "serve"},
    "doors": BELOW | {"core", "feed", "serve", "wire", "doors"},
    "client": BELOW | {"core", "wire", "client"},
    "ops": BELOW | {"core", "feed", "store", "sync", "serve", "doors", "client", "wire", "ops"},
}
"""Which rooms a room may import. Whoever adds a room says here whom it may know."""

# fmt: off
IMPURE_MODULES = frozenset({
    "asyncio", "builtins", "concurrent", "datetime", "fcntl", "glob", "io", "logging", "mmap",
    "multiprocessing", "os", "pathlib", "queue", "random", "sched", "secrets", "select",
    "selectors", "shutil", "signal", "socket", "socketserver", "ssl", "subprocess", "sys",
    "syslog", "tempfile", "threading", "time", "urllib", "warnings",
})
IMPURE_CALLS = frozenset({
    "open", "print", "input", "exec", "eval", "np.memmap", "np.fromfile", "np.load", "np.save",
    "np.savez", "np.genfromtxt", "np.loadtxt", "np.random.default_rng",
})
BANNED_WORDS = frozenset({
    "manager", "helper", "helpers", "util", "utils", "data", "info", "process", "misc",
})
# fmt: on

CORE_MAY: Mapping[str, tuple[frozenset[str], str]] = {
    "eir/core/jit.py": (
        frozenset({"os", "pathlib"}),
        "names numba's cache folder by a hash of the sources, read once at import",
    ),
}
"""What a file of the vault may import all the same, and why."""

BORDERS: Mapping[str, str] = {
    "eir/doors/": "a request or a connection: one peer's fault, or our bug, ends that alone",
    "eir/sync/client.py": "a sync run: its outcome is a value, whatever happened",
}
"""Where ``except Exception`` may stand, and why; nowhere else is a bug kept from surfacing."""

LONGEST_FUNCTION, WANTED_FUNCTION, WANTED_FILE = 70, 40, 500
FUNCTIONS_OVER_WANTED = 3
FILES_OVER_WANTED = 0
"""The ratchets: how many there are today. They may only fall; whoever makes one fall lowers it."""

MACHINE_PATH = re.compile(r"(?<![\w.~}/-])/(?:home|root|Users|work|mnt|tmp)/[\w.]")
BARE_SILENCE = re.compile(r"#\s*type:\s*ignore(?!\[)|#\s*(?:ruff:\s*)?noqa(?!:)")
LEFT_TO_DO = re.compile(r"#.*\b(?:TODO|FIXME|HACK)\b")


@dataclass(frozen=True, slots=True)
class House:
    """Texts by path below the root, and the trees of those that are Python."""

    sources: Mapping[str, str]
    trees: Mapping[str, ast.Module]

    def walk(self, *kinds: type[ast.AST], below: str = "eir/") -> Iterator[tuple[str, ast.AST]]:
        for name, tree in self.trees.items():
            if name.startswith(below):
                yield from ((name, node) for node in ast.walk(tree) if isinstance(node, kinds))

    def imports(self, below: str = "eir/") -> Iterator[tuple[str, str, str]]:
        """File, place, and dotted name of everything imported, relative imports made absolute."""
        for name, node in self.walk(ast.Import, ast.ImportFrom, below=below):
            for target in imported(name, node):
                yield name, at(name, node), target

    def lines(self, pattern: re.Pattern[str]) -> Iterator[str]:
        """Places that a pattern is found at, in every file but this one, which quotes breaches."""
        for name, text in self.sources.items():
            if name == "tests/test_house.py":
                continue
            for number, line in enumerate(text.splitlines(), 1):
                if pattern.search(line):
                    yield f"{name}:{number}"


def house_of(sources: Mapping[str, str]) -> House:
    trees = {name: ast.parse(text, name) for name, text in sources.items() if name.endswith(".py")}
    return House(sources, trees)


def this_house() -> House:
    modules = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    others = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Makefile", ROOT / ".ci/run"]
    texts = {
        p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in modules + others
    }
    return house_of({name: text for name, text in texts.items() if GENERATED not in name})


def at(name: str, node: ast.AST) -> str:
    return f"{name}:{getattr(node, 'lineno', 1)}"


def imported(name: str, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert isinstance(node, ast.ImportFrom)
    package = name.removesuffix(".py").split("/")[: -node.level] if node.level else []
    base = [*package, *([node.module] if node.module else [])]
    return [".".join([*base, alias.name]) for alias in node.names]


def called(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def rooms_import_in_one_direction(house: House) -> Iterator[str]:
    for name, place, target in house.imports():
        parts = target.split(".")
        if parts[0] != "eir" or len(parts) < 2:
            continue
        room, other = name.removesuffix(".py").split("/")[1], parts[1]
        if room not in MAY_IMPORT:
            yield f"{name}: a new room {room!r}: say in MAY_IMPORT whom it may know"
        elif other not in MAY_IMPORT[room]:
            yield (
                f"{place}: {room} must not import {other}; move what both need down (to core or"
                " feed), or take it as an argument"
            )


def no_door_knows_another(house: House) -> Iterator[str]:
    stems = {Path(name).stem for name in house.trees if name.startswith("eir/doors/")}
    doors = {stem.removesuffix("_door") for stem in stems if stem.endswith("_door")}
    for name, place, target in house.imports(below="eir/doors/"):
        parts = target.split(".")
        if parts[:2] != ["eir", "doors"] or len(parts) < 3:
            continue
        mine, other = Path(name).stem.split("_")[0], parts[2].split("_")[0]
        if other in doors and other != mine:
            yield (
                f"{place}: {parts[2]} belongs to the {other} door; what doors share lives in"
                " serve/, or in a file of doors/ named for what it is"
            )


def no_import_leads_back(house: House) -> Iterator[str]:
    """Not within a function either: what two modules need of each other lives in a third."""
    files = {name.removesuffix(".py").replace("/", "."): name for name in house.trees}
    needs: dict[str, set[str]] = {}
    for name, _, target in house.imports():
        found = {target, target.rpartition(".")[0]} & files.keys()
        needs.setdefault(name, set()).update(files[module] for module in found)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as circle:
        yield f"{' needs '.join(circle.args[1])}: move what they share into a file of its own"


def the_package_needs_no_tests(house: House) -> Iterator[str]:
    for _, place, target in house.imports():
        if target.split(".")[0] in {"tests", "bench", "hypothesis", "pytest"}:
            yield f"{place}: {target}: the package must work without its source tree"


def the_vault_is_pure(house: House) -> Iterator[str]:
    for name, place, target in house.imports(below="eir/core/"):
        module = target.split(".")[0]
        if module in IMPURE_MODULES and module not in CORE_MAY.get(name, (frozenset(), ""))[0]:
            yield f"{place}: core imports {module}; take what it gives as an argument"
    for name, node in house.walk(ast.Call, below="eir/core/"):
        if called(node) in IMPURE_CALLS:
            yield f"{at(name, node)}: core calls {called(node)}; its caller must"


def no_leave_is_unused(house: House) -> Iterator[str]:
    imports = [(name, target.split(".")[0]) for name, _, target in house.imports()]
    for name, (modules, _) in CORE_MAY.items():
        for module in sorted(modules):
            if name in house.trees and (name, module) not in imports:
                yield f"{name}: does without {module} now; take it out of CORE_MAY"


def function_lengths(house: House, below: str) -> Iterator[tuple[str, int]]:
    for name, node in house.walk(ast.FunctionDef, ast.AsyncFunctionDef, below=below):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        yield f"{at(name, node)}: {node.name} has {length} lines", length


def functions_end(house: House) -> Iterator[str]:
    for place, length in function_lengths(house, below=""):
        if length > LONGEST_FUNCTION:
            yield f"{place}; {LONGEST_FUNCTION} at most: let the parent decide, the leaves loop"


def functions_fit_a_screen(house: House) -> Iterator[str]:
    long = [place for place, n in function_lengths(house, below="eir/") if n > WANTED_FUNCTION]
    yield from ratchet("FUNCTIONS_OVER_WANTED", long, FUNCTIONS_OVER_WANTED)


def files_hold_one_idea(house: House) -> Iterator[str]:
    sizes = {name: house.sources[name].count("\n") for name in house.trees}
    long = [f"{name}:1: {n} lines" for name, n in sizes.items() if n > WANTED_FILE]
    yield from ratchet("FILES_OVER_WANTED", long, FILES_OVER_WANTED)


def ratchet(name: str, found: list[str], today: int) -> Iterator[str]:
    if len(found) > today:
        yield f"{len(found)} are too long, {name} allows {today}: make one of these shorter"
        yield from found
    elif len(found) < today:
        yield f"only {len(found)} are left: well done, lower {name} from {today}"


def modules_say_what_they_hold(house: House) -> Iterator[str]:
    for name, tree in house.trees.items():
        if tree.body and not ast.get_docstring(tree):
            yield f"{name}:1: begin with a docstring: what it holds, promises, and never does"


def bugs_surface(house: House) -> Iterator[str]:
    for name, node in house.walk(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        caught = ast.unparse(node.type) if node.type else ""
        broad = not caught or {"Exception", "BaseException"} & set(re.findall(r"\w+", caught))
        last = node.body[-1]
        tidies = isinstance(last, ast.Raise) and last.exc is None
        if broad and not tidies and not (caught and name.startswith(tuple(BORDERS))):
            yield (
                f"{at(name, node)}: `except {caught}`: only at the three borders (request,"
                " connection, sync run: BORDERS), or to tidy up and end with a bare raise; name"
                " what can go wrong here"
            )


def codes_in(node: ast.expr) -> list[str | None]:
    """The literals that an argument can be; None where it is something else.

    ``fault.reason`` hands on the code of another refusal, which has its literal where it was made.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return [*codes_in(node.body), *codes_in(node.orelse)]
    if isinstance(node, ast.Attribute) and node.attr == "reason":
        return []
    return [None]


def refusals(house: House) -> Iterator[tuple[str, str, str | None]]:
    """Place, text and code of every Refused made; the code is None where it is no literal."""
    for name, node in house.walk(ast.Call):
        assert isinstance(node, ast.Call)
        if called(node).split(".")[-1] == "Refused":
            given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "reason")]
            for code in codes_in(given[0]):
                yield at(name, node), ast.unparse(given[0]), code


def codes_are_literals(house: House) -> Iterator[str]:
    for place, text, code in refusals(house):
        if code is None:
            yield (
                f"{place}: Refused({text}, …): write the code out, so that whoever reads it in a"
                " log finds this line"
            )
        elif not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code):
            yield f"{place}: {code!r}: codes are kebab-case"


def codes_are_explained(house: House) -> Iterator[str]:
    explained = rows_under("Refusals", house.sources.get("docs/reasons.md", ""))
    made = {code: place for place, _, code in refusals(house) if code}
    for code in sorted(set(made) - explained):
        yield f"{made[code]}: `{code}`: say in docs/reasons.md what it means and what to do"
    for code in sorted(explained - set(made)):
        yield f"docs/reasons.md: `{code}` is made nowhere in eir/; take its row out"


def rows_under(heading: str, page: str) -> set[str]:
    """Codes in the first column of the tables below a heading."""
    part = re.search(rf"(?ms)^## {heading}$(.*?)(?=^## |\Z)", page)
    return set(re.findall(r"(?m)^\| `([^`]+)` \|", part[1])) if part else set()


def names_say_what_a_thing_is(house: House) -> Iterator[str]:
    for name in house.trees:
        if found := BANNED_WORDS & words_of(Path(name).stem):
            yield f"{name}:1: no file is named for its {min(found)!r}, but for what it holds"
    for name, node in house.walk(ast.ClassDef, below=""):
        assert isinstance(node, ast.ClassDef)
        if found := BANNED_WORDS & words_of(node.name):
            yield f"{at(name, node)}: {node.name}: no {min(found)!r}: name it for what it is"


def words_of(name: str) -> set[str]:
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+", name)
    return {word.lower() for word in words}


def nothing_prints(house: House) -> Iterator[str]:
    for name, node in house.walk(ast.Call):
        if called(node) in {"print", "pprint", "pprint.pprint", "breakpoint"}:
            yield f"{at(name, node)}: no print: log it, return it, or write to the console given"


def silenced_checks_say_which(house: House) -> Iterator[str]:
    yield from (f"{place}: name the rule that is silenced" for place in house.lines(BARE_SILENCE))


def nothing_names_a_machine(house: House) -> Iterator[str]:
    for place in house.lines(MACHINE_PATH):
        yield f"{place}: a path of one machine; take it from configuration, or use tmp_path"


def nothing_is_left_to_do(house: House) -> Iterator[str]:
    yield from (f"{place}: do it, or take it out" for place in house.lines(LEFT_TO_DO))


Rule = Callable[[House], Iterator[str]]

BREACHES: list[tuple[Rule, str, str]] = [
    (rooms_import_in_one_direction, "eir/core/x.py", "from eir.serve.holder import Holder"),
    (rooms_import_in_one_direction, "eir/sync/x.py", "import eir.store.depot"),
    (rooms_import_in_one_direction, "eir/doors/x.py", "from eir import limits, sync"),
    (rooms_import_in_one_direction, "eir/serve/x.py", "from ..ops import config"),
    (rooms_import_in_one_direction, "eir/errors.py", "from eir import limits"),
    (rooms_import_in_one_direction, "eir/cellar/x.py", "from eir import limits"),
    (no_door_knows_another, "eir/doors/a_door.py", "from eir.doors.a_door import Door"),
    (no_import_leads_back, "eir/ops/x.py", "def f():\n    from eir.ops import x"),
    (the_package_needs_no_tests, "eir/core/x.py", "import pytest"),
    (the_vault_is_pure, "eir/core/x.py", "from time import monotonic"),
    (the_vault_is_pure, "eir/core/jit.py", "import socket"),
    (the_vault_is_pure, "eir/core/x.py", "np.memmap('file')"),
    (no_leave_is_unused, "eir/core/jit.py", "import os"),
    (functions_end, "bench/x.py", "def f():\n" + "    g()\n" * LONGEST_FUNCTION),
    (
        functions_fit_a_screen,
        "eir/x.py",
        ("async def f():\n" + "    g()\n" * WANTED_FUNCTION) * (FUNCTIONS_OVER_WANTED + 1),
    ),
    (files_hold_one_idea, "tests/x.py", "1\n" * (WANTED_FILE + 1)),
    (modules_say_what_they_hold, "tests/x.py", "x = 1"),
    (bugs_surface, "eir/serve/x.py", "try: f()\nexcept (OSError, Exception): g()"),
    (bugs_surface, "eir/doors/x.py", "try: f()\nexcept: g()"),
    (codes_are_literals, "eir/x.py", "raise errors.Refused(f'{x}-bad', 'no')"),
    (codes_are_literals, "eir/x.py", "raise Refused('Bad_Code', 'no')"),
    (codes_are_explained, "eir/x.py", "raise Refused('a' if x else 'b', 'no')"),
    (codes_are_explained, "docs/reasons.md", "## Refusals\n\n| `gone` | No more. |\n"),
    (names_say_what_a_thing_is, "eir/core/imei_utils.py", ""),
    (names_say_what_a_thing_is, "eir/x.py", "class IMEIDataHolder: pass"),
    (nothing_prints, "eir/ops/x.py", "print('x')"),
    (silenced_checks_say_which, "eir/x.py", "x = 1  # type: ignore"),
    (silenced_checks_say_which, "eir/x.py", "x = 1  # noqa"),
    (nothing_names_a_machine, "docs/x.md", "It lives in `/home/me/eir`."),
    (nothing_is_left_to_do, "eir/x.py", "x = 1  # TODO: more"),
]
RULES = list(dict.fromkeys(rule for rule, _, _ in BREACHES))


@pytest.fixture(scope="module")
def house() -> House:
    return this_house()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Rule, house: House) -> None:
    complaints = list(rule(house))
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(("rule", "name", "text"), BREACHES)
def test_every_rule_sees_its_breach(rule: Rule, name: str, text: str) -> None:
    beside = {"eir/doors/b_door.py": "from eir.doors.a_door import Door"}
    around = beside if rule is no_door_knows_another else {}
    assert any(name.split("/")[0] in each for each in rule(house_of({name: text, **around})))
