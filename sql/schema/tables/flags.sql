-- Feature flags, and how often each was answered with what, counted by minute.

create table if not exists crossfade.flags (
  name text primary key,
  description text not null default '',
  enabled boolean not null default false,
  percentage numeric(6, 3),
  default_value boolean not null default false,
  cohort_key text not null,
  allow_user_ids text[] not null default '{}',
  allow_agent_ids text[] not null default '{}',
  deny_user_ids text[] not null default '{}',
  deny_agent_ids text[] not null default '{}',
  prerequisites text[] not null default '{}',
  killed_by text[] not null default '{}',
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default 'crossfade',
  constraint name_is_short_and_visible check (name ~ '^[^[:space:][:cntrl:]]{1,100}$'),
  constraint percentage_is_0_to_100 check (percentage between 0 and 100)
);

comment on table crossfade.flags is
  'Features of backend 2. The first rule that applies decides: kill switch, enabled, prerequisites, deny, allow, percentage, default_value. A hand edit is audited, versioned and broadcast like set_flag.';
comment on column crossfade.flags.percentage is
  'Share of the units that get the feature, 0 to 100 with three decimals; null = no share, default_value decides.';
comment on column crossfade.flags.cohort_key is
  'Flags with the same key and percentage include the same units. Changing it draws all units anew.';
comment on column crossfade.flags.prerequisites is
  'Flags that must be on for the same unit; they exist and have no prerequisites themselves.';
comment on column crossfade.flags.killed_by is
  'Kill switches that turn the flag off; an unknown name does nothing.';

-- Before the triggers: an installation is not eleven changes. An existing row is left alone.
insert into crossfade.flags (name, enabled, percentage, cohort_key, killed_by, description)
select v.name, v.is_on, case when v.is_on then 100 else 0 end, v.name, v.killed_by, v.description
from (
  values
  ('use_advanced_messages', true, array['disable_v2_messages'],
    'Backend 2 may store and serve messages made of typed blocks'),
  ('enable_memory_system', false, array['disable_memory_system'],
    'Remember facts between conversations'),
  ('enable_state_management', false, array['disable_state_management'],
    'Keep the state of a conversation'),
  ('use_new_tool_framework', false, array['disable_new_tools'], 'Call tools in the new format'),
  ('enable_streaming_responses', false, array[]::text[], 'Send an answer while it is being made'),
  ('maintain_dual_write', true, array[]::text[],
    'Write to V2 what only V2 can hold while backend 1 serves'),
  ('auto_migrate_messages', true, array[]::text[], 'Copy an old message to V2 when it is read'),
  ('enable_compatibility_mode', true, array[]::text[], 'Accept and answer the V1 wire format'),
  ('enable_caching', false, array[]::text[], 'Give an answer of the model again'),
  ('enable_parallel_tools', false, array[]::text[], 'Run independent tool calls at once'),
  ('enable_context_compression', false, array[]::text[],
    'Shorten a long conversation for the model')
) as v (name, is_on, killed_by, description)
on conflict (name) do nothing;

create table if not exists crossfade.flag_exposures (
  flag text not null,
  minute timestamptz not null,
  variant text not null,
  reason text not null,
  exposures bigint not null,
  -- The minute first: what is charted and what is purged are both ranges of minutes.
  primary key (minute, flag, variant, reason),
  constraint variant_is_on_or_off check (variant in ('on', 'off')),
  constraint reason_is_known check (
    reason in ('STATIC', 'DEFAULT', 'TARGETING_MATCH', 'SPLIT', 'DISABLED', 'STALE', 'ERROR')
  )
)
-- Counters are updated in place: free space in a page keeps them off the index.
with (fillfactor = 70);

comment on table crossfade.flag_exposures is
  'Feature adoption: answers of flags counted by minute, variant (on, off) and reason; filled by record_exposures(batch jsonb). Only flags that exist, so at most 14 rows a flag and minute; rows older than setting exposures_keep_days go with later batches. No foreign key: counts outlive their flag.';
