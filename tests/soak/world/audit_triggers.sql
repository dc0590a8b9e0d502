-- An owner's audit: who changed which row, and whether a client, the owner's code or the engine
-- did.
create function soak.who_and_where(written jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_object_agg(name, written -> name)
  from unnest(array['owner_id', 'org', 'birth', 'id', 'space', 'card_id', 'room', 'item']) name
  where written ? name
$$;

create function soak.audit_row() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_context text;
  v_caller text;
  v_engine boolean;
  v_side integer := tg_argv[0];
  v_old jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_new jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
  get diagnostics v_context = pg_context;
  -- The first frame is this function; the next function is who wrote. No other frame: a client.
  -- Cut, because triggers may be nested without end. Behind the view is whoever writes it.
  v_caller := substring(left(v_context, 20000) from
    E'\n(?:PL/pgSQL|SQL) function "?(?!crossfade_private\\.view_notes_write)([a-z0-9_.]+)');
  v_engine := v_caller ~ '^crossfade(_private)?\.';
  insert into soak.audit (source, side, op, who, archived, old, new)
  values (
    case when v_engine then 'engine' when v_caller is null then 'client' else 'owner' end,
    v_side, left(tg_op, 1), soak.who(), soak.is_archive(v_side),
    case when v_engine then soak.who_and_where(v_old) else v_old end,
    case when v_engine then soak.who_and_where(v_new) else v_new end);
  return null;
end $$;

create function soak.audit_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_context text;
begin
  get diagnostics v_context = pg_context;
  if v_context ~ E'\n(?:PL/pgSQL|SQL) function "?crossfade' then
    return null;
  end if;
  execute format('insert into soak.audit (source, side, op, who, old)
    select ''client'', %s, ''D'', soak.who(), to_jsonb(t) from %I.%I t',
    tg_argv[0], tg_table_schema, tg_table_name);
  return null;
end $$;

-- The first by name, so that a nested write is written down after the one that made it.
create trigger a_audit after insert or update or delete on public.notes
for each row execute function soak.audit_row(1);
create trigger a_audit after insert or update or delete on public.cards
for each row execute function soak.audit_row(2);
create trigger a_audit_truncate before truncate on public.notes
for each statement execute function soak.audit_truncate(1);
create trigger a_audit_truncate before truncate on public.cards
for each statement execute function soak.audit_truncate(2);
