-- The control row, whose counter grows with every change, and the record of who changed what.

create table if not exists crossfade.control (
  singleton boolean primary key default true,
  flags_version bigint not null default 1,
  schema_version integer not null default 2,
  release text not null default '',
  constraint control_has_one_row check (singleton)
);

insert into crossfade.control default values on conflict do nothing;

comment on table crossfade.control is
  'One row. flags_version grows with every change to settings, flags, cohorts, kill switches and pairs, and travels on every answer.';
comment on column crossfade.control.schema_version is
  'What the control plane checks before it works. A release raises it when older commands cannot change things any more.';
comment on column crossfade.control.release is
  'The release that was installed last.';

create table if not exists crossfade.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  actor_id text,
  action text not null,
  object text not null,
  reason text,
  before jsonb,
  after jsonb,
  flags_version bigint not null
);

create index if not exists audit_at_idx on crossfade.audit (at desc);

comment on table crossfade.audit is
  'Append-only: who changed what, when, why, with the row before and after. reason is null when the change was made by hand without one.';
comment on column crossfade.audit.actor_id is
  'User id (claim sub) of the signed-in person; null for the secret key and direct connections.';
