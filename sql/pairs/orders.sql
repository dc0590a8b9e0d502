-- A worked example of two pairs that belong together: customers and their orders. What it shows:
--   * a foreign key in both formats: the parent's pair is registered, backfilled and put into
--     dualwrite first, the child's second;
--   * a composite key (customer_id, number);
--   * money: integer cents in V1, numeric in V2;
--   * a status: an enum in V1, text with one more value in V2;
--   * identity columns (generated always) in V1, whose sequences V2 shares, so that rows written
--     natively in either table never collide;
--   * generated columns, which no converter fills.
-- Apply it after crossfade's migrations; applying it again is harmless. To use it for tables that
-- exist, keep what begins at "V2 tables" and put your own names and columns in.

-- V1 tables: what a project may have today --------------------------------------------------------

do $$
begin
  if to_regtype('public.order_status') is null then
    create type public.order_status as enum ('new', 'paid', 'shipped', 'cancelled');
  end if;
end $$;

comment on type public.order_status is 'Where a V1 order stands.';

create table if not exists public.customers (
  id bigint generated always as identity primary key,
  user_id uuid default auth.uid(),
  full_name text not null,
  email text,
  created_at timestamptz not null default now()
);

create index if not exists customers_user_id_idx on public.customers (user_id);

comment on table public.customers is 'V1 customers: one email address in a column of its own.';

create table if not exists public.orders (
  customer_id bigint not null references public.customers on delete cascade,
  number bigint generated always as identity,
  status public.order_status not null default 'new',
  total_cents bigint not null,
  discount_cents bigint not null default 0,
  due_cents bigint generated always as (total_cents - discount_cents) stored,
  note text,
  placed_at timestamptz not null default now(),
  primary key (customer_id, number),
  -- The largest amount that both formats can hold.
  constraint total_fits_v2 check (total_cents between 0 and 9999999999999999),
  constraint discount_is_within_total check (discount_cents between 0 and total_cents)
);

comment on table public.orders is 'V1 orders: amounts in cents, status as an enum.';

-- V2 tables ---------------------------------------------------------------------------------------

create table if not exists public.customers_v2 (
  -- The sequence behind V1's identity column: pg_get_serial_sequence('public.customers', 'id').
  -- Before V1 is dropped one day, make this an identity column that goes on from its last value.
  id bigint primary key default nextval('public.customers_id_seq'),
  owner_id uuid default auth.uid(),
  name text not null,
  contact jsonb not null default '{}',
  locale text,
  created_at timestamptz not null default now(),
  constraint contact_is_an_object check (jsonb_typeof(contact) = 'object'),
  -- Whatever V1's column cannot hold must be refused here, or a row could not be shown to V1.
  constraint email_is_a_string check (
    coalesce(jsonb_typeof(contact -> 'email'), 'string') = 'string'
  )
);

create index if not exists customers_v2_owner_id_idx on public.customers_v2 (owner_id);

comment on table public.customers_v2 is 'V2 customers: contact holds the email address and any other way to reach them.';

create table if not exists public.orders_v2 (
  -- Deferrable, so that an application which defers V1's key and writes the child first can do so
  -- here as well; not initially deferred, because then a mirrored row could fail at COMMIT. On a
  -- large table add it NOT VALID and validate it when the backfill has finished.
  customer_id bigint not null references public.customers_v2 on delete cascade deferrable,
  number bigint not null default nextval('public.orders_number_seq'),
  status text not null default 'new',
  total numeric(16, 2) not null,
  discount numeric(16, 2) not null default 0,
  due numeric(16, 2) generated always as (total - discount) stored,
  shipping jsonb not null default '{}',
  note text,
  placed_at timestamptz not null default now(),
  primary key (customer_id, number),
  constraint status_is_known check (status in ('new', 'paid', 'shipped', 'cancelled', 'refunded')),
  -- The upper bound also keeps out NaN, which numeric allows and cents do not.
  constraint total_fits_v1 check (total between 0 and 99999999999999.99),
  constraint discount_is_within_total check (discount between 0 and total),
  constraint shipping_is_an_object check (jsonb_typeof(shipping) = 'object')
);

comment on table public.orders_v2 is 'V2 orders: amounts as numbers with two decimals, status as text.';
comment on column public.orders_v2.status is 'refunded is new: V1 shows it as cancelled.';

-- Converters --------------------------------------------------------------------------------------

-- sqruff does not know that parameters are no tables.
-- noqa: disable=RF01

-- Standard SQL bodies (begin atomic): PostgreSQL binds every name in them when they are made, so no
-- search_path can change what they mean. The search_path is their only setting: the advisors
-- ask for it (lint 0011), and the engine then puts their text into its statements.
-- Column order is the table's; a generated column gets null and is computed by its table.

create or replace function public.customers_to_v2(
  new_v1 public.customers, old_v2 public.customers_v2
)
returns setof public.customers_v2
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
  select
    new_v1.id, new_v1.user_id, new_v1.full_name,
    coalesce(old_v2.contact, '{}') - 'email'
      || case when new_v1.email is null then '{}'::jsonb
        else jsonb_build_object('email', new_v1.email) end,
    old_v2.locale, new_v1.created_at;
end;

comment on function public.customers_to_v2 is 'The V2 row for a V1 customer; other contacts and the locale come from the stored V2 row. Never raises.';

create or replace function public.customers_to_v1(
  new_v2 public.customers_v2, old_v1 public.customers
)
returns setof public.customers
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
  select new_v2.id, new_v2.owner_id, new_v2.name, new_v2.contact ->> 'email', new_v2.created_at;
end;

comment on function public.customers_to_v1 is 'The V1 row that shows a V2 customer. Never raises.';

create or replace function public.orders_to_v2(new_v1 public.orders, old_v2 public.orders_v2)
returns setof public.orders_v2
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
  select
    new_v1.customer_id, new_v1.number,
    -- A status that V1 shows unchanged keeps what V2 knows better.
    case
      when old_v2.status = 'refunded' and new_v1.status = 'cancelled' then 'refunded'
      else new_v1.status::text
    end,
    -- Multiplied and not divided: exact for every amount.
    new_v1.total_cents * 0.01, new_v1.discount_cents * 0.01, null::numeric,
    coalesce(old_v2.shipping, '{}'), new_v1.note, new_v1.placed_at;
end;

comment on function public.orders_to_v2 is 'The V2 row for a V1 order; shipping and the status refunded come from the stored V2 row. Never raises.';

create or replace function public.orders_to_v1(new_v2 public.orders_v2, old_v1 public.orders)
returns setof public.orders
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
  select
    new_v2.customer_id, new_v2.number,
    case new_v2.status when 'refunded' then 'cancelled' else new_v2.status end::public.order_status,
    (new_v2.total * 100)::bigint, (new_v2.discount * 100)::bigint, null::bigint,
    new_v2.note, new_v2.placed_at;
end;

comment on function public.orders_to_v1 is 'The V1 row that shows a V2 order. Never raises: the constraints of V2 keep out what V1 cannot hold.';

-- noqa: enable=RF01

-- Rights: the same rows are visible in both formats -----------------------------------------------

alter table public.customers enable row level security;
alter table public.customers_v2 enable row level security;
alter table public.orders enable row level security;
alter table public.orders_v2 enable row level security;

drop policy if exists "Customers see and write their own row" on public.customers;
create policy "Customers see and write their own row" on public.customers to authenticated
using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

drop policy if exists "Customers see and write their own row" on public.customers_v2;
create policy "Customers see and write their own row" on public.customers_v2 to authenticated
using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

drop policy if exists "Customers see and write their own orders" on public.orders;
create policy "Customers see and write their own orders" on public.orders to authenticated
using (customer_id in (select c.id from public.customers c where c.user_id = (select auth.uid())))
with check (
  customer_id in (select c.id from public.customers c where c.user_id = (select auth.uid()))
);

drop policy if exists "Customers see and write their own orders" on public.orders_v2;
create policy "Customers see and write their own orders" on public.orders_v2 to authenticated
using (
  customer_id in (select c.id from public.customers_v2 c where c.owner_id = (select auth.uid()))
)
with check (
  customer_id in (select c.id from public.customers_v2 c where c.owner_id = (select auth.uid()))
);

revoke all on public.customers, public.customers_v2, public.orders, public.orders_v2
from anon, authenticated, service_role;
grant select, insert, update, delete
on public.customers, public.customers_v2, public.orders, public.orders_v2
to authenticated, service_role;
revoke all on sequence public.customers_id_seq, public.orders_number_seq from anon;
grant usage on sequence public.customers_id_seq, public.orders_number_seq
to authenticated, service_role;

-- The mirror runs converters as its owner and batches run them as service_role; nobody else calls
-- them, and without this the Data API would offer them to everybody.
revoke execute on function
public.customers_to_v2, public.customers_to_v1, public.orders_to_v2, public.orders_to_v1
from public, anon, authenticated;
grant execute on function
public.customers_to_v2, public.customers_to_v1, public.orders_to_v2, public.orders_to_v1
to service_role;

-- Order matters: parents first, here and at every stage. The other way round a mirrored order would
-- find no mirrored customer, and every such write would be recorded as a failure.
select crossfade.register_pair('customers', 'public.customers', 'public.customers_v2',
  'public.customers_to_v2', 'public.customers_to_v1');
select crossfade.register_pair('orders', 'public.orders', 'public.orders_v2',
  'public.orders_to_v2', 'public.orders_to_v1');
