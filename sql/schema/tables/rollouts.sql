-- Rollouts that follow a plan, and changes that wait for their time.

create table if not exists crossfade.rollouts (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  plan jsonb not null,
  state text not null default 'running',
  speed numeric not null default 1,
  reason text,
  approved text[] not null default '{}',
  started_at timestamptz not null default clock_timestamp(),
  started_by text not null default crossfade_private.actor(),
  changed_at timestamptz not null default clock_timestamp(),
  changed_by text not null default crossfade_private.actor(),
  extended_at timestamptz,
  finished_at timestamptz,
  constraint rollout_state_is_known check (
    state in ('running', 'held', 'rolled_back', 'aborted', 'finished')
  ),
  constraint speed_is_1_to_1000000 check (speed between 1 and 1000000)
);

create unique index if not exists rollouts_active_idx
  on crossfade.rollouts (pair) where state not in ('aborted', 'finished');
create index if not exists rollouts_pair_idx on crossfade.rollouts (pair, id desc);

comment on table crossfade.rollouts is
  'Plans under way and past ones; at most one active per pair. plan: {"name", "about", "steps": [{"name", "stage", "percentage", "flags", "min_s", "min_requests", "max_extension_s", "gates", "approval"}]}. approved: names of steps a person has approved. speed: how many times faster time runs, for rehearsals. reason: why it is held, rolled back or aborted.';
comment on column crossfade.rollouts.extended_at is
  'When somebody resumed it: the extension of the step counts from here. Null: from the step.';

create table if not exists crossfade.scheduled_changes (
  id bigint generated always as identity primary key,
  due_at timestamptz not null,
  changes jsonb not null,
  reason text not null,
  created_at timestamptz not null default clock_timestamp(),
  created_by text not null,
  state text not null default 'pending',
  done_at timestamptz,
  outcome jsonb,
  constraint state_is_known check (state in ('pending', 'applied', 'refused', 'cancelled'))
);

create index if not exists scheduled_changes_due_at_idx
  on crossfade.scheduled_changes (due_at) where state = 'pending';

comment on table crossfade.scheduled_changes is
  'Change sets that wait for their time, and what became of them. changes as apply_changes takes them; outcome: what was applied, or the error {"code", "message"} that refused it.';
