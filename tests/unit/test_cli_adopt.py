"""The commands of adopting: install, upgrade, uninstall, pair new, plan."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.builders import project
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.cli.session import Session
from crossfade.pairs.catalog import (
    CarryPlan,
    Column,
    Constraint,
    Dependent,
    HandedOver,
    Handover,
    Measured,
    MigrationStep,
    OwnerFile,
    OwnerStep,
    PairPlan,
    PlanSql,
    Policy,
    RelabelPlan,
    TableInfo,
    Trigger,
)
from crossfade.pairs.model import ConversionCheck, Judged, Violation
from crossfade.testing import FakeGateway

TABLE = TableInfo(
    "public.orders",
    name="orders",
    key=("id",),
    columns=(Column("id", "bigint", "bigint", not_null=True), Column("note", "text", "text")),
    sample=({"id": 1, "note": "Anna 1"},),
)
PLAN = PairPlan(
    "notes",
    "off",
    tables=(
        replace(
            TABLE,
            rows=120_000,
            bytes=2**20,
            triggers=(Trigger("Shout", "create trigger ..."),),
            policies=(Policy("own rows", "r"),),
            constraints=(Constraint("orders_fk", "f", "foreign key (a)"),),
            publications=("live",),
        ),
        replace(TABLE, table="public.orders_v2", analyzed=False),
    ),
    dependents=(
        Dependent("view", "public.report", "ann", "shows old rows", "select pg_get_viewdef(...);"),
        Dependent("foreign key", "f of public.child", "ann", "cannot point", "alter ...", True),
    ),
    oldest_transaction_s=75,
    measured=Measured(2000, 100.0, 20_000.0),
    steps=(
        MigrationStep(
            "complete", "crossfade stage set", "V1 becomes an archive", "SHARE", "briefly"
        ),
    ),
    sql=PlanSql("insert into x", ("create trigger t",), ("create function f",)),
)


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "supabase").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*command: str, fake: FakeGateway | None = None) -> Result:
    return CliRunner().invoke(app, list(command), obj=Session(opened=fake or project()))


def files(folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def test_a_check_for_ci_writes_nothing_and_fails_until_all_is_there(theirs: Path) -> None:
    assert run("install", "--check").exit_code == 3
    assert files(theirs) == []
    assert run("install", "--yes", "--edit-config").exit_code == 0
    assert run("install", "--check").exit_code == 0
    edited = theirs / "supabase/functions/_shared/crossfade/flags/bucket.ts"
    edited.write_text(edited.read_text() + "// mine\n")
    kept = run("install", "--check")
    assert (kept.exit_code, "bucket.ts: it was edited" in kept.stderr) == (0, True)
    assert "+// mine" in run("install", "--diff").stdout
    next(theirs.glob("supabase/migrations/*_crossfade_*.sql")).write_text("-- mine")
    assert run("install", "--check").exit_code == 3


def test_installing_asks_first_and_says_what_is_left(theirs: Path) -> None:
    assert run("install").exit_code == 2
    assert run("install", "--dry-run", "--json").exit_code == 0
    assert files(theirs) == []
    done = run("install", "--yes", "--json")
    report = json.loads(done.stdout)
    assert report["written"] == report["planned"] != []
    assert any("schemas = [" in line for line in report["todo"])
    assert "upgrade" not in done.stderr
    assert "from crossfade" in run("upgrade", "--yes").stderr


def test_uninstalling_asks_first(theirs: Path) -> None:
    run("install", "--yes")
    before = files(theirs)
    assert run("uninstall").exit_code == 2
    assert run("uninstall", "--dry-run").exit_code == 0
    assert files(theirs) == before
    done = run("uninstall", "--yes", "--json")
    assert json.loads(done.stdout)["migration"].endswith("_crossfade_uninstall.sql")
    assert "supabase db push" in done.stderr


def test_a_new_pair_is_written_after_it_was_shown(theirs: Path) -> None:
    fake = project()
    fake.tables["public.orders"] = TABLE
    command = ("pair", "new", "orders", "--v1", "public.orders")
    assert run(*command, fake=fake).exit_code == 2
    assert files(theirs) == []
    done = run(*command, "--yes", "--json", fake=fake)
    assert sorted(json.loads(done.stdout)["written"]) == files(theirs)
    assert "make public.orders_v2" in done.stderr
    samples = (theirs / "supabase/functions/_shared/orders/samples.json").read_text()
    assert ("Xxxx 0" in samples, "Anna" in samples) == (True, False)
    assert "has a file already" in run(*command, "--yes", fake=fake).stderr


def test_sample_values_are_kept_when_told(theirs: Path) -> None:
    fake = project()
    fake.tables["public.orders"] = TABLE
    run("pair", "new", "o", "--v1", "public.orders", "--keep-values", "--yes", fake=fake)
    assert "Anna 1" in (theirs / "supabase/functions/_shared/o/samples.json").read_text()


def test_a_plan_says_what_is_in_the_way_and_how_long_it_takes() -> None:
    fake = project()
    fake.plans["notes"] = PLAN
    text = run("plan", "notes", fake=fake).stdout
    for part in (
        "trigger Shout runs for mirrored rows too",
        "policy own rows decides",
        "orders_fk, foreign key (a)",
        "publication live",
        "  view public.report (owner ann) shows old rows; select pg_get_viewdef(...);\n",
        "  foreign key f of public.child (owner ann) cannot point; ignored\n",
        "open for 75 s",
        "unknown: run analyze",
        "at 20000 rows/s, so all take about 6 s and up to 24 s",
        "complete means: V1 becomes an archive",
    ):
        assert part in text
    assert run("plan", "notes", "--sql", fake=fake).stdout == (
        "insert into x;\n\ncreate trigger t;\n\ncreate function f;\n"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"problems": ("V1 has no key",)}, "Problem: V1 has no key"),
        ({"measured": Measured(error="22P02: no")}, "to_v2 fails on a row: 22P02: no"),
        ({"measured": Measured()}, "V1 has no rows yet"),
    ],
)
def test_a_plan_with_a_problem_is_unhealthy(change: dict[str, object], says: str) -> None:
    fake = project()
    fake.plans["notes"] = replace(PLAN, **change)  # type: ignore[arg-type]
    result = run("plan", "notes", fake=fake)
    assert says in result.stdout
    assert result.exit_code == (0 if says.startswith("V1 has no rows") else 3)


def test_a_pair_that_registration_would_refuse_is_not_written(theirs: Path) -> None:
    fake = project()
    fake.tables["public.orders"] = TABLE
    fake.judged["orders"] = Judged("orders", ("V1 has a bad key; run: x", "b"))
    done = run("pair", "new", "orders", "--v1", "public.orders", "--yes", fake=fake)
    assert done.exit_code == 2
    assert 'Cannot register pair "orders": V1 has a bad key; run: x; b' in done.stderr
    assert files(theirs) == []
    fake.judged["orders"] = Judged("orders", (), ("two sequences",))
    done = run("pair", "new", "orders", "--v1", "public.orders", "--yes", fake=fake)
    assert "Warning: two sequences" in done.stderr
    assert files(theirs) != []


def test_a_new_pair_with_both_tables_is_judged_with_the_keys_of_both(theirs: Path) -> None:
    fake = project()
    fake.tables["public.orders"] = TABLE
    fake.tables["public.o2"] = replace(TABLE, table="public.o2", name="o2", key=("note",))
    run("pair", "new", "orders", "--v1", "public.orders", "--v2", "public.o2", "--yes", fake=fake)
    assert ("orders", "public.orders", "public.o2", ("note",), ()) in fake.given
    assert files(theirs) != []


def test_a_check_says_first_what_registration_would_say() -> None:
    fake = project()
    fake.checks.extend([ConversionCheck(10), ConversionCheck(10)])
    fake.judged["notes"] = Judged("notes", ("a key is gone",), ("two sequences",))
    result = run("pair", "check", "notes", fake=fake)
    assert result.exit_code == 3
    assert result.stderr.startswith("Problem: a key is gone\nWarning: two sequences\n")
    fake.judged["notes"] = Judged("notes", (), ("two sequences",))
    assert run("pair", "check", "notes", fake=fake).exit_code == 0


def test_objects_are_ignored_by_name_and_taken_back_together() -> None:
    fake = project()
    names = ("public.report", "f of public.child")
    done = run("pair", "ignore", "notes", *names, "--reason", "x", "--yes", fake=fake)
    assert done.exit_code == 0
    assert fake.given[-1] == ("notes", names, "x")
    assert "Ignored for notes: public.report, f of public.child" in done.stderr
    done = run("pair", "ignore", "notes", "--none", "--reason", "x", "--yes", fake=fake)
    assert not fake.given[-1][1]
    assert "Ignored for notes: nothing" in done.stderr
    for wrong in (["--reason", "x"], ["a", "--none", "--reason", "x"], ["a"]):
        assert run("pair", "ignore", "notes", *wrong, "--yes", fake=fake).exit_code == 2


def test_a_check_explains_each_row_and_counts_the_rest() -> None:
    fake = project()
    broken = [Violation({"id": n}, 1, ("note",), None, {"note": "a"}, {"note": n}) for n in (1, 2)]
    fake.checks.append(ConversionCheck(200, tuple(broken * 60)))
    result = run("pair", "check", "notes", "--side", "1", fake=fake)
    assert result.exit_code == 3
    assert 'row {"id": 2} breaks law 1' in result.stdout
    assert '  note: stored "a", came back 2' in result.stdout
    assert result.stdout.endswith("... and 20 more\n")


# Handing over -------------------------------------------------------------------------------------

HANDOVER = Handover(
    "notes",
    "rampdown",
    "public.notes",
    "public.notes_v2",
    objects=(
        HandedOver("view", "public.shown", "shows old rows", "ann", is_repointed=True),
        HandedOver("view", "public.old", "shows old rows", "ann", is_ignored=True),
        HandedOver("view", "public.t", "shows old rows", "ann", reason="it reads", columns=("t",)),
    ),
    sql="select 1;\n",
    check_sql="select 2;\n",
)


def handing_over() -> FakeGateway:
    fake = project()
    fake.handovers["notes"] = HANDOVER
    return fake


def test_what_depends_on_v1_is_listed_with_what_becomes_of_it() -> None:
    lines = run("handover", "plan", "notes", fake=handing_over()).stdout.splitlines()
    assert [line.rsplit("  ", 1)[1] for line in lines] == [
        "IN THE SQL", "re-pointed", "no: ignored", "to decide: it reads (t)",
    ]  # fmt: skip
    assert run("handover", "plan", "notes").stdout == "Nothing depends on V1\n"
    shown = run("handover", "plan", "notes", "--sql", fake=handing_over()).stdout
    assert shown == "select 1;\n\nselect 2;\n"


def test_the_migrations_are_written_once_and_nothing_is_overwritten(theirs: Path) -> None:
    command = ("handover", "plan", "notes", "--project", ".")
    done = run(*command, "--json", fake=handing_over())
    written = files(theirs)
    assert json.loads(done.stdout)["written"] == written
    assert [name.split("_", 1)[1] for name in written] == [
        "handover_notes.sql", "handover_notes-check.sql",
    ]  # fmt: skip
    assert (theirs / written[1]).read_text() == "select 2;\n"
    again = run(*command, fake=handing_over())
    assert (again.exit_code, "nothing to do" in again.stderr) == (0, True)
    (theirs / written[1]).unlink()  # half of it was written
    assert json.loads(run(*command, "--json", fake=handing_over()).stdout)["written"] != []
    (theirs / written[0]).write_text("-- mine")
    refused = run(*command, fake=handing_over())
    assert (refused.exit_code, "is not what this plan writes" in refused.stderr) == (2, True)
    assert (theirs / written[0]).read_text() == "-- mine"
    assert len(files(theirs)) == 2


def test_one_file_for_psql_is_never_overwritten_either(theirs: Path) -> None:
    command = ("handover", "plan", "notes", "--out", "over.sql")
    assert run(*command, fake=handing_over()).exit_code == 0
    assert (theirs / "over.sql").read_text() == "select 1;\n\nselect 2;\n"
    assert "nothing to do" in run(*command, fake=handing_over()).stderr
    (theirs / "over.sql").write_text("mine")
    refused = run(*command, fake=handing_over())
    assert (refused.exit_code, "holds something else" in refused.stderr) == (2, True)
    assert run(*command[:-1], "no/where.sql", fake=handing_over()).exit_code == 2
    assert run(*command, "--project", ".", fake=handing_over()).exit_code == 2
    assert files(theirs) == ["over.sql"]


# Carrying a key ----------------------------------------------------------------------------------


def carrying(done: int, **more: object) -> CarryPlan:
    """A plan of which so many steps are done."""
    names = ("column", "fill", "index", "not_null")
    states = (*["done"] * done, "next", *["waiting"] * 4)
    steps = tuple(
        OwnerStep(name, state, "does", "LOCK", "held")
        for name, state in zip(names, states, strict=False)
    )
    waiting = {0: ("column",), 2: ("index", "check", "validate", "not_null"), 3: ("not_null",)}
    due = tuple(OwnerFile(f"carry_notes_uid-{n}", f"-- {n}\n") for n in waiting.get(done, ()))
    plan = CarryPlan("public.notes", "uid", key=("id",), steps=steps, files=due)
    return replace(plan, **more)  # type: ignore[arg-type]


def carrying_fake(*plans: CarryPlan) -> FakeGateway:
    fake = project()
    fake.carries.extend(plans)
    return fake


def test_each_step_of_carrying_a_key_says_what_is_next(theirs: Path) -> None:
    to_do = [
        "crossfade key carry public.notes --project DIR, then supabase db push",
        "crossfade key carry public.notes --yes",
        "crossfade key carry public.notes --project DIR, then supabase db push",
        "crossfade key carry public.notes --project DIR, then supabase db push",
        "crossfade pair new notes --v1 public.notes --key uid",
    ]
    for done, text in enumerate(to_do):
        result = run("key", "carry", "notes", fake=carrying_fake(carrying(done)))
        assert result.exit_code == 0
        assert result.stderr.splitlines()[-1] == f"  to do: {text}"
        assert result.stdout.count(" done ") == done
    broken = replace(carrying(2).steps[2], state="broken", detail="run: drop index x")
    found = run("key", "carry", "notes",
                fake=carrying_fake(carrying(2, steps=(broken,), files=())))  # fmt: skip
    assert "index: run: drop index x" in found.stderr
    assert "remove the broken index" in found.stderr
    paired = run("key", "carry", "notes", fake=carrying_fake(carrying(4, pair="notes")))
    assert "belongs to pair notes" in paired.stderr
    assert files(theirs) == []


def test_what_is_due_is_written_and_the_fill_runs_only_with_yes(theirs: Path) -> None:
    command = ("key", "carry", "notes", "--project", ".")
    assert run(*command, fake=carrying_fake(carrying(0))).exit_code == 0
    (column,) = files(theirs)
    (theirs / column).write_text("-- edited: a trigger has a condition now")
    again = run(*command, fake=carrying_fake(carrying(0)))
    assert (again.exit_code, "nothing to do" in again.stderr) == (0, True)
    only_shown = carrying_fake(carrying(1))
    run(*command, fake=only_shown)
    assert "carry_batch" not in only_shown.calls
    fake = carrying_fake(carrying(1), carrying(2))
    filled = run(*command, "--yes", "--json", fake=fake)
    assert "carry_batch" in fake.calls
    assert [name.split("-")[1] for name in json.loads(filled.stdout)["written"]] == [
        "index.sql", "check.sql", "validate.sql", "not_null.sql",
    ]  # fmt: skip
    assert len(files(theirs)) == 5


def test_what_keeps_a_key_from_being_carried_is_told(theirs: Path) -> None:
    refused = carrying(0, problems=("table public.notes is partitioned",), steps=(), files=())
    result = run("key", "carry", "notes", "--project", ".", fake=carrying_fake(refused))
    assert (result.exit_code, files(theirs)) == (3, [])
    assert "Problem: table public.notes is partitioned" in result.stderr
    loud = run("key", "carry", "notes", fake=carrying_fake(carrying(1, triggers=("touch",))))
    assert "crossfade key carry public.notes --fire-triggers --yes" in loud.stderr
    sql = run("key", "carry", "notes", "--sql", fake=carrying_fake(carrying(2)))
    assert sql.stdout.splitlines()[0] == "-- index"


# Relabelling -------------------------------------------------------------------------------------


def relabelling(done: int, **more: object) -> FakeGateway:
    names = ("index", "check", "validate", "swap")
    states = (*["done"] * done, "next", *["waiting"] * 3)
    steps = tuple(
        OwnerStep(name, state, "does", "LOCK", "held")
        for name, state in zip(names, states, strict=False)
    )
    due = tuple(OwnerFile(f"relabel_events-{n}", f"-- {n}\n") for n in names[done:])
    plan = RelabelPlan("public.events", "at", "public.events_first", "public.events_rest",
                       steps=steps, files=due)  # fmt: skip
    fake = project()
    fake.relabels["events"] = replace(plan, **more)  # type: ignore[arg-type]
    return fake


def test_relabelling_writes_what_is_due_and_says_what_is_next(theirs: Path) -> None:
    command = ("relabel", "events", "--by", "at", "--to", "2027-03-01")
    again = "crossfade relabel public.events --by at --to 2027-03-01"
    shown = run(*command, fake=relabelling(0))
    assert shown.stderr.splitlines()[-1] == f"  to do: {again} --project DIR, then supabase db push"
    assert (shown.exit_code, files(theirs)) == (0, [])
    written = run(*command, "--project", ".", "--json", fake=relabelling(1))
    assert [name.split("-")[1] for name in json.loads(written.stdout)["written"]] == [
        "check.sql", "validate.sql", "swap.sql",
    ]  # fmt: skip
    assert written.stderr.splitlines()[-1] == f"  to do: supabase db push, then: {again}"
    # What was written for another bound is not taken for this one.
    other = relabelling(1, files=(OwnerFile("relabel_events-check", "-- another\n"),))
    differs = run(*command, "--project", ".", fake=other)
    assert (differs.exit_code, "is not what this plan writes" in differs.stderr) == (2, True)
    done = run(*command, fake=relabelling(4))
    assert "make the next partitions of public.events" in done.stderr
    sql = run(*command, "--sql", fake=relabelling(3))
    assert sql.stdout == "-- swap\n"
    broken = OwnerStep("index", "broken", "does", "LOCK", "held", "run: drop index x")
    found = run(*command, fake=relabelling(0, steps=(broken,), files=()))
    assert "remove the broken index (as printed), then" in found.stderr


def test_what_keeps_a_table_from_being_relabelled_is_told(theirs: Path) -> None:
    fake = relabelling(0, problems=("rule r of it",), notes=("a note",), steps=(), files=())
    result = run("relabel", "events", "--by", "at", "--project", ".", fake=fake)
    assert (result.exit_code, files(theirs)) == (3, [])
    assert "Problem: rule r of it" in result.stderr
    assert "  to do: change what is named, then: crossfade relabel public.events" in result.stderr
