-- What the chat function keeps besides messages: facts a user asked to remember, the state of a
-- conversation, answers that may be given again, summaries of what no longer fits. Not a pair:
-- these tables have one version. Apply it after chat_messages.sql; applying it again is harmless.
-- Without it the function works and the features that need a table do nothing.

create table if not exists public.chat_memories (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null default auth.uid(),
  fact text not null,
  created_at timestamptz not null default now(),
  constraint fact_has_1_to_500_characters check (char_length(fact) between 1 and 500),
  constraint fact_is_known_once unique (user_id, fact)
);

comment on table public.chat_memories is
  'Facts that a user asked the assistant to remember; used in all of the user''s chats while flag enable_memory_system is on.';

create table if not exists public.chat_states (
  chat_id uuid primary key references public.chats on delete cascade,
  user_id uuid not null default auth.uid(),
  turn integer not null default 0,
  state jsonb not null default '{}',
  last_reply_id uuid,
  updated_at timestamptz not null default now(),
  constraint turn_is_not_negative check (turn >= 0),
  constraint state_is_an_object check (jsonb_typeof(state) = 'object')
);

create index if not exists chat_states_user_id_idx on public.chat_states (user_id);

comment on table public.chat_states is
  'State of a conversation: how many replies it had, and free keys; written while flag enable_state_management is on.';
comment on column public.chat_states.last_reply_id is
  'Reply that was counted last, so that a repeated request is not counted again; null before the first.';

create table if not exists public.chat_reply_cache (
  user_id uuid not null default auth.uid(),
  key text not null,
  completion jsonb not null,
  expires_at timestamptz not null,
  primary key (user_id, key),
  constraint completion_is_an_object check (jsonb_typeof(completion) = 'object')
);

comment on table public.chat_reply_cache is
  'Answers of the model by a hash of everything it was asked; per user, never shared. Used while flag enable_caching is on.';

create table if not exists public.chat_summaries (
  chat_id uuid primary key references public.chats on delete cascade,
  user_id uuid not null default auth.uid(),
  summary text not null,
  covered_to uuid not null,
  updated_at timestamptz not null default now()
);

create index if not exists chat_summaries_user_id_idx on public.chat_summaries (user_id);

comment on table public.chat_summaries is
  'What the model gets instead of the oldest messages of a long chat; written while flag enable_context_compression is on.';
comment on column public.chat_summaries.covered_to is
  'Newest message that the summary covers; no foreign key, because it may be deleted.';

-- Functions ---------------------------------------------------------------------------------------

create or replace function public.advance_chat_state(chat_id uuid, reply_id uuid, changes jsonb)
returns setof public.chat_states
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into public.chat_states as s (chat_id, turn, state, last_reply_id)
  values (advance_chat_state.chat_id, 1, changes, reply_id)
  on conflict on constraint chat_states_pkey do update
  set turn = case when s.last_reply_id = excluded.last_reply_id then s.turn else s.turn + 1 end,
    state = s.state || excluded.state,
    last_reply_id = excluded.last_reply_id,
    updated_at = clock_timestamp()
  returning s.*
$$;

comment on function public.advance_chat_state is
  'Count a reply of a chat and merge changes into its state; the same reply twice counts once. Rights of the caller.';

create or replace function public.search_chat_messages(
  query text, backend integer, max_rows integer default 5
)
returns table (id uuid, chat_id uuid, role text, content text, created_at timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select m.id, m.chat_id, m.role, m.content, m.created_at
  from (
    select v1.id, v1.chat_id, v1.role, v1.content, v1.created_at
    from public.chat_messages v1
    where backend = 1
    union all
    select v2.id, v2.chat_id, v2.role, b.content, v2.created_at
    from public.chat_messages_v2 v2
    cross join lateral (
      select string_agg(e.block ->> 'text', e'\n\n' order by e.n) as content
      from jsonb_array_elements(v2.content) with ordinality e(block, n)
      where e.block ->> 'type' = 'text') b
    where backend = 2
  ) m
  where strpos(lower(m.content), lower(query)) > 0
  order by m.created_at desc, m.id
  limit least(greatest(max_rows, 1), 50)
$$;

comment on function public.search_chat_messages is
  'The caller''s newest messages that contain a text, ignoring case, from the table of a backend (1 or 2); at most 50. Rights of the caller.';

-- Rights: everybody sees and writes what is their own, in chats that are their own ----------------

alter table public.chat_memories enable row level security;
alter table public.chat_states enable row level security;
alter table public.chat_reply_cache enable row level security;
alter table public.chat_summaries enable row level security;

do $$
declare
  v_own text := 'user_id = (select auth.uid())';
  v_chat text :=
    'chat_id in (select c.id from public.chats c where c.user_id = (select auth.uid()))';
  v_table text;
begin
  foreach v_table in array array['chat_memories', 'chat_reply_cache', 'chat_states',
    'chat_summaries'] loop
    execute format('drop policy if exists "Users see and write their own rows" on public.%I',
      v_table);
    execute format(
      'create policy "Users see and write their own rows" on public.%I to authenticated '
      'using (%2$s) with check (%2$s%3$s)', v_table, v_own,
      case when v_table in ('chat_states', 'chat_summaries') then ' and ' || v_chat else '' end);
  end loop;
end $$;

revoke all on public.chat_memories, public.chat_states, public.chat_reply_cache,
  public.chat_summaries from anon, authenticated, service_role;
grant select, insert, update, delete on public.chat_memories, public.chat_states,
  public.chat_reply_cache, public.chat_summaries to authenticated, service_role;
revoke execute on function public.advance_chat_state, public.search_chat_messages from public, anon;
grant execute on function public.advance_chat_state, public.search_chat_messages
  to authenticated, service_role;

-- Numbers an operator may change; a row that exists keeps what was chosen -------------------------

insert into crossfade.settings (name, value, unit, minimum, maximum, description)
values
  ('chat_context_budget_tokens', '2000', 'tokens', 100, null,
    'Longest conversation for the model under enable_context_compression; 4 characters a token'),
  ('chat_cache_ttl_s', '300', 's', 1, null,
    'Time that an answer may be given again while enable_caching is on'),
  ('chat_v1_deprecated_at', '""', 'date', null, null,
    'From when the V1 wire format is deprecated, such as 2026-12-31; empty for not'),
  ('chat_v1_sunset_at', '""', 'date', null, null,
    'When the V1 wire format ends; not before its deprecation; empty for unknown'),
  ('chat_v1_deprecation_link', '""', 'url', null, null,
    'Page that explains the end of the V1 wire format; empty for none')
on conflict (name) do nothing;
