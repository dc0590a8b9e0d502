"""Tables of the embedded stack's Data API, driven by supabase-py."""

import uuid

import httpx
import psycopg
import pytest
from postgrest import CountMethod
from supabase import Client, PostgrestAPIError

from crossfade.local import LocalStack, StackInfo

from .api_calls import run, sign_up


@pytest.fixture(scope="module")
def info(plain_stack: LocalStack) -> StackInfo:
    return plain_stack.info


@pytest.fixture
def user(anonymous: Client) -> Client:
    sign_up(anonymous)
    return anonymous


def test_a_row_comes_back_as_it_was_written(service: Client) -> None:
    row = {
        "name": "é ✓",
        "data": {"nested": [1, 2.5, None, {"a": "b"}]},
        "tags": ["a", "b c", 'd"e'],
        "amount": 25.125,
        "big": 2**53 - 1,
    }
    written = run(service.table("items").insert(row))[0]
    read = run(service.table("items").select("*").eq("id", written["id"]).single())
    assert {name: read[name] for name in row} == row
    assert read["created_at"][10] == "T"
    assert read["created_at"].endswith("+00:00")


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("n=gt.2", ["c", "d,e"]),
        ("n=not.gt.2", ["a", "b"]),
        ("n=gte.2&n=lt.4", ["b", "c"]),
        ("name=like.*,*", ["d,e"]),
        ('name=in.(a,"d,e","x\\"y")', ["a", "d,e"]),
        ("name=in.()", []),
        ("n=is.null", ["z"]),
        ("n=not.is.null&order=n.desc&limit=2", ["d,e", "c"]),
        ("order=n.asc.nullsfirst&limit=1&offset=1", ["a"]),
        ("or=(n.eq.1,and(n.gt.2,name.neq.c))", ["a", "d,e"]),
        ('or=(name.eq."d,e",n.is.null)', ["d,e", "z"]),
        ("not.or=(n.lt.3,n.is.null)", ["c", "d,e"]),
        ("or=(n.not.in.(1,2,3),not.and(n.gte.2,n.lte.4))", ["a", "d,e"]),
        ("flag=eq.true", ["a"]),
        ("data->>k=eq.v", ["b"]),
        ("select=name,n::text&n=eq.1", ["a"]),
    ],
)
def test_filters_order_and_range(
    info: StackInfo, http: httpx.Client, filtered: str, filters: str, names: list[str]
) -> None:
    order = "" if "order=" in filters else "&order=n"
    answer = http.get(
        f"{info.api_url}/rest/v1/{filtered}?{filters}{order}", headers={"apikey": info.secret_key}
    )
    assert answer.status_code == 200, answer.text
    assert [row["name"] for row in answer.json()] == names


@pytest.fixture(scope="module")
def filtered(plain_stack: LocalStack) -> str:
    """Give the name of a table with a few rows to be filtered."""
    with psycopg.connect(plain_stack.info.db_url) as connection:
        connection.execute(
            """
            create table public.filtered (n int, name text, flag boolean, data jsonb);
            grant select on public.filtered to service_role;
            insert into public.filtered values
              (1, 'a', true, null), (2, 'b', false, '{"k": "v"}'), (3, 'c', false, null),
              (4, 'd,e', null, null), (null, 'z', false, null);
            """
        )
    plain_stack.restart_api()
    return "filtered"


def test_single_row_and_count(service: Client, filtered: str) -> None:
    assert run(service.table(filtered).select("n").eq("name", "a").single()) == {"n": 1}
    with pytest.raises(PostgrestAPIError) as refused:
        run(service.table(filtered).select("n").single())
    assert (refused.value.code, refused.value.details) == ("PGRST116", "The result contains 5 rows")
    page = service.table(filtered).select("n", count=CountMethod.exact).limit(2).execute()
    assert (len(page.data), page.count) == (2, 5)


def test_a_change_that_must_touch_one_row_is_undone_when_it_touches_more(
    info: StackInfo, http: httpx.Client, service: Client
) -> None:
    tag = str(uuid.uuid4())
    run(service.table("items").insert([{"name": tag}, {"name": tag}]))
    answer = http.patch(
        f"{info.api_url}/rest/v1/items?name=eq.{tag}",
        headers={
            "apikey": info.secret_key,
            "accept": "application/vnd.pgrst.object+json",
            "prefer": "return=representation",
        },
        json={"data": 1},
    )
    assert answer.status_code == 406
    rows = run(service.table("items").select("data").eq("name", tag))
    assert [row["data"] for row in rows] == [None, None]


def test_json_and_numbers_of_rows_stay_exact(info: StackInfo, http: httpx.Client) -> None:
    body = '{"name": "exact", "data": {"n": 12345678901234567890.10}, "big": 9007199254740993}'
    headers = {
        "apikey": info.secret_key,
        "prefer": "return=representation",
        "content-type": "application/json",
    }
    answer = http.post(f"{info.api_url}/rest/v1/items", headers=headers, content=body)
    assert answer.status_code == 201, answer.text
    assert '{"n": 12345678901234567890.10}' in answer.text
    assert '"big":9007199254740993' in answer.text
    url = f"{info.api_url}/rest/v1/items?or=(name.eq.exact,name.eq.none)"
    assert "12345678901234567890.10" in http.get(url, headers=headers).text


def test_update_upsert_count_and_delete(service: Client) -> None:
    key = str(uuid.uuid4())
    service.table("items").upsert({"id": key, "name": "first"}).execute()
    service.table("items").upsert({"id": key, "name": "second"}).execute()
    changed = run(service.table("items").update({"data": [1]}).eq("id", key))
    assert [(row["name"], row["data"]) for row in changed] == [("second", [1])]
    assert (
        service.table("items").select("*", count=CountMethod.exact).eq("id", key).execute().count
        == 1
    )
    assert len(run(service.table("items").delete().eq("id", key))) == 1


def test_numeric_columns_are_numbers(service: Client) -> None:
    row = run(service.table("items").insert({"name": "n", "amount": 25}))[0]
    assert row["amount"] == 25
    assert isinstance(row["amount"], int | float)


def test_row_level_security_sees_the_user(user: Client, service: Client) -> None:
    me = user.auth.get_user()
    assert me is not None
    user.table("items").insert({"name": "mine", "owner": me.user.id}).execute()
    service.table("items").insert({"name": "foreign"}).execute()
    assert [row["name"] for row in run(user.table("items").select("name"))] == ["mine"]
    with pytest.raises(PostgrestAPIError) as refused:
        user.table("items").insert({"name": "forged"}).execute()
    assert refused.value.code == "42501"


def test_no_grant_is_401_for_anonymous_callers(anonymous: Client) -> None:
    with pytest.raises(PostgrestAPIError) as refused:
        anonymous.table("items").select("*").execute()
    assert refused.value.code == "42501"


def test_the_schema_cache_follows_ddl(plain_stack: LocalStack, service: Client) -> None:
    with psycopg.connect(plain_stack.info.db_url) as connection:
        connection.execute("create table crossfade.fresh (id int primary key)")
        connection.execute("grant all on crossfade.fresh to service_role")
    plain_stack.restart_api()
    service.schema("crossfade").table("fresh").insert({"id": 1}).execute()
    assert run(service.schema("crossfade").table("fresh").select("*")) == [{"id": 1}]


def test_requests_survive_changes_of_the_schema(info: StackInfo, service: Client) -> None:
    query = service.table("items").select("*").limit(1)
    run(query)
    with psycopg.connect(info.db_url, autocommit=True) as connection:
        for number in range(5):
            # The prepared statement's rows change their shape before any cache can know.
            connection.execute(f"alter table public.items add column extra_{number} int".encode())
            run(query)
            connection.execute(f"alter table public.items drop column extra_{number}".encode())
            run(query)


def test_an_unexposed_schema_is_refused(service: Client) -> None:
    with pytest.raises(PostgrestAPIError) as refused:
        service.schema("auth").table("users").select("*").execute()
    assert refused.value.code == "PGRST106"
